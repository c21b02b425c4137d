"""One metadata file -> its columns, every value as it stands there, and the line that each row is from."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wdsremux.errors import SourceError, counted, one_line, printable

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")  #: as a machine writes it: "007" is a text
_NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_EXACT = 2**53  #: up to which every integer is a float, too


@dataclass(frozen=True, slots=True)
class Sheet:
    """What one metadata file holds."""

    file: str  #: path or address
    name: str  #: for errors
    rows: int
    values: Mapping[str, Sequence[Any] | pa.ChunkedArray]  #: by column; None where a row has none
    lines: Sequence[int] = ()  #: that each row begins at; empty where the format has none
    stored: pa.Schema | None = None  #: of a parquet file

    def where(self, row: int) -> str:
        return f"line {self.lines[row]} of {self.name}" if self.lines else f"row {row} of {self.name}"


def read(file: str, name: str, content: bytes) -> Sheet:
    """Read a file by its extension: .csv, .jsonl or .parquet.

    Raises:
        SourceError: naming the line, if it cannot be read.
    """
    if file.endswith(".parquet"):
        return _parquet(file, name, content)
    try:
        text = content.decode("utf-8-sig")  # Excel begins files with a mark that is no part of the first name
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(f"line {line} of {name} is not UTF-8. Save the file as UTF-8") from error
    return _csv(file, name, text) if file.endswith(".csv") else _jsonl(file, name, text)


def array(values: Sequence[Any], file: str) -> pa.Array:
    """Values of a column in the type that they all have.

    Raises:
        pa.ArrowException, TypeError, ValueError, OverflowError: if they have none.
    """
    return _of_cells(values) if file.endswith(".csv") else pa.array(values)


def _csv(file: str, name: str, text: str) -> Sheet:
    rows = list(_csv_rows(name, text))
    if not rows:
        raise SourceError(f"{name} is empty. Its first line must name the columns, including file_name")
    header = [cell or f"Unnamed: {place}" for place, cell in enumerate(rows[0][1])]  # as pandas calls them
    if twice := next((cell for cell in header if header.count(cell) > 1), None):
        raise SourceError(
            f"line {rows[0][0]} of {name} names the column {printable(twice)!r} twice. Rename one of them"
        )
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise SourceError(
                f"line {line} of {name} has {counted(len(cells), 'cell')}, but the first line names "
                f"{counted(len(header), 'column')}. Correct it: a cell that contains a comma must be in quotes"
            )
    columns = {column: [cells[place] or None for _, cells in rows[1:]] for place, column in enumerate(header)}
    return Sheet(file, name, len(rows) - 1, columns, [line for line, _ in rows[1:]])


def _csv_rows(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the lines that they begin at."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(f"line {line} of {name} is not a row of a CSV file: {error}. Correct it") from error


def _of_cells(cells: Sequence[str | None]) -> pa.Array:
    """Cells of a CSV column: integers or numbers if all are, else the exact texts."""
    present = {cell for cell in cells if cell is not None}
    if not present:
        return pa.nulls(len(cells))
    integers = [int(cell) for cell in present if len(cell) <= 20 and _INTEGER.fullmatch(cell)]
    if len(integers) == len(present) and min(integers) >= -(2**63) and max(integers) < 2**63:
        return pa.array([None if cell is None else int(cell) for cell in cells], pa.int64())
    if all(_is_number(cell) for cell in present):
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    if present <= _BOOLEANS.keys():
        return pa.array([None if cell is None else _BOOLEANS[cell] for cell in cells], pa.bool_())
    return pa.array(cells, pa.string())


def _is_number(cell: str) -> bool:
    """Whether a float may stand for it; long numbers without a point are names, such as those of files."""
    if not _NUMBER.fullmatch(cell) or math.isinf(float(cell)):
        return False
    return not cell.lstrip("-").isdigit() or abs(float(cell)) <= _EXACT


def _jsonl(file: str, name: str, text: str) -> Sheet:
    rows: list[dict[str, Any]] = []
    lines = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"line {line} of {name} is not JSON: {one_line(error)}. Correct it") from error
        if not isinstance(row, dict):
            raise SourceError(f"line {line} of {name} is {type(row).__name__}, not an object {{…}}. Correct it")
        rows.append(row)
        lines.append(line)
    columns = dict.fromkeys(column for row in rows for column in row)
    return Sheet(file, name, len(rows), {column: [row.get(column) for row in rows] for column in columns}, lines)


def _parquet(file: str, name: str, content: bytes) -> Sheet:
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name} cannot be read as parquet: {one_line(error)}. Write or download it again") from error
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return Sheet(file, name, len(table), columns, stored=table.schema)
