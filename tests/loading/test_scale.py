"""100 M samples in 50,000 shards: what a loader costs before its first batch, and a step's ids after it.

Bounds are three times what is promised (1 s, 500 MB, 1 ms), because other work shares the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wdsremux.format import manifest, samples

SCRIPT = Path(__file__).parents[1] / "support" / "scale.py"
NSHARDS, NSAMPLES = 50_000, 100_000_000


def simulate(folder: Path) -> None:
    """A split without tars: shards of about 1,000 to 3,000 samples, a table of zeros that takes no room on the disk."""
    counts = np.random.default_rng(0).integers(1_000, 3_001, NSHARDS)
    each, rest = divmod(int(counts.sum()) - NSAMPLES, NSHARDS)
    counts -= each
    counts[:rest] -= 1
    shards = [
        manifest.Shard(f"train-{number:06d}.tar", count, count * 20_480, "a" * 64, "b" * 64)
        for number, count in enumerate(counts.tolist())
    ]
    about: dict[str, Any] = {"split": "train", "nrejects": 0, "ndropped": 0, "classes": None, "seed": 0}
    about |= {"source": {"name": "large"}, "recipe": {"name": "copy"}, "options": {}, "environment": {"wdsremux": "1"}}
    files = {name: {"sha256": "c" * 64} for name in ("samples.npy", "rejects.jsonl")}
    about |= {"nsamples": NSAMPLES, "shards": shards, "files": files}
    folder.mkdir()
    (folder / "index.json").write_bytes(manifest.Manifest(**about).dumps())
    with open(folder / "samples.npy", "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(samples.SAMPLE), "fortran_order": False, "shape": (NSAMPLES,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + NSAMPLES * samples.SAMPLE.itemsize)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="measures memory as Linux counts it")
@pytest.mark.parametrize(("lanes", "world"), [(1, 8), (8, 64)])
def test_a_late_resume_of_a_large_set_is_quick_and_small(tmp_path: Path, lanes: int, world: int) -> None:
    simulate(tmp_path / "train")
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(lanes), str(world)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    cost = json.loads(run.stdout)
    assert cost["nsamples"] == NSAMPLES
    assert cost["first_s"] < 3.0, cost
    assert cost["memory_bytes"] < 1.5e9, cost
    assert cost["step_s"] < 3e-3, cost
