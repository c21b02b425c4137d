"""scripts/train.py killed again and again ends with the weights of a run that nothing disturbed, to the bit.

Two kills here; with WDSREMUX_SOAK=1, fifty, and as many under torchrun.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from tests.support import tracing
from tests.support.killing import killed, naming, running, until_it_ends, wait_until
from tests.support.launch import SCRIPTS, output, start, weights
from tests.support.soak import soaking
from tests.support.tracing import Strike

pytestmark = pytest.mark.system
KILLS = 50 if soaking() else 2
STEPS = 9  #: of an epoch: 300 samples, 32 a step
LATEST = 6  #: batch at which a life ends; with a checkpoint every other step it adds five steps at most
EPOCHS = KILLS * LATEST // STEPS + 2  #: so that there is always something left to kill
SAME = "the same weights as without it, bit for bit"


def arguments(out: Path, ranks: int, checkpoint: Path) -> tuple[object, ...]:
    of_one_rank = 32 // max(ranks, 1)
    shape = ("--batch-size", of_one_rank, "--epochs", EPOCHS, "--size", 32)
    return (out, *shape, "--checkpoint-every", 2, "--resume", "--checkpoint", checkpoint)


@pytest.mark.timeout(0 if soaking() else 300)
@pytest.mark.parametrize("ranks", [0, 2] if soaking() else [0])
def test_killed_again_and_again(
    converted: Path, tmp_path: Path, ranks: int, tally: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turn at a step, and around the sync and rename of a checkpoint."""
    random = Random(ranks)
    undisturbed = output("train", *arguments(converted, ranks, tmp_path / "undisturbed.pt"), ranks=ranks)
    given = arguments(converted, ranks, tmp_path / "run/a.pt")
    for number in range(KILLS):
        if number % 2 == 0:
            kill = f"{random.randrange(max(ranks, 1))}:{random.randint(1, LATEST)}"
            done = start("train", *given, ranks=ranks, watch=tmp_path / "watch", kill=kill)
            assert done.returncode == -9, done.stderr
        else:
            call = random.choice(["before fsync", "before rename", "after rename"]).split()
            strike = Strike(call[0], call[1], random.randint(1, 2))
            struck_at_a_checkpoint(given, ranks, tmp_path / "run", tmp_path / f"log {number}", strike, monkeypatch)
        wait_until(lambda: not naming(tmp_path / "run"))
    resumed = output("train", *given, ranks=ranks)
    assert f"epoch {EPOCHS}: " in resumed
    assert "resumed from " in resumed
    assert weights(resumed) == weights(undisturbed)
    for number in range(KILLS):
        tally("SIGKILL of a training", SAME) if number % 2 == 0 else tally("SIGKILL while a checkpoint is saved", SAME)


def struck_at_a_checkpoint(
    given: tuple[object, ...], ranks: int, folder: Path, log: Path, strike: Strike, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train until all processes die at that call; what has its final name can be read."""
    with monkeypatch.context() as patch:
        for name, value in tracing.environment(folder, log, strike).items():
            patch.setenv(name, value)
        done = start("train", *given, ranks=ranks)
    assert done.returncode == -9, done.stderr
    assert (folder / ".a.pt.partial").exists() == (strike.when == "before"), tracing.struck(log)
    if (folder / "a.pt").exists():
        torch.load(folder / "a.pt", weights_only=True)


@pytest.mark.skipif(not soaking(), reason="waits for moments that are short")
@pytest.mark.timeout(0)
def test_killed_with_a_checkpoint_half_written(
    converted: Path, tmp_path: Path, tally: Callable[[str, str], None]
) -> None:
    """From outside, when the partial file is seen: until that was ten times so soon that it stayed."""
    undisturbed = output("train", *arguments(converted, 0, tmp_path / "undisturbed.pt"))
    given = [str(argument) for argument in arguments(converted, 0, tmp_path / "a.pt")]
    hits = lives = 0
    while hits < 10:
        lives += 1
        assert lives <= 60, hits
        hits += half_written(given, tmp_path / "a.pt", later=lives % 2 == 0)
    assert weights(output("train", *given)) == weights(undisturbed)
    for _ in range(hits):
        tally("SIGKILL while a checkpoint is saved", SAME)


def half_written(given: list[str], checkpoint: Path, *, later: bool) -> bool:
    """Kill when a checkpoint is being written, the second if `later`; returns whether that was in time."""
    partial = checkpoint.with_name(f".{checkpoint.name}.partial")
    partial.unlink(missing_ok=True)
    before = modified_ns(checkpoint)
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with running([sys.executable, str(SCRIPTS / "train.py"), *given], environment) as process:
        assert until_it_ends(lambda: partial.exists() and (not later or modified_ns(checkpoint) > before), process), (
            "all epochs were too few"
        )
        killed(process)
    return partial.exists()


def modified_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
