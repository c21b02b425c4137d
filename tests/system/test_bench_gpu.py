"""scripts/bench_gpu.py: rehearsed on the CPU, and what it says where there is no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench_gpu import waited

from tests.system.launch import SCRIPTS, TIMEOUT_S

pytestmark = pytest.mark.system

SMALL = ["--device", "cpu", "--batch", 32, "--size", 48, "--images", 64, "--rounds", 1, "--epochs", 1, "--threads", 1]


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["env", "CUDA_VISIBLE_DEVICES=", sys.executable, str(SCRIPTS / "bench_gpu.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_a_rehearsal_on_the_cpu(converted: Path, tmp_path: Path) -> None:
    done = bench(converted, *SMALL, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["runs"]) == ["dali, cpu", "torchvision, cpu", "bare dali", "bare torchcodec"]
    for name, runs in figures["runs"].items():
        assert [run["images_per_s"] > 0 for run in runs] == [True]
        assert name in done.stdout
    assert 0 <= figures["train"]["waited_share"] <= 1
    assert "train.py waited " in done.stdout
    assert figures["failures"] == {}


def test_what_fails_is_named_and_the_rest_is_shown(converted: Path) -> None:
    """A split too small for a batch: bare decoders find none, and train.py has no whole step."""
    done = bench(converted, *SMALL, "--batch", 400, "--only", "bare-torchcodec")
    assert done.returncode == 1
    assert "bare torchcodec failed: " in done.stdout
    assert "choose a smaller --batch" in " ".join(done.stdout.split())
    assert "train.py failed: " in done.stdout


def test_without_a_gpu_it_says_so(converted: Path) -> None:
    done = bench(converted)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("torch ")
    assert done.stderr.endswith("finds no CUDA device, so there is nothing to measure.\n")


def test_the_share_of_waiting_is_that_of_the_last_epoch() -> None:
    line = "epoch {}: loss 1.0; 256 images, 3 MB in 1.0 s ({} images/s): waited {}%, bound by decode [read 0.1 s]\n"
    assert waited(line.format(1, "1,000", 12.5) + line.format(2, "2,500", 3.0)) == {
        "images_per_s": 2500.0,
        "waited_share": 0.03,
    }
    assert waited("test accuracy: 1") == "train.py printed no line of stats"
