"""A shard as a Parquet file, as `datasets`, pandas, polars, DuckDB and the Hub's viewer read it.

A row group has 100 rows or 32 MB at most, so that it is written and read in little memory; a larger image has one of
its own. Each image lies in one piece: `parquet_layout` says where.
"""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wdsremux import files
from wdsremux.errors import OutputError
from wdsremux.format.containers import parquet_layout, parquet_schema
from wdsremux.format.containers.base import Card, Member, SampleColumns, ShardFile
from wdsremux.format.containers.parquet_kept import kept_reader as kept_reader
from wdsremux.format.containers.parquet_packing import pack as pack
from wdsremux.format.containers.parquet_walk import walk as walk
from wdsremux.format.containers.table import shard_name
from wdsremux.format.samples import NO_LABEL

GROUP_ROWS = 100  #: of a row group, at most: what the Hub's viewer reads at once
GROUP_BYTES = 32 * 2**20  #: of the images and kept columns of a row group, at most, but for a single row
LEAD_BYTES = parquet_layout.LENGTH_BYTES
BESIDE_BYTES = 128  #: length, key, label, table row, its share of the description of a row group
RESERVED = frozenset({parquet_schema.IMAGE, parquet_schema.LABEL})


def card(labelled: bool, keep: Sequence[str]) -> Card:
    """See `Container.card`. The files tell their columns themselves."""
    label = ", `label`" if labelled else ""
    kept = "".join(f", `{name}`" for name in keep)
    return Card("Parquet shards", f"a row with `image` (a JPEG file){label}{kept}")


@dataclass(slots=True)
class _Row:
    """A row that waits for its row group."""

    path: str
    image: bytes
    label: int | None
    kept: bytes | None

    @property
    def nbytes(self) -> int:
        return len(self.image) + len(self.kept or b"")


@dataclass(slots=True)
class _ParquetShard:
    writer: pq.ParquetWriter
    schema: pa.Schema
    columns: SampleColumns
    waiting: list[_Row] = field(default_factory=list)
    nbytes: int = 0  #: of those that wait
    sizes: list[int] = field(default_factory=list)  #: of all images, in bytes
    crc32: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    index: bytes | None = None

    def add(self, key: str, image: bytes, label: int, crc32: int, kept: bytes | None) -> None:
        row = _Row(f"{key}.jpg", image, None if label == NO_LABEL else label, kept)
        if self.waiting and (len(self.waiting) == GROUP_ROWS or self.nbytes + row.nbytes > GROUP_BYTES):
            self.flush()
        self.waiting.append(row)
        self.nbytes += row.nbytes
        self.sizes.append(len(image))
        self.crc32.append(crc32)

    def flush(self) -> None:
        """Write what waits as a row group."""
        if not self.waiting:
            return
        rows, self.waiting, self.nbytes = self.waiting, [], 0
        images = [_binary([row.image for row in rows]), pa.array([row.path for row in rows], pa.string())]
        arrays: list[Any] = [pa.StructArray.from_arrays(images, fields=list(self.schema.field(0).type))]
        if self.columns.labelled:
            arrays.append(pa.array([row.label for row in rows], pa.int64()))
        if self.columns.kept is not None:
            packed = (pa.ipc.read_record_batch(pa.py_buffer(row.kept), self.columns.kept) for row in rows)
            arrays += pa.Table.from_batches(packed, self.columns.kept).combine_chunks().columns
        del rows, images  # of large images, what follows takes twice their memory anyway
        table = pa.table(arrays, self.schema)
        del arrays
        self.writer.write_table(table, row_group_size=len(table))

    def locate(self, path: Path) -> None:
        """Find where the images lie, once the file is closed."""
        about, sizes = pq.read_metadata(path), iter(self.sizes)
        for number in range(about.num_row_groups):
            group = about.row_group(number)
            end = parquet_layout.chunk_end(parquet_layout.image_chunk(group))
            self.offsets += parquet_layout.offsets(end, list(itertools.islice(sizes, group.num_rows)))

    def check(self, path: Path) -> None:
        """See that the images lie where `locate` says: a shard with one wrong offset gets no name.

        Raises:
            OutputError: if one does not.
        """
        with path.open("rb") as file:
            for offset, size, crc32 in zip(self.offsets, self.sizes, self.crc32, strict=True):
                file.seek(offset)
                if zlib.crc32(file.read(size)) != crc32:
                    raise OutputError(
                        f"{path.name} was not written as expected: no image is at byte {offset}. The disk has failed, "
                        f"or pyarrow {pa.__version__} lays out pages differently: install another version, and run the "
                        "same command again"
                    )


def _binary(contents: list[bytes]) -> pa.Array:
    """As binary values; pyarrow's own conversion takes twice the memory."""
    edges = np.cumsum([0, *map(len, contents)]).astype(np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(contents), [None, pa.py_buffer(edges), pa.py_buffer(b"".join(contents))]
    )


@contextmanager
def create(folder: Path, split: str, number: int, columns: SampleColumns) -> Iterator[ShardFile]:
    """See `Container.create`.

    Raises:
        OutputError: if an image is not where it was written.
    """
    path, schema = folder / shard_name("parquet", split, number), parquet_schema.make_schema(columns)
    with pa.OSFile(str(path), "wb") as file:  # which, unlike a file of Python's, takes pages without a copy
        writer = parquet_schema.open_writer(file, schema)
        try:
            shard = _ParquetShard(writer, schema, columns)
            yield shard
            shard.flush()
        except BaseException:
            with contextlib.suppress(pa.ArrowException, OSError, ValueError):  # the first error is the one to tell
                writer.close()
            raise
        writer.close()
    files.sync(path)
    shard.locate(path)
    shard.check(path)


def index_text(samples: Iterable[list[Member]]) -> None:
    """There is none: a Parquet file has its own, at its end."""
    return


def is_lead(lead: memoryview, key: str, size: int) -> bool:
    """Whether it is the length of the image."""
    return int.from_bytes(lead, "little") == size
