"""Sources for the tests of containers, and converted splits read back by their contract: with pyarrow, or tarfile."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import jpeg
from tests.support.reading import RECORD, read_tar

ROWS, ROWS_A_GROUP = 30, 10  #: of a source
SMALL: dict[str, Any] = {"recipe": "copy", "workers": 1, "samples_per_shard": 7, "samples_per_task": 20}
SUFFIXES = {"tar": ".tar", "parquet": ".parquet"}
_STORED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@cache
def picture(number: int) -> bytes:
    """A JPEG of noise, of another size and content for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (40 + number % 5, 48 + number % 7, 3), np.uint8)
    return jpeg(pixels, quality=60)


def write_rows(
    folder: Path, columns: Mapping[str, pa.Array], features: Any = None, *, rows: int = ROWS, split: str = "train"
) -> Path:
    """A parquet source of pictures, with these columns beside them.

    Args:
        folder: is returned.
        columns: of as many rows.
        features: of `datasets`, of those columns: written down in the file if given.
        rows: how many.
        split: for whose file it is.
    """
    images = pa.array([{"bytes": picture(i), "path": f"{i}.jpg"} for i in range(rows)], _STORED)
    table = pa.table({"image": images, **columns})
    if features is not None:
        import datasets

        schema = datasets.Features({"image": datasets.Image(), **features}).arrow_schema
        table = table.replace_schema_metadata(schema.metadata)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet", row_group_size=ROWS_A_GROUP)
    return folder


def key(row: int) -> str:
    """The key of a row of such a source."""
    return f"{row // ROWS_A_GROUP:06d}-{row % ROWS_A_GROUP:06d}"


@dataclass(frozen=True)
class Stored:
    """A sample as it was found in a shard."""

    image: bytes
    label: int | None
    kept: Any  #: dict of the kept columns' values, as the container has them; None where none are kept


def shards_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES.values())


def read_shard(path: Path) -> dict[str, Stored]:
    """The samples of a shard by key, in their order."""
    if path.suffix == ".tar":
        return {name: _of_tar(content) for name, content in read_tar(path).items()}
    found = {}
    for row in pq.read_table(path).to_pylist():
        image, label = row.pop("image"), row.pop("label", None)
        name, dot, extension = image["path"].partition(".")
        assert (dot, extension) == (".", "jpg")
        assert name not in found
        found[name] = Stored(image["bytes"], label, row or None)
    return found


def _of_tar(content: Mapping[str, bytes]) -> Stored:
    label = int(content["cls"]) if "cls" in content else None
    return Stored(content["jpg"], label, json.loads(content["json"]) if "json" in content else None)


def read_samples(folder: Path) -> dict[str, Stored]:
    """All samples of a split by key, in their order."""
    found: dict[str, Stored] = {}
    for path in shards_of(folder):
        samples = read_shard(path)
        assert not samples.keys() & found.keys()
        found |= samples
    return found


def read_column(folder: Path, name: str) -> pa.ChunkedArray:
    """A column of Parquet shards, in the order of the source's rows."""
    table = pa.concat_tables([pq.read_table(path) for path in shards_of(folder)])
    paths = [image["path"] for image in table.column("image").to_pylist()]
    chunks = [table.column(name).slice(int(i), 1) for i in np.argsort(paths)]  # `take` does not know all types
    return pa.chunked_array([chunk for each in chunks for chunk in each.chunks], table.column(name).type)


def check_table(folder: Path) -> int:
    """See that each image lies where the sample table says, by the shards' bytes alone; returns how many there are."""
    table = np.load(folder / "samples.npy", allow_pickle=False)
    assert table.dtype == RECORD
    paths, at = shards_of(folder), 0
    for number, path in enumerate(paths):
        content = path.read_bytes()
        for name, sample in read_shard(path).items():
            row = table[at]
            image = content[row["offset"] : row["offset"] + row["size"]]
            assert (row["shard"], zlib.crc32(image)) == (number, row["crc32"])
            assert image == sample.image
            assert row["label"] == (-1 if sample.label is None else sample.label)
            assert name == f"{row['fragment']:06d}-{row['row']:06d}"
            at += 1
    assert at == len(table)
    return at


def labels(values: Sequence[int | None]) -> pa.Array:
    return pa.array(values, pa.int64())
