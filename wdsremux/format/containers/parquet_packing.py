"""Kept columns of one sample, packed for a Parquet shard: each value under the type of its column, or not at all."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from wdsremux import fine_times
from wdsremux.format import kept_json
from wdsremux.format.containers.base import SampleColumns


def pack(values: Mapping[str, Any], columns: SampleColumns) -> bytes:
    """A row of kept columns as an Arrow message (Arrow columnar format, "Encapsulated message format")."""
    kept = columns.kept if columns.kept is not None else pa.schema([])
    arrays = [_array(values.get(each.name), each) for each in kept]
    packed: bytes = pa.RecordBatch.from_arrays(arrays, schema=kept).serialize().to_pybytes()
    return packed


def _array(value: Any, column: pa.Field) -> pa.Array:
    """A single value under a column's type.

    Raises:
        ValueError: if it is not of that type.
    """
    if isinstance(column.type, pa.JsonType):
        text = None if value is None else kept_json.value(value).encode(errors="backslashreplace").decode()
        return pa.ExtensionArray.from_storage(column.type, pa.array([text], column.type.storage_type))
    try:
        if isinstance(value, str) and pa.types.is_time(column.type):  # finer than Python's own times
            return fine_times.of_text(value, column.type)
        native = kept_json.native(value)
        array = _made(native, column.type)
        cut = _may_cut(column.type) and not _holds(array[0].as_py(), native)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"column {column.name!r} is {column.type}, and cannot hold {value!r:.80}") from error
    if cut:
        raise ValueError(f"column {column.name!r} is {column.type}, and cannot hold {value!r:.80} exactly")
    return array


@functools.cache
def _may_cut(kind: pa.DataType) -> bool:
    """Whether pyarrow takes values for this type of which it then leaves something out: seconds, keys of a dict, or
    all but the sign of a large number.

    Rounding of floats is none. Lists of numbers are left out, for their cost.
    """
    if isinstance(kind, pa.ExtensionType):
        return False
    if pa.types.is_nested(kind):
        return pa.types.is_struct(kind) or not pa.types.is_primitive(kind.value_type) or _may_cut(kind.value_type)
    return bool(pa.types.is_temporal(kind) or pa.types.is_floating(kind))


def _holds(stored: Any, value: Any) -> bool:
    """Whether nothing of a value is lost, but for the rounding of floats."""
    if isinstance(value, dict):
        return isinstance(stored, dict) and all(_holds(stored.get(name), inner) for name, inner in value.items())
    if isinstance(value, list):
        same_length = isinstance(stored, list) and len(stored) == len(value)
        return same_length and all(map(_holds, stored, value))
    if isinstance(value, float) and isinstance(stored, float):  # rounded, but not to infinity; a NaN equals nothing
        return math.isinf(stored) <= math.isinf(value)
    return bool(stored == value)


def _made(value: Any, kind: pa.DataType) -> pa.Array:
    try:
        return pa.array([value], kind)
    except pa.ArrowNotImplementedError:  # of JSON in lists and structs, which it only casts to
        return pa.array([value], _plain(kind)).cast(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type with text in place of JSON, at any depth."""
    if isinstance(kind, pa.JsonType):
        return kind.storage_type
    if pa.types.is_struct(kind):
        return pa.struct([inner.with_type(_plain(inner.type)) for inner in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_field.with_type(_plain(kind.value_type))
        return pa.list_(inner) if pa.types.is_list(kind) else pa.large_list(inner)
    return kind
