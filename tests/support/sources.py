"""A small source that a fixture of any scope can write; and sources as a conversion opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import tiny_jpeg
from wdsremux.conversion.source import Source, opening
from wdsremux.conversion.source.selection import Selection, Settled


def write_dozen(folder: Path) -> Path:
    """Twelve tiny pictures labelled 0 to 11, as parquet with row groups of three; returns the folder."""
    (folder / "data").mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": tiny_jpeg(i), "path": None} for i in range(12)], "label": list(range(12))}
    path = folder / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pa.table(rows, schema=features.arrow_schema), path, row_group_size=3)
    return folder


def open_source(
    source: str, split: str, settled: Settled | None = None, recipe_makes: bool = False, **options: Any
) -> Source:
    """A source, opened for a conversion with these options of those that `Selection` has."""
    return opening.open_source(Selection(source=source, split=split, **options), settled or Settled(), recipe_makes)
