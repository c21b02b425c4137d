"""scripts/train.py under torchrun: killed as a whole, it goes on with any number of ranks, and counts each sample once.

Its train loader drops what does not fill a last step (300 samples here). Where each sample is to come exactly once, the
global batches are such that nothing is left over: 60 before the kill, 30 or 90 for the 180 samples after it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import wdsremux
from tests.conftest import TEST, TRAIN, ConvertTiny, WriteSource, tiny_jpeg
from tests.support.launch import ids, loss_of_test, output, seen, start, weights

pytestmark = pytest.mark.system

COMMON = ("--epochs", 3, "--size", 64, "--checkpoint-every", 2, "--resume")
POSITION = 120  #: of the checkpoint that a run killed at its ninth step leaves: five steps of 60, and two


@dataclass(frozen=True)
class Killed:
    """What a run on two ranks left."""

    checkpoint: Path
    log: Path

    def copy(self, folder: Path) -> Path:
        """The checkpoint once more, because a run that goes on writes it."""
        return Path(shutil.copy(self.checkpoint, folder / "copy.pt"))


def kill(out: Path, folder: Path, ranks: int) -> Killed:
    """Rank 1 is handed its ninth batch, and all processes die by SIGKILL: the ranks and torchrun's agent."""
    arguments = (out, *COMMON, "--batch-size", 60 // ranks, "--checkpoint", folder / "killed.pt")
    log = ("--log-samples", folder / "log")
    done = start("train", *arguments, *log, ranks=ranks, watch=folder / "watch", kill="1:9")
    assert done.returncode == -9, done.stderr
    return Killed(folder / "killed.pt", folder / "log")


@pytest.fixture(scope="module")
def killed(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return kill(converted, tmp_path_factory.mktemp("killed"), ranks=2)


@pytest.mark.parametrize("ranks", [2, 3])  # two may be summed in any order; of three, the order shows in the bits
def test_resumed_on_as_many_ranks_it_ends_with_the_same_weights(
    converted: Path, tmp_path: Path, killed: Killed, ranks: int
) -> None:
    left = killed if ranks == 2 else kill(converted, tmp_path, ranks)
    common = (converted, *COMMON, "--batch-size", 60 // ranks, "--checkpoint")
    undisturbed = output("train", *common, tmp_path / "undisturbed.pt", ranks=ranks)
    resumed = output("train", *common, left.copy(tmp_path), ranks=ranks)
    assert f"at epoch 1, sample {POSITION}\n" in resumed
    assert weights(resumed) == weights(undisturbed)
    assert resumed.count("test accuracy") == 1  # rank 0 prints, no other


@pytest.mark.parametrize("ranks", [1, 3])
def test_resumed_on_other_ranks_each_sample_comes_once(
    converted: Path, tmp_path: Path, killed: Killed, ranks: int
) -> None:
    arguments = (converted, *COMMON, "--batch-size", 30, "--checkpoint", killed.copy(tmp_path))
    resumed = output("train", *arguments, "--log-samples", tmp_path / "log", ranks=ranks)
    assert f"at epoch 1, sample {POSITION}\n" in resumed
    before = [line for line in seen(killed.log) if line.epoch == 1 and line.position <= POSITION]
    after = seen(tmp_path / "log")
    assert len(ids(before, "train", 1)) == POSITION
    assert sorted(ids(before, "train", 1) + ids(after, "train", 1)) == list(range(TRAIN))
    following = ids(after, "train", 2)
    assert len(following) == len(set(following)) == TRAIN // (30 * ranks) * (30 * ranks)
    assert sorted(ids(after, "test", 0)) == list(range(TEST))
    assert f" of {TEST})" in resumed


def test_what_ranks_trained_one_process_evaluates_the_same(converted: Path, tmp_path: Path) -> None:
    """Each rank has batch-norm statistics of its own after a step; rank 0's are those that are kept."""
    common = (converted, "--epochs", 2, "--size", 64, "--checkpoint", tmp_path / "a.pt", "--batch-size")
    together = output("train", *common, 15, ranks=2)
    alone = output("train", *common, 30, "--resume")
    assert weights(alone) == weights(together)
    assert loss_of_test(alone) == pytest.approx(loss_of_test(together), abs=2e-4)  # it is printed to four places


@pytest.mark.parametrize("ranks", [3, 7])
def test_an_evaluation_counts_each_sample_once(
    convert_tiny: ConvertTiny, write_source: WriteSource, tmp_path: Path, ranks: int
) -> None:
    out = convert_tiny(64)
    source = write_source([tiny_jpeg(i) for i in range(613)], [i % 64 for i in range(613)], split="test")
    wdsremux.convert(source, out, split="test", recipe="copy", workers=1)
    arguments = ("--epochs", 0, "--size", 32, "--batch-size", 16, "--log-samples", tmp_path / "log")
    text = output("train", out, *arguments, ranks=ranks)
    lines = seen(tmp_path / "log")
    assert " of 613)" in text
    assert sorted(ids(lines, "test", 0)) == list(range(613))
    steps = Counter(line.process for line in lines)
    assert len(steps) == ranks
    assert len(set(steps.values())) == 1
