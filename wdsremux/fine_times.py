"""Times of day that are finer than Python's: as text, and back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute

_NANOSECONDS = 1_000  #: in the microsecond, the finest time that Python's own types know


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of nanoseconds as text, if Python would cut one of them to microseconds; any other as it is."""
    if column.type != pa.time64("ns"):
        return column
    fine = pa.compute.not_equal(_remainder(column.cast(pa.int64()), _NANOSECONDS), 0)
    return column.cast(pa.string()) if pa.compute.any(fine).as_py() else column


def of_text(text: str, kind: pa.DataType) -> pa.Array:
    """A time of day by its text, such as 23:59:59.123456789, under a type of Arrow's times.

    Raises:
        pyarrow.ArrowInvalid: if it is none, or is finer than the type.
    """
    found: Any = pa.array([f"1970-01-01T{text}"]).cast(pa.timestamp("ns"))
    return found.cast(pa.time64("ns")).cast(kind)  # from text, Arrow casts to timestamps only


def _remainder(numbers: pa.ChunkedArray, divisor: int) -> pa.ChunkedArray:
    return pa.compute.subtract(numbers, pa.compute.multiply(pa.compute.divide(numbers, divisor), divisor))
