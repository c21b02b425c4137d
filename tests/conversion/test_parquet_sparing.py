"""The first rows of a row group on the Hub: what is read of a page in part is what a reading of all of it gives."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wdsremux.conversion.source import Fragment
from wdsremux.conversion.source.hub_files import HubFile
from wdsremux.conversion.source.kinds import parquet
from wdsremux.conversion.source.kinds.parquet import ParquetReader
from wdsremux.conversion.source.retry import Faults

ROWS = 300
CONTENTS: dict[HubFile, bytes] = {}
ASKED: list[tuple[int, int]] = []


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of files in memory are what the Hub answers."""

    def part(file: HubFile, first: int, end: int | None) -> tuple[bytes, HubFile]:
        content = CONTENTS[file]
        ASKED.append((first, len(content) if end is None else end))
        return content[first:end], file

    CONTENTS.clear()
    ASKED.clear()
    parquet._metadata.cache_clear()
    monkeypatch.setattr(HubFile, "part", part)


def written(images: list[bytes | None], **how: Any) -> tuple[ParquetReader, Fragment]:
    """A reader of one row group with these images."""
    rows = pa.table(
        {
            "image": pa.array([None if each is None else {"bytes": each, "path": "a.jpg"} for each in images]),
            "label": pa.array(range(len(images)), pa.int64()),
        }
    )
    file = io.BytesIO()
    pq.write_table(rows, file, **{"compression": "none", "use_dictionary": False, **how})
    content = file.getvalue()
    known = HubFile("ours/photos", "0" * 40, f"{len(CONTENTS)}.parquet", Faults(()), len(content), "tag")
    CONTENTS[known] = content
    size_bytes = pq.read_metadata(io.BytesIO(content)).row_group(0).total_byte_size
    return ParquetReader((known,), ("0.parquet",)), Fragment(0, 0, 1, len(images), size_bytes)


def rows_of(reader: ParquetReader, fragment: Fragment, count: int, batch_rows: int = 16) -> list[Any]:
    pieces = reader.pieces(fragment, ["image", "label"], batch_rows)
    rows = itertools.chain.from_iterable(piece.table.to_pylist() for piece in pieces)
    return list(itertools.islice(rows, count))


def noise(sizes: Any) -> list[bytes | None]:
    random = np.random.default_rng(0)
    return [random.bytes(int(size)) for size in sizes]


SIZES = {
    "alike": np.full(ROWS, 20_000),
    "growing": np.linspace(1_000, 40_000, ROWS),
    "shrinking": np.linspace(90_000, 1_000, ROWS),  # the first rows take more than rows do on average
    "one is large": np.where(np.arange(ROWS) == 5, 3_000_000, 8_000),
    "empty ones": np.where(np.arange(ROWS) % 3 == 0, 0, 20_000),
}
HOW: dict[str, dict[str, Any]] = {
    "plain": {},
    "snappy": {"compression": "snappy"},
    "a dictionary": {"use_dictionary": True},
    "small pages": {"data_page_size": 50_000},
    "version 2": {"data_page_version": "2.0"},
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("count", [1, 20, ROWS])
def test_the_same_rows(how: str, sizes: str, count: int) -> None:
    images = noise(SIZES[sizes])
    reader, fragment = written(images, **HOW[how])
    expected = [{"image": {"bytes": images[i], "path": "a.jpg"}, "label": i} for i in range(ROWS)]
    assert rows_of(reader.sparing(count), fragment, count) == expected[:count]
    assert rows_of(reader.sparing(1), fragment, count) == expected[:count]  # and where more is taken than was said


def test_nulls_among_them() -> None:
    images = noise(SIZES["alike"])
    images[2] = images[17] = None
    reader, fragment = written(images)
    found = rows_of(reader.sparing(30), fragment, 30)
    assert [row["image"] and row["image"]["bytes"] for row in found] == images[:30]


def test_little_is_asked_for() -> None:
    """16 of 300 images of 20 KB, which lie in pages of 1 MB."""
    reader, fragment = written(noise(SIZES["alike"]))
    rows_of(reader.sparing(16), fragment, 16)
    sparing = sum(end - first for first, end in ASKED)
    ASKED.clear()
    rows_of(reader, fragment, 16)
    assert sparing < 16 * 20_000 * 2.5
    assert sparing < sum(end - first for first, end in ASKED) / 2
