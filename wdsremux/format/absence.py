"""Why there is no finished split where one was looked for, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wdsremux.format import underway
from wdsremux.format.underway import MANIFEST, WORK

_TABLES = (".parquet", ".arrow", ".tar", ".tar.gz", ".tgz")
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_DEPTH = 3  #: folders below the one that was given, as in photos/train/cat/1.jpg
_ENTRIES = 2_000  #: of folders that are looked at, so that the answer comes at once on any disk
_TABLE = "samples.npy"  #: what every converted split has


def of_split(folder: Path) -> str:
    """What to say where OUT/SPLIT was asked for, and holds no manifest."""
    out = folder.parent
    if said := _of_folder(out):
        return said
    if begun := underway.read(folder):
        return f"{folder} is not finished: {begun}. Run the same conversion again to resume"
    if splits := _splits(out):
        return f"{out} contains no finished split {folder.name!r}, only {', '.join(splits)}"
    if _looks_like_a_source(out):
        return _source(out)
    return f"{folder} contains no finished split: {MANIFEST} is missing. Run `wdsremux convert` to create or finish it"


def of_set(out: Path) -> str:
    """What to say where OUT was asked for, and no folder in it holds a manifest."""
    if said := _of_folder(out):
        return said
    if begun := underway.read_all(out):
        splits = ", ".join(f"{split.split} is not finished ({split})" for split in begun)
        return f"{out} contains no finished split: {splits}. Run the same conversion again to resume"
    if _looks_like_a_source(out):
        return _source(out)
    return f"{out} contains no finished split. Run `wdsremux convert SOURCE {out}` to create one"


def _of_folder(out: Path) -> str:
    """What is wrong with OUT itself; empty if nothing is."""
    if (out / MANIFEST).exists():
        above = out.resolve().parent if out.name in ("", "..") else out.parent  # as of "." itself
        splits = ", ".join(_splits(above))
        return f"{out} is itself a split of a converted set. Give the folder of the set, {above}. Its splits: {splits}"
    if not out.exists():
        return f"{out} does not exist. Run `wdsremux convert SOURCE {out}` to create it"
    return ""


def _source(out: Path) -> str:
    return f"{out} looks like a source, not a converted set. Convert it first: wdsremux convert {out} OUT"


def _splits(out: Path) -> list[str]:
    return sorted(path.parent.name for path in out.glob(f"*/{MANIFEST}"))


def _looks_like_a_source(out: Path) -> bool:
    for looked_at, name in enumerate(_names(out, _DEPTH)):
        if name.lower().endswith(_TABLES + _IMAGES):
            return True
        if looked_at >= _ENTRIES:
            return False
    return False


def _names(folder: Path, depth: int) -> Iterator[str]:
    """The names of files in a folder and those below it; not of what a conversion has made."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # may not be read, or is a file
        return
    if {WORK, _TABLE} & {entry.name for entry in entries}:
        return
    yield from (entry.name for entry in entries if entry.is_file())
    if depth:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _names(folder / entry.name, depth - 1)
