"""Where the images lie in a Parquet shard.

In a column chunk of one plain, uncompressed data page (Parquet format, "Data Pages" and "Encodings": PLAIN), a page is

    header (Thrift) │ lengths and bits of the levels │ value, value, …

and a value of BYTE_ARRAY is its length, 4 bytes little-endian, and its bytes. Nothing follows the last value: so the
values end where the column chunk ends (its metadata: `data_page_offset` and `total_compressed_size`), and lengths alone
tell where each begins. No page of a dictionary may be before it, and no image may be null, which would be no value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wdsremux.format.containers.parquet_schema import IMAGE_BYTES

LENGTH_BYTES = 4  #: in front of each value
#: What pyarrow raises on a file that is damaged, and what comes of the values of one.
DAMAGE = (
    pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError,
    RecursionError,
)  # fmt: skip


def image_chunk(group: pq.RowGroupMetaData) -> pq.ColumnChunkMetaData:
    """The column chunk with the images of a row group, which is its first.

    pyarrow ends the process when it is asked about a chunk that is described wrongly. So where a file may be damaged,
    this chunk has to be read first: reading it raises an error instead.

    Raises:
        ValueError: if it is none in which images can be found by their lengths.
    """
    chunk = group.column(0)
    if chunk.path_in_schema != IMAGE_BYTES:
        raise ValueError(f"the first column is not {IMAGE_BYTES}")
    if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page or "PLAIN" not in chunk.encodings:
        raise ValueError(f"the column {IMAGE_BYTES} is compressed or encoded")
    return chunk


def chunk_end(chunk: pq.ColumnChunkMetaData) -> int:
    """Where a column chunk ends in the file, in bytes."""
    return int(chunk.data_page_offset + chunk.total_compressed_size)


def offsets(end: int, sizes: Sequence[int]) -> list[int]:
    """Where images begin in the file, in bytes.

    Args:
        end: of the column chunk that holds them and nothing behind them.
        sizes: of the images, in bytes, in their order.
    """
    ends = end - np.cumsum([0, *(size + LENGTH_BYTES for size in reversed(sizes))])[:-1][::-1]
    found: list[int] = (ends - np.asarray(sizes, np.int64)).tolist()
    return found
