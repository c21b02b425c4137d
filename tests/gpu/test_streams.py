"""Batches are whole whatever stream they are read on, and however much memory changes hands meanwhile.

nvJPEG's hardware decoder writes when it is called, not when its stream comes to it (pytorch/vision#9606,
meta-pytorch/torchcodec#1634): memory that queued work has yet to read can be overwritten. Whether it is shows only by
comparing pixels, over hundreds of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import needs
from tests.support.batches import read_batches
from tests.support.machine import Machine, Way, epochs
from wdsremux.loading.backends import GPU, Batch, Setup, find
from wdsremux.loading.backends.resample import joined, resample
from wdsremux.loading.device import Destination
from wdsremux.loading.output import Output

#: Pixels that depend on nothing but the sample; small batches, so that many are under way in little time.
PLAIN: dict[str, Any] = {"augment": None, "size": 64, "dtype": torch.uint8, "fields": ("image", "id")}
BATCH = 8
ROUNDING = 2  #: of 255: sums over batches of other widths are rounded otherwise
FAR = 2  #: of 255, a sample on average: what decoders may differ by


def reference(machine: Machine, way: Way, out: Path) -> torch.Tensor:
    """uint8 [300, 3, 64, 64] by id, on the device: made with nothing else going on, and as good as the CPU's."""
    found: dict[int, torch.Tensor] = {}
    with machine.loader(out, way, BATCH, tail="even", **PLAIN) as loader:
        for images, ids in loader:
            machine.wait()
            found |= dict(zip(ids.tolist(), images.clone(), strict=True))
            machine.wait()
    images = torch.stack([found[sample_id] for sample_id in range(len(found))])
    with Machine(torch.device("cpu")).loader(out, Way("torchvision", "cpu"), 50, tail="even", **PLAIN) as loader:
        for wanted, ids in loader:
            assert (images.cpu()[ids].float() - wanted.float()).abs().mean((1, 2, 3)).max() < FAR
    machine.wait()
    return images


def differences(machine: Machine, loader: Any, wanted: torch.Tensor, count: int) -> torch.Tensor:
    """The largest of each batch, read at once on a stream of the caller's that has more to do than it can keep up with.

    Nothing waits for the device: what a batch is compared by is queued, the batch let go of, its memory used again.
    """
    found = []
    with machine.stream():
        for number, (images, ids) in enumerate(epochs(loader, count)):
            if number % 4 == 0:
                machine.keep_busy()
            found.append((images.short() - wanted[ids.to(machine.device)].short()).abs().amax())
            del images
            machine.churn()
        result = torch.stack(found).cpu()
    machine.wait()
    return result


def test_read_at_once_on_another_stream_while_memory_changes_hands(machine: Machine, way: Way, converted: Path) -> None:
    wanted = reference(machine, way, converted)
    with machine.loader(converted, way, BATCH, **PLAIN) as loader:
        found = differences(machine, loader, wanted, machine.times(12, 1))
    assert len(found) == 37 * machine.times(12, 1)
    assert found.max() <= ROUNDING, f"batches {torch.nonzero(found > ROUNDING).flatten().tolist()} are not as decoded"


def test_two_loaders_in_two_threads(machine: Machine, way: Way, converted: Path) -> None:
    """Each on a stream of its own, for the same decoder."""
    wanted = reference(machine, way, converted)

    def run(seed: int) -> torch.Tensor:
        with machine.loader(converted, way, BATCH, seed=seed, **PLAIN) as loader:
            return differences(machine, loader, wanted, machine.times(6, 1))

    with ThreadPoolExecutor(2) as threads:
        found = torch.cat(list(threads.map(run, (1, 2))))
    assert found.max() <= ROUNDING


@pytest.mark.parametrize("stage", [joined, resample], ids=["joined", "resampled"])
def test_one_batch_is_not_decoded_into_what_is_still_to_be_read(
    machine: Machine, converted: Path, monkeypatch: pytest.MonkeyPatch, stage: Callable[..., Any]
) -> None:
    """What comes after TorchCodec is held back, so that it is still to do when the next batch is decoded.

    Pictures are joined on the decoder's own stream, which is waited for before the next call, and resampled on the
    other one, which the decoder runs ahead of: there the allocator holds the memory back.
    """
    needs("torchcodec.decoders", "TorchCodec")
    batches = read_batches(converted / "train", [BATCH] * machine.times(30, 4))
    wanted = decoded(machine, batches)

    def held_back(*arguments: Any) -> Any:
        machine.hold_back()
        return stage(*arguments)

    monkeypatch.setattr(f"wdsremux.loading.backends.torchvision.{stage.__name__}", held_back)
    for images, whole in zip(decoded(machine, batches), wanted, strict=True):
        assert (images.short() - whole.short()).abs().max() <= ROUNDING


def decoded(machine: Machine, batches: Sequence[Batch]) -> list[torch.Tensor]:
    """What the torchvision backend makes of them with nvJPEG, on a stream of its own as the feed does."""
    output = Output(
        size=64, dtype=torch.uint8, memory_format=torch.contiguous_format, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    destination = Destination(machine.device)
    setup = Setup(output=output, batch_size=BATCH, num_threads=1, destination=destination, decode=GPU)
    with destination.working():
        backend = find("torchvision", machine.device)(setup)
        results = [images for _, images in backend.run(iter(batches))]
        backend.close()
        return [images.cpu() for images in results]
