"""A Parquet shard of ours read back: its samples in their order, one row group in memory at a time.

pyarrow reads it, which checks what it is given; what it does not look at is looked at here: that a row group has no
more rows than a conversion gives them, before it is read, and that each image lies where its length says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from wdsremux.errors import FormatError, one_line, printable
from wdsremux.format import keys
from wdsremux.format.containers import parquet_layout, parquet_schema
from wdsremux.format.containers.base import StoredSample
from wdsremux.format.plain import MEND
from wdsremux.format.samples import NO_LABEL

_MOST_ROWS = 1_000  #: of a row group; a conversion writes 100
_U4 = 2**32
_COLUMNS = {parquet_schema.IMAGE: parquet_schema.STORED, parquet_schema.LABEL: pa.int64()}


def walk(file: BinaryIO, path: Path, size_bytes: int) -> Iterator[StoredSample]:
    """Read a shard row group by row group. See `Container.walk`.

    Raises:
        FormatError: naming the row group that is damaged.
    """
    while file.read(2**20):  # all of it, for who wants its hash; what follows reads from memory
        pass
    where = "its metadata"
    try:
        with path.open("rb") as raw, pq.ParquetFile(raw, memory_map=False) as shard:
            columns = [name for name in _COLUMNS if name in shard.schema_arrow.names]
            if any(shard.schema_arrow.field(name).type != _COLUMNS[name] for name in columns):
                raise ValueError("its columns are not of the types that a conversion writes")
            for number in range(shard.num_row_groups):
                where = f"row group {number}"
                yield from _samples(shard, raw, number, columns)
    except (FormatError, *parquet_layout.DAMAGE) as error:  # the former of a key
        raise FormatError(f"is damaged in {where}: {printable(one_line(error, 200))}. {MEND}", path.name) from error


def _samples(shard: pq.ParquetFile, raw: BinaryIO, number: int, columns: list[str]) -> Iterator[StoredSample]:
    group = shard.metadata.row_group(number)
    if not 0 < group.num_rows <= _MOST_ROWS:
        raise ValueError(f"it has {group.num_rows:,} rows")
    table = shard.read_row_group(number, columns=columns, use_threads=False)
    images = table.column(parquet_schema.IMAGE).combine_chunks()
    labels = table.column(parquet_schema.LABEL).to_pylist() if parquet_schema.LABEL in columns else [None] * len(table)
    contents, paths = (pa.compute.struct_field(images, name) for name in ("bytes", "path"))
    if contents.null_count or paths.null_count:
        raise ValueError("an image or its key is null")
    sizes = pa.compute.binary_length(contents).to_pylist()
    offsets = parquet_layout.offsets(parquet_layout.chunk_end(parquet_layout.image_chunk(group)), sizes)
    for image, path, label, offset in zip(contents, paths.to_pylist(), labels, offsets, strict=True):
        yield _sample(image.as_py(), path, label, offset, raw)


def _sample(image: bytes, path: str, label: Any, offset: int, raw: BinaryIO) -> StoredSample:
    key, dot, extension = path.partition(".")
    place = keys.place(key)
    if (dot, extension) != (".", "jpg"):
        raise ValueError(f"a path that no conversion writes, {path!r:.80}")
    if max(*place, len(image)) >= _U4:
        raise ValueError(f"sample {key} has values that are too large for the sample table")
    if label is not None and (not isinstance(label, int) or label < 0):
        raise ValueError(f"sample {key} has no valid label: {label!r:.80}")
    raw.seek(offset)
    if raw.read(len(image)) != image:
        raise ValueError(f"the image of sample {key} is not at byte {offset}")
    return StoredSample(key, place, NO_LABEL if label is None else label, offset, image)
