"""On a GPU: what decodes is what is said, is looked at on the way, and is let go of at the end of a script."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.machine import Machine, Way
from wdsremux.errors import BackendError
from wdsremux.loading.backends import canary

GPU_WAYS = pytest.mark.parametrize("way", [Way("dali", "gpu"), Way("torchvision", "gpu")], ids="-".join, indirect=True)


@GPU_WAYS
def test_every_picture_of_an_epoch_stands_up_to_the_cpus(
    machine: Machine, way: Way, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cropped, resized and flipped; and what decodes is named."""
    seen: list[float] = []
    real = canary.difference

    def noted(one: Any, other: Any) -> float:
        seen.append(real(one, other))
        return seen[-1]

    monkeypatch.setattr(canary, "PERIOD", 1)
    monkeypatch.setattr(canary, "difference", noted)
    deadline_s = time.monotonic() + 60
    with machine.loader(converted, way, 20, split="test") as loader:
        while len(seen) < 60 and time.monotonic() < deadline_s:  # they are compared behind the loader's work
            assert sum(len(images) for images, _ in loader) == 60
        assert (loader.stats().decoder or "").startswith("-".join(way).replace("-", ", "))
    assert len(seen) >= 60
    print(f"{'-'.join(way)}, on {machine.device}: at most {max(seen):.2f} of 255 from the CPU's")
    assert max(seen) < canary.FAR / 2


@GPU_WAYS
def test_a_decoder_that_turns_black_ends_the_run(
    machine: Machine, way: Way, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "PERIOD", 1)
    monkeypatch.setattr(canary.Canary, "look", _black(canary.Canary.look))
    with machine.loader(converted, way, 10) as loader, pytest.raises(BackendError, match="was decoded wrongly by"):
        for _ in loader:
            pass


def _black(look: Any) -> Any:
    """`Canary.look`, which is shown black pictures when the decoder has been tried."""

    def looked(self: canary.Canary, batch: Any, pixels: torch.Tensor) -> None:
        look(self, batch, pixels if batch.watch else torch.zeros_like(pixels))

    return looked


MADE = """
import os, torch, wdsremux
loader = wdsremux.DataLoader({out!r}, 20, size=64, backend={backend!r})
print(torch.cuda.is_initialized(), flush=True)
child = os.fork()
if child == 0:
    images, _ = next(iter(loader))
    print(images.device.type, flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
LEFT = """
import wdsremux
loaders = [wdsremux.DataLoader({out!r}, 20, size=64, backend={backend!r}, augment=kind) for kind in ("train", "eval")]
batches = [iter(loader) for loader in loaders]
for each in batches:
    next(each)
"""


@pytest.mark.gpu
@pytest.mark.parametrize(("script", "wanted"), [(MADE, ["False", "cuda"]), (LEFT, [])], ids=["forked", "left"])
def test_a_script(script: str, wanted: list[str], way: Way, converted: Path) -> None:
    """A loader that is made has not begun CUDA, so a child can; and two may be left in mid-epoch at the end."""
    code = script.format(out=str(converted), backend=way.backend)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == wanted
