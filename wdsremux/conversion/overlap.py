"""SOURCE and OUT must lie apart: a conversion may neither read what it writes nor overwrite what it reads.

Folders are compared by what they are on the disk, not by their names: links and names in other capitals lead to one.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from wdsremux.errors import OutputError

_Identity = tuple[int, int]  #: device and number of a folder on it


def check_places(source: str, out: Path, split: Path) -> None:
    """Refuse a SOURCE folder and an OUT of which one lies in the other, before any of them is looked into.

    Args:
        source: as the user gave it.
        out: OUT.
        split: OUT/SPLIT, which may be a link.

    Raises:
        OutputError: if they overlap.
    """
    for place in (out, split):
        if os.path.isdir(source):
            _check_folder(source, Path(source), place)
        elif "**" in source and not os.path.lexists(source):
            root = source.partition("**")[0]
            while glob.has_magic(root):
                root = os.path.dirname(root)
            if os.path.isdir(root or "."):
                _check_folder(source, Path(root or "."), place)


def check_files(source: str, files: Iterable[str], out: Path, split: Path) -> None:
    """Refuse a source of which a file lies in OUT, also where links lead there.

    Raises:
        OutputError: if one does.
    """
    places = {identity for place in (out, split) if (identity := _identity(place)) is not None}
    if not places:
        return
    for folder in {os.path.dirname(file) for file in files}:
        if not places.isdisjoint(_above(Path(folder))):
            raise OutputError(
                f"{source} has files in {folder} of {out}, where this conversion would write. "
                "Choose an output folder that is separate from SOURCE"
            )


def _check_folder(source: str, folder: Path, out: Path) -> None:
    mine, theirs = _identity(folder), _identity(out)
    if mine is not None and mine in _above(out):
        where = "is the same folder as" if mine == theirs else "is inside"
        raise OutputError(
            f"{out} {where} SOURCE, {source}: what is written there would be read as part of the source. "
            "Choose an output folder that is separate from SOURCE"
        )
    if theirs is not None and theirs in _above(folder):
        raise OutputError(
            f"SOURCE, {source}, is inside {out}, where this conversion would write. "
            "Choose an output folder that is separate from SOURCE"
        )


def _above(path: Path) -> set[_Identity]:
    """A folder and those above it, as far as they exist."""
    return set(_identities(Path(os.path.realpath(path))))


def _identities(path: Path) -> Iterator[_Identity]:
    for folder in (path, *path.parents):
        if (found := _identity(folder)) is not None:
            yield found


def _identity(path: Path) -> _Identity | None:
    try:
        found = os.stat(os.path.realpath(path))  # in a name, .. may lead through a folder that is not there yet
    except OSError:  # it is not there yet, or may not be looked at
        return None
    return found.st_dev, found.st_ino
