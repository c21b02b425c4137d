"""Whether the files of a finished split are there. Light to import."""

from __future__ import annotations

from pathlib import Path

from wdsremux import files
from wdsremux.format.manifest import Manifest
from wdsremux.format.plain import check_plain


def missing(folder: Path, done: Manifest) -> set[str]:
    """The files of a split that are not there, of another size, or, where they are small, of another content.

    Raises:
        FormatError: if something that is no file stands under the name of one: it is not ours to remove.
    """
    lacking = set()
    for shard in done.shards:
        path = folder / shard.url
        if not path.exists() or check_plain(path) != shard.size_bytes:
            lacking.add(shard.url)
        lacking |= {name for name, sha256 in shard.files[1:] if not is_file(folder / name, sha256)}
    return lacking | {name for name, file in done.files.items() if not is_file(folder / name, file["sha256"])}


def is_file(path: Path, sha256: str) -> bool:
    """Whether there is a file of that content."""
    if not path.exists():
        return False
    check_plain(path)
    return files.sha256(path) == sha256
