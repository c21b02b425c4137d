"""A conversion small enough to be killed again and again, and yet of many files: 120 rows, 12 tasks, 24 shards."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.reading import digests

ROWS, ROWS_A_GROUP, FILES = 120, 5, 2
NO_IMAGES = (33, 90)  #: rows that end as rejects
SIZES = ("--samples-per-shard", "5", "--samples-per-task", "10", "--workers", "2", "--max-rejects", "2")
_WAITS = re.compile(r"train/\.wdsremux/task-[^/]+/[^/]+\.(tar|parquet)")
_FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})


def write_small(folder: Path, sample: Path) -> Path:
    """Some of the sample's photographs as parquet; returns the folder."""
    photos = pq.read_table(sorted(sample.glob("data/train-*.parquet"))[0]).slice(0, ROWS).to_pylist()
    images = [row["image"] | ({"bytes": b"no image"} if i in NO_IMAGES else {}) for i, row in enumerate(photos)]
    table = pa.table({"image": images, "label": [row["label"] for row in photos]}, schema=_FEATURES.arrow_schema)
    (folder / "data").mkdir(parents=True)
    for i in range(FILES):
        part = table.slice(i * ROWS // FILES, ROWS // FILES)
        pq.write_table(part, folder / f"data/train-{i:05d}-of-{FILES:05d}.parquet", row_group_size=ROWS_A_GROUP)
    return folder


def command(source: str | Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "wdsremux", "convert", str(source), str(out), *SIZES]


def files_of(out: Path) -> set[str]:
    """Every file in OUT, journal and locks not left out; also while files and folders come and go."""
    return {str(Path(folder, name).relative_to(out)) for folder, _, names in os.walk(out) for name in names}


def some_wait(out: Path) -> bool:
    """Whether a shard is there that has not its final name yet."""
    return any(_WAITS.fullmatch(name) for name in files_of(out))


def final_digests(out: Path) -> dict[str, str]:
    """The SHA-256 of every file of a split under its final name."""
    return {name: digest for name, digest in digests(out).items() if not name.endswith(".partial")}
