"""A file, a glob, or a folder of `save_to_disk` -> its files."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import Any

import braceexpand

from wdsremux.conversion.source.base import Opened
from wdsremux.conversion.source.file_kinds import owner
from wdsremux.conversion.source.finding.splits import no_such_split
from wdsremux.errors import SourceError, one_line

_STATE, _SPLITS = "state.json", "dataset_dict.json"  #: what save_to_disk leaves in a folder


def is_pattern(source: str) -> bool:
    """Whether it stands for several files; a folder may be called photos[1]."""
    return (glob.has_magic(source) or "{" in source) and not os.path.lexists(source)


def of_files(source: str, split: str) -> Opened:
    """The files of a glob, with braces or without, or a single file; all of them are one split.

    Raises:
        SourceError: if there is none, or they are of several kinds.
    """
    found = _matching(source)
    kinds = {file: owner(file) for file in found}
    examples = {kind: file for file, kind in reversed(kinds.items()) if kind is not None}
    if not found:
        raise SourceError(f"no file matches {source}. Check the pattern, or give a folder or a Hub id")
    if not examples:
        raise SourceError(
            f"{source} matches no parquet, Arrow, image or tar files, only others such as "
            f"{os.path.basename(found[0])}. Convert it to one of those first"
        )
    if len(examples) > 1:
        listed = ", ".join(sorted(f"{kind.name} ({os.path.basename(file)})" for kind, file in examples.items()))
        raise SourceError(f"{source} matches files of several kinds: {listed}. Give a narrower glob")
    (kind,) = examples
    taken = tuple(file for file in found if kinds[file] is not None)
    others = tuple(file for file in found if kinds[file] is None)
    root = os.path.commonpath([os.path.dirname(file) for file in found])
    beside = others if kind.are_images else ()
    untaken = {"of another kind": [os.path.relpath(file, root) for file in others]} if others and not beside else {}
    return Opened(
        kind=kind.name,
        name=os.path.basename(root),
        root=root,
        split=split,
        splits={split: taken},
        how="a glob, whose files are all one split",
        beside=beside,
        untaken=untaken,
    )


def _matching(source: str) -> list[str]:
    if os.path.lexists(source):
        return [os.path.abspath(source)]
    try:
        patterns = list(braceexpand.braceexpand(source)) if "{" in source else [source]
    except ValueError as error:
        raise SourceError(f"{source} has an unclosed brace. Write {{000..003}} or {{a,b}}") from error
    found = [path for each in patterns for path in glob.glob(os.path.abspath(each), recursive=True)]
    return sorted({path for path in found if os.path.isfile(path)})


def saved_to_disk(folder: Path, split: str) -> Opened | None:
    """A folder of `save_to_disk`, of one split or several; None if it is none.

    Raises:
        SourceError: if it is damaged, or has no such split.
    """
    if (folder / _SPLITS).is_file():
        names = [str(name) for name in _read(folder / _SPLITS, "splits")]
        files = {name: tuple(_files(folder / name)) for name in names}
        return _opened(folder, folder / split, split, files)
    if not (folder / _STATE).is_file():
        return None
    found = tuple(_files(folder))
    named = json.loads((folder / _STATE).read_bytes()).get("_split")
    return _opened(folder, folder, split, {str(named or split): found})


def _opened(folder: Path, root: Path, split: str, files: dict[str, tuple[str, ...]]) -> Opened:
    how = "what save_to_disk wrote"
    if split not in files:
        raise no_such_split(str(folder), split, files, how)
    return Opened(kind="arrow", name=folder.name, root=str(root), split=split, splits=files, how=how)


def _files(folder: Path) -> list[str]:
    path = folder / _STATE
    try:
        return [str(folder / entry["filename"]) for entry in _read(path, "_data_files")]
    except (KeyError, TypeError) as error:
        raise _strange(path, error) from error


def _read(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())[key]
        if not isinstance(found, list):
            raise TypeError(f"{key} is not a list")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _strange(path, error) from error
    return found


def _strange(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path} is not what save_to_disk writes: {one_line(error)}. Save it again")
