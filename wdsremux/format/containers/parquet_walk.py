"""A Parquet shard of ours read back: its samples in their order, one row group in memory at a time.

pyarrow reads it, which checks what it is given; what it does not look at is looked at here: that a row group is no
larger than a conversion makes them, before it is read, and that each image lies where its length says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from wdsremux.errors import FormatError, one_line
from wdsremux.format import keys
from wdsremux.format.containers import parquet_layout, parquet_schema
from wdsremux.format.containers.base import StoredSample
from wdsremux.format.plain import MEND
from wdsremux.format.samples import NO_LABEL

_MOST_ROWS = 1_000  #: of a row group; a conversion writes 100
_SMALL_BYTES = 2**24  #: of all keys, or of all labels, of a row group
_U4 = 2**32
_COLUMNS = (parquet_schema.IMAGE, parquet_schema.LABEL)
#: What pyarrow raises on a file that is damaged, and what comes of the values of one.
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RecursionError)


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
            labelled = parquet_schema.LABEL in shard.schema_arrow.names
            for number in range(shard.num_row_groups):
                where = f"row group {number}"
                yield from _samples(shard, raw, number, size_bytes, labelled)
    except FormatError:
        raise
    except _DAMAGE as error:
        raise FormatError(f"is damaged in {where}: {one_line(error, 200)}. {MEND}", path.name) from error


def _samples(
    shard: pq.ParquetFile, raw: BinaryIO, number: int, size_bytes: int, labelled: bool
) -> Iterator[StoredSample]:
    group = shard.metadata.row_group(number)
    chunk = parquet_layout.image_chunk(group)
    end = parquet_layout.chunk_end(chunk)
    if not 0 < group.num_rows <= _MOST_ROWS:
        raise ValueError(f"it has {group.num_rows:,} rows")
    if not 0 <= chunk.data_page_offset <= end <= size_bytes:
        raise ValueError("its images extend past the end of the file")
    small = [group.column(i) for i in range(group.num_columns)]
    if any(each.total_uncompressed_size > _SMALL_BYTES for each in small if each.path_in_schema in _KEYS):
        raise ValueError("its keys or labels are larger than any that a conversion writes")
    table = shard.read_row_group(number, columns=[*_COLUMNS[: 1 + labelled]], use_threads=False)
    images = table.column(parquet_schema.IMAGE).combine_chunks()
    labels = table.column(parquet_schema.LABEL).to_pylist() if labelled else [None] * len(table)
    contents, paths = (pa.compute.struct_field(images, name) for name in ("bytes", "path"))
    if contents.null_count or paths.null_count:
        raise ValueError("an image or its key is null")
    sizes = pa.compute.binary_length(contents).to_pylist()
    offsets = parquet_layout.offsets(end, sizes)
    for image, path, label, offset in zip(contents, paths.to_pylist(), labels, offsets, strict=True):
        yield _sample(image.as_py(), path, label, offset, raw)


_KEYS = ("image.path", parquet_schema.LABEL)


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
