"""Files beside pictures that say something of one picture each: 1.jpg + 1.txt, 1.json, 1.cls (img2dataset, kohya).

Each extension is a column. They are read when rows are, and only those that are asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import datasets
import pyarrow as pa

from wdsremux import files
from wdsremux.conversion.source import hub_files, retry
from wdsremux.conversion.source.base import Column, Fault
from wdsremux.conversion.source.image_files import MOST_BYTES
from wdsremux.errors import SourceError
from wdsremux.files import NotPlain

_AT_ONCE = 16  #: of a remote source: each file is a request of a tenth of a second
_TAKEN = "beside an image, with the name of another column (.{})"
_TWICE = "a second .{} beside an image"


@dataclass(frozen=True, slots=True)
class SideFiles:
    """Which files lie beside the pictures of the rows."""

    paths: Mapping[str, pa.Array]  #: by column: path or address, null where a row has none; string [N]
    columns: Mapping[str, Column]
    unread: Mapping[str, Sequence[str]]  #: paths by the column that they would be read for
    untaken: Mapping[str, Sequence[str]]  #: paths of others by the reason
    rest: Sequence[str]  #: paths of files that lie beside no picture


def find(
    rows: Sequence[str | None], pictures: Collection[str], beside: Sequence[str], taken: Collection[str]
) -> SideFiles:
    """Match files to pictures by folder and stem.

    Args:
        rows: the picture of each row.
        pictures: all of the split.
        beside: the other files.
        taken: names of columns that there are already.
    """
    if not beside:
        return SideFiles({}, {}, {}, {}, [])
    stems = {os.path.splitext(path)[0] for path in (*rows, *pictures) if path is not None}
    found: dict[str, dict[str, str]] = {}
    unread: dict[str, list[str]] = {}
    untaken: dict[str, list[str]] = {}
    rest = []
    for path in sorted(beside):
        stem, extension = os.path.splitext(path)
        column = extension[1:].lower()
        if not column or stem not in stems:
            rest.append(path)
            continue
        of_column = found.setdefault(column, {})
        if column in taken:
            untaken.setdefault(_TAKEN.format(column), []).append(path)
        elif stem in of_column:
            untaken.setdefault(_TWICE.format(column), []).append(path)
        else:
            of_column[stem] = path
            unread.setdefault(column, []).append(path)
    keys = [path and os.path.splitext(path)[0] for path in rows]
    paths = {column: pa.array([files.get(key or "") for key in keys], pa.string()) for column, files in found.items()}
    paths = {column: array for column, array in paths.items() if array.null_count < len(array)}
    return SideFiles(paths, {column: _column(column) for column in paths}, unread, untaken, rest)


def _column(name: str) -> Column:
    return Column(datasets.Json() if name == "json" else datasets.Value("string"), integers=name == "cls")


@dataclass(frozen=True, slots=True)
class Contents:
    """Reads side files. It travels to workers."""

    remote: bool
    faults: retry.Faults

    def read(self, column: str, paths: pa.Array) -> tuple[pa.Array, dict[int, Fault]]:
        """The texts of a column, and what is wrong with the rows that have none though there is a file.

        Raises:
            OSError: if a file that is there cannot be read.
            SourceError: likewise, on the Hub.
        """
        wanted = {place: path for place, path in enumerate(paths.to_pylist()) if path is not None}
        texts: list[str | None] = [None] * len(paths)
        faults = {}
        for place, found in zip(wanted, self._all(column, list(wanted.values())), strict=True):
            if isinstance(found, str):
                texts[place] = found
            else:
                faults[place] = found
        return pa.array(texts, pa.string()), faults

    def _all(self, column: str, paths: Sequence[str]) -> list[str | Fault]:
        if not self.remote:
            return [_text(column, _local, path) for path in paths]
        with ThreadPoolExecutor(_AT_ONCE, "wdsremux-side-file") as pool:
            return list(pool.map(lambda path: _text(column, self._fetched, path), paths))

    def _fetched(self, path: str) -> bytes:
        return fetched(path, self.faults)


def _local(path: str) -> bytes:
    return files.read_plain(path, MOST_BYTES)


def fetched(address: str, faults: retry.Faults) -> bytes:
    """A file of the Hub's.

    Raises:
        FileNotFoundError: if its commit has no such file.
        SourceError: if it cannot be read.
    """
    content = hub_files.content(address, faults)
    if content is None:
        raise SourceError(f"{address} is stored outside its data set. Download it")
    return content


def _text(column: str, content: Callable[[str], bytes], path: str) -> str | Fault:
    """A file's text without the line break at its end, or what is wrong with it."""
    try:
        found = content(path)
        if column == "json":
            text = found.decode("utf-8-sig")
            json.loads(text)
            return text
        text = found.decode()
        return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    except (FileNotFoundError, NotADirectoryError):
        return Fault(column, f"column {column!r}: there is no such file")
    except NotPlain as error:
        return Fault(column, f"column {column!r}: {error}")
    except PermissionError:
        return Fault(column, f"column {column!r}: the file may not be read")
    except UnicodeDecodeError:
        return Fault(column, f"column {column!r} holds text that is not UTF-8")
    except (ValueError, RecursionError):
        return Fault(column, f"column {column!r} holds what is not JSON")
