"""Values of the kept columns: each as Python has it, exactly, or its row is at fault."""

from __future__ import annotations

import json
from collections.abc import Collection

import pyarrow as pa

from wdsremux import fine_times
from wdsremux.conversion.source.base import Fault


def exact(table: pa.Table, json_columns: Collection[str] = ()) -> tuple[pa.Table, dict[int, Fault]]:
    """Columns of which Python can have every value, and the rows at fault, by their place; those hold nulls.

    Args:
        table: the kept columns, N rows.
        json_columns: those of which a value is the text of a JSON file.
    """
    faults: dict[int, Fault] = {}
    columns = {}
    for name in table.column_names:
        column = fine_times.as_text(table.column(name))
        for place, reason in _inexact(column, name in json_columns).items():
            faults.setdefault(place, Fault(name, f"column {name!r} holds {reason}"))
        columns[name] = _as_json(column) if name in json_columns else column
    found = pa.table(columns) if columns else table
    if not faults:
        return found, {}
    places = pa.array([None if place in faults else place for place in range(len(found))], pa.int64())
    return found.take(places), faults


def _as_json(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts under the type that says that they are JSON, for `kept_json.rows`."""
    chunks = [pa.ExtensionArray.from_storage(pa.json_(), chunk.cast(pa.string())) for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.json_())


def _inexact(column: pa.ChunkedArray, is_json: bool) -> dict[int, str]:
    """Places of the values that Python cannot have as they are, with what they hold."""
    if not is_json and _is_sound(column):
        return {}
    return {place: reason for place in range(len(column)) if (reason := _reason(column, place, is_json))}


def _is_sound(column: pa.ChunkedArray) -> bool:
    try:
        column.validate(full=True)
        return not _has_time(column.type) or pa.chunked_array([column.to_pylist()], column.type).equals(column)
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        return False


def _reason(column: pa.ChunkedArray, place: int, is_json: bool) -> str | None:
    """What is wrong with one value; None if nothing is."""
    try:
        value = column[place].as_py()
        if is_json and value is not None:
            json.loads(value)
        if _has_time(column.type) and pa.scalar(value, column.type) != column[place]:
            return f"a value of {column.type} that is finer than Python's"
    except UnicodeDecodeError:
        return "text that is not UTF-8"
    except json.JSONDecodeError as error:
        return f"text that is no JSON: {error}"
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        return f"a value of {column.type} that Python cannot have: out of its range, or of an unknown time zone"
    return None


def _has_time(kind: pa.DataType) -> bool:
    """Whether dates or times are in it, at any depth."""
    if isinstance(kind, pa.DictionaryType):
        return _has_time(kind.value_type)
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return bool(pa.types.is_temporal(kind)) or any(map(_has_time, inner))
