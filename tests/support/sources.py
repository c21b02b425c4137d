"""A small source that a fixture of any scope can write."""

from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import tiny_jpeg


def write_dozen(folder: Path) -> Path:
    """Twelve tiny pictures labelled 0 to 11, as parquet with row groups of three; returns the folder."""
    (folder / "data").mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": tiny_jpeg(i), "path": None} for i in range(12)], "label": list(range(12))}
    path = folder / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pa.table(rows, schema=features.arrow_schema), path, row_group_size=3)
    return folder
