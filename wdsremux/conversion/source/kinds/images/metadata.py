"""Metadata files beside pictures (metadata.csv, .jsonl, .parquet) -> rows: what they say of each picture.

A row names its picture, relative to the metadata file's folder, in the column file_name; mask_file_name names another
one, which becomes the column mask. The rows come in the order of the files, as `datasets` gives them. Values stay what
they are: pandas, through which `datasets` reads, makes 7 of "007", and null of a class that is called "NA" or "None".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute
from datasets import Features

from wdsremux.conversion.source.base import Column
from wdsremux.conversion.source.kinds.images import sheets
from wdsremux.conversion.source.kinds.images.sheets import Sheet
from wdsremux.errors import SourceError, one_line, printable

_FILE_NAME = "file_name"
_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError)  #: of values that Arrow cannot hold


@dataclass(frozen=True, slots=True)
class Described:
    """Rows of metadata: pictures by their paths, and what is said of them."""

    columns: Mapping[str, Column]  #: by name
    table: pa.Table  #: the same columns; images as structs of bytes, all null, and path


def read(files: Sequence[str], content: Callable[[str], bytes], shown: Callable[[str], str]) -> Described:
    """Read the metadata files of a split.

    Args:
        files: their paths or addresses.
        content: gives that of one of them.
        shown: gives its name for errors.

    Raises:
        SourceError: if one of them cannot be read, or does not name pictures.
    """
    if len(endings := sorted({os.path.splitext(file)[1] for file in files})) > 1:
        raise SourceError(
            f"{shown(files[0])} and other metadata are in different formats ({', '.join(endings)}), so it is "
            "unclear which one to use. Keep the files of one format"
        )
    found = [sheets.read(file, shown(file), content(file)) for file in files]
    images = _images(found)
    columns: dict[str, Column] = {}
    arrays: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name in dict.fromkeys(name for sheet in found for name in sheet.values):
        if name in images:
            columns[images[name]] = Column(datasets.Image())
            arrays[images[name]] = pictures([path for sheet in found for path in _paths(sheet, name)])
        else:
            columns[name], arrays[name] = _column(found, name)
    return Described(columns, pa.table(arrays))


def pictures(paths: Sequence[str | None]) -> pa.Array:
    """Images of which only the paths are known."""
    return pa.StructArray.from_arrays(
        [pa.nulls(len(paths), pa.binary()), pa.array(paths, pa.string())], ["bytes", "path"]
    )


def _images(found: Sequence[Sheet]) -> dict[str, str]:
    """The columns that name pictures, and what the columns of the pictures are called.

    Raises:
        SourceError: if there are none, or one would be called like another column.
    """
    names = list(dict.fromkeys(name for sheet in found for name in sheet.values))
    images = {
        name: name[: -len(_FILE_NAME)].removesuffix("_") or "image"
        for name in names
        if (name == _FILE_NAME or name.endswith(f"_{_FILE_NAME}")) and all(_texts(sheet, name) for sheet in found)
    }
    for sheet in found:
        if not any(name in sheet.values for name in images):
            raise SourceError(
                f"{sheet.name} has no text column file_name that names the image of each row. "
                f"Its columns: {printable(', '.join(sheet.values)) or 'none'}"
            )
    called = [*images.values(), *(name for name in names if name not in images)]
    if twice := next((name for name in called if called.count(name) > 1), None):
        origin = next(name for name, image in images.items() if image == twice)
        raise SourceError(
            f"{found[0].name} has a column {printable(origin)!r}, which becomes the image column {printable(twice)!r}, "
            "and another column with that name. Rename one of them"
        )
    return images


def _texts(sheet: Sheet, name: str) -> bool:
    values = sheet.values.get(name, ())
    if isinstance(values, pa.ChunkedArray):
        return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))
    return all(value is None or isinstance(value, str) for value in values)


def _paths(sheet: Sheet, name: str) -> list[str | None]:
    """Where the pictures of a column lie.

    Raises:
        SourceError: if one lies outside the metadata's folder, of which a stranger's metadata must not tell.
    """
    if name not in sheet.values:
        return [None] * sheet.rows
    values = sheet.values[name]
    found: list[str | None] = []
    folder = sheet.file.rpartition("/")[0]
    for row, value in enumerate(values.to_pylist() if isinstance(values, pa.ChunkedArray) else values):
        if not value:
            found.append(None)
            continue
        path = os.path.normpath(value).replace("\\", "/")
        if "://" in value or path.startswith("/") or path.split("/")[0] == ".." or "\0" in path:
            raise SourceError(
                f"{sheet.where(row)} names an image {printable(value)!r} that is not in the folder of {sheet.name}. "
                "Use names relative to that folder"
            )
        if not _encodable(path):
            raise SourceError(f"{sheet.where(row)} names an image {printable(value)!r} that is not UTF-8. Rename it")
        found.append(f"{folder}/{path}")
    return found


def _encodable(path: str) -> bool:
    return path == path.encode(errors="replace").decode()


def _column(found: Sequence[Sheet], name: str) -> tuple[Column, pa.ChunkedArray | pa.Array]:
    """A column that is no image, over all files."""
    try:
        array = _stored(found, name) if found[0].stored else sheets.array(_values(found, name), found[0].file)
    except _UNFIT as error:
        rows = sum(sheet.rows for sheet in found)
        return Column(pa.null(), clash=_clash(found, name, error)), pa.nulls(rows)
    feature = _feature(found, pa.field(name, array.type))
    column = Column(feature)
    if isinstance(feature, datasets.ClassLabel):
        column = replace(column, names={0: tuple(feature.names)})
    if pa.types.is_integer(array.type) and array.null_count < len(array):
        column = replace(column, least=pa.compute.min(array).as_py())
    return column, array


def _values(found: Sequence[Sheet], name: str) -> list[Any]:
    return [value for sheet in found for value in sheet.values.get(name, [None] * sheet.rows)]


def _stored(found: Sequence[Sheet], name: str) -> pa.ChunkedArray:
    """A column of parquet files, in a type that holds all of it."""
    tables = [pa.table({name: sheet.values.get(name, pa.nulls(sheet.rows))}) for sheet in found]
    column = pa.concat_tables(tables, promote_options="permissive").column(0)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _feature(found: Sequence[Sheet], field: pa.Field) -> Any:
    """What `datasets` makes of a column: what the parquet file says, or what follows from its type."""
    stored = found[0].stored
    try:
        stated = stored and stored.metadata and Features.from_arrow_schema(stored).get(field.name)
        if stated and stored is not None and stored.field(field.name).type == field.type:
            return stated
        return Features.from_arrow_schema(pa.schema([field]))[field.name]
    except (ValueError, TypeError, KeyError, NotImplementedError):  # what it raises of types that it does not know
        return field.type


def _clash(found: Sequence[Sheet], name: str, error: Exception) -> str:
    """Two values that do not go into one column, in words."""
    first: tuple[str, str] | None = None
    for sheet in found:
        values = sheet.values.get(name, ())
        if isinstance(values, pa.ChunkedArray):
            kinds = [(str(values.type), sheet.name)]
        else:
            kinds = [(type(value).__name__, sheet.where(row)) for row, value in enumerate(values) if value is not None]
        for kind, where in kinds:
            first = first or (kind, where)
            if kind != first[0]:
                return f"it is {first[0]} in {first[1]} but {kind} in {where}"
    return f"its values cannot be stored in one column: {printable(one_line(error))}"
