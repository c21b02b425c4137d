"""One walk over a folder on this machine: the files at any depth, and the names of what is passed over."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wdsremux.errors import SourceError, printable

HIDDEN = "hidden"
BROKEN = "a broken link"
ENDLESS = "a link to a folder above it"
OTHER = "of another kind"
CARDS = ("README.md", ".huggingface.yaml")  #: dataset cards
#: What describes the data, or is a program's note to itself; nobody misses it.
_IGNORED = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", *CARDS}


@dataclass(frozen=True, slots=True)
class Tree:
    """What a walk found. Names are relative to the folder."""

    files: Sequence[str]  #: sorted, as `datasets` sorts paths
    untaken: Mapping[str, Sequence[str]]  #: names by the reason; a folder that was not entered ends in "/"


@dataclass(frozen=True, slots=True)
class _Folder:
    place: str  #: relative to the root: "" or "cat/"
    above: tuple[str, ...]  #: the real paths of this folder and all through which the walk came to it


def walk(root: str) -> Tree:
    """List a folder. Linked folders are entered (huggingface/datasets#6853), but for those that would never end.

    Raises:
        SourceError: if a folder may not be listed.
    """
    files: list[str] = []
    untaken: dict[str, list[str]] = {}
    pending = [_Folder("", (os.path.realpath(root),))]
    while pending:
        folder = pending.pop()
        for entry in _entries(os.path.join(root, folder.place)):
            name = folder.place + entry.name
            if entry.name in _IGNORED:
                continue
            reason = _passed_over(entry, folder.above)
            if reason:
                untaken.setdefault(reason, []).append(_shown(name, _is_folder(entry)))
            elif entry.is_dir():
                pending.append(_Folder(f"{name}/", (*folder.above, _real(entry, folder.above[-1]))))
            else:
                files.append(name)
    return Tree(sorted(files), {reason: tuple(sorted(names)) for reason, names in untaken.items()})


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise SourceError(
            f"{printable(path)} cannot be listed: {error.strerror}. Make it readable, or move it out of the source"
        ) from error


def _passed_over(entry: os.DirEntry[str], above: Sequence[str]) -> str | None:
    """Why an entry is not taken; None if it is. What is hidden is what `datasets` leaves out."""
    if entry.name.startswith("."):
        return HIDDEN
    if _is_folder(entry):
        if entry.name.startswith("__"):
            return HIDDEN
        return ENDLESS if entry.is_symlink() and _endless(os.path.realpath(entry.path), above) else None
    try:
        if entry.is_file():
            return None
    except OSError:  # links that lead to each other
        return BROKEN
    return BROKEN if entry.is_symlink() else OTHER  # a socket or a pipe


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _endless(target: str, above: Sequence[str]) -> bool:
    """Whether a walk into a linked folder would come to the link again: the folder holds one that it came through."""
    return any(path == target or path.startswith(target.rstrip("/") + "/") for path in above)


def _real(entry: os.DirEntry[str], parent: str) -> str:
    return os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(parent, entry.name)


def _shown(name: str, folder: bool) -> str:
    """A name that can be printed, whatever bytes the disk has for it."""
    return decodable(f"{name}/" if folder else name)


def decodable(name: str) -> str:
    """A name in which bytes that are not UTF-8 are escaped."""
    return name if is_utf8(name) else printable(name)


def is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()
