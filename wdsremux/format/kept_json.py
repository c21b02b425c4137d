"""The columns of --keep, as the JSON that goes into a sample's tar member."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table of kept columns, as Python values; a column that holds JSON is parsed."""
    columns = [_values(table.column(name)) for name in table.column_names]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if str(column.type) == "extension<arrow.json>":
        return [None if value is None else json.loads(value) for value in values]
    return values


def dumps(values: Mapping[str, Any]) -> bytes:
    """One row's kept columns, in the order of --keep; nested and null values included.

    JSON knows neither NaN nor infinity (RFC 8259, section 6): they become null. What else it does not know (dates,
    decimals) is written as text; half of a surrogate pair, which is no character, as its escape.
    """
    return value(dict(values)).encode(errors="backslashreplace")


def value(value_: Any) -> str:
    """Any value that may be kept, as JSON."""
    return json.dumps(_plain(value_), ensure_ascii=False, separators=(",", ":"), default=str)


def native(value_: Any) -> Any:
    """A value without numpy's and torch's types, which a recipe may return."""
    if isinstance(value_, dict):
        return {name: native(inner) for name, inner in value_.items()}
    if hasattr(value_, "tolist"):
        return value_.tolist()
    if isinstance(value_, list | tuple):
        return [native(inner) for inner in value_]
    return value_


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):  # numpy's and torch's, which a recipe may return
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
