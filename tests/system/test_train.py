"""scripts/train.py as a user runs it: it learns, cannot learn from shuffled labels, and survives a kill to the bit."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
pytestmark = pytest.mark.system


def _command(out: Path, checkpoint: Path, *more: str) -> list[str]:
    return [sys.executable, str(SCRIPT), str(out), "--checkpoint", str(checkpoint), "--batch-size", "32", *more]


def _run(out: Path, checkpoint: Path, *more: str) -> str:
    return subprocess.run(_command(out, checkpoint, *more), capture_output=True, text=True, check=True).stdout


def _accuracy(output: str) -> float:
    found = re.search(r"test accuracy: ([\d.]+)", output)
    assert found is not None, output
    return float(found[1])


def _weights(output: str) -> str:
    found = re.search(r"weights sha256 ([0-9a-f]{64})", output)
    assert found is not None, output
    return found[1]


def test_learns_from_true_labels_only(converted: Path, tmp_path: Path) -> None:
    true = _run(converted, tmp_path / "true.pt", "--epochs", "12")
    shuffled = _run(converted, tmp_path / "shuffled.pt", "--epochs", "3", "--shuffle-labels")
    assert _accuracy(true) >= 0.85  # 300 pictures; the whole sample gives more than 0.95
    assert _accuracy(shuffled) <= 0.35  # ten classes of one photograph each: chance comes in steps of a tenth
    assert "of the time waiting for data" in true


def test_killed_in_mid_epoch_ends_with_the_same_weights(converted: Path, tmp_path: Path) -> None:
    undisturbed = _run(converted, tmp_path / "a.pt", "--epochs", "2", "--checkpoint-every", "4")
    checkpoint = tmp_path / "b.pt"
    process = subprocess.Popen(_command(converted, checkpoint, "--epochs", "2", "--checkpoint-every", "4"))
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    resumed = _run(converted, checkpoint, "--epochs", "2", "--checkpoint-every", "4", "--resume")
    assert "resumed from" in resumed
    assert _weights(resumed) == _weights(undisturbed)
