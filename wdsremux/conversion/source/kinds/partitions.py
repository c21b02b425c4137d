"""Columns that stand in the folders' names, as Hive, Spark and DuckDB write them: label=3/part-0.parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

_NULL = "__HIVE_DEFAULT_PARTITION__"  #: how they write null


def of_file(name: str) -> Mapping[str, str | None]:
    """The columns that a file's path states, by name; values as text."""
    folders = (folder.partition("=") for folder in name.split("/")[:-1])
    found = {unquote(column): unquote(value) for column, equals, value in folders if equals and column}
    return {column: None if value == _NULL else value for column, value in found.items()}


def types(files: Sequence[str]) -> Mapping[str, pa.DataType]:
    """The columns that some paths state: int64 where every value is an integer, else string."""
    found: dict[str, list[str | None]] = {}
    for name in files:
        for column, value in of_file(name).items():
            found.setdefault(column, []).append(value)
    return {column: pa.int64() if _are_integers(values) else pa.string() for column, values in found.items()}


def append(table: pa.Table, name: str, kind: pa.DataType, file: str) -> pa.Table:
    """A table with a column that the file's path states."""
    value = of_file(file).get(name)
    scalar = pa.scalar(None if value is None else int(value) if kind == pa.int64() else value, kind)
    return table.append_column(name, pa.repeat(scalar, len(table)))


def _are_integers(values: Sequence[str | None]) -> bool:
    """Whether texts are integers as they would be written; a leading zero is part of a name."""
    known = [value for value in values if value is not None]
    return bool(known) and all(value.lstrip("-").isdecimal() and str(int(value)) == value for value in known)
