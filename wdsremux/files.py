"""Files that are whole or absent: atomic writes, fsync, locks.

A kill, a power loss or a full disk leaves either the old file or the new one under a final name, never half of it:
write beside, fsync, rename, fsync of the folder (the order that ext4, xfs and btrfs document for it).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from wdsremux.errors import OutputError

PARTIAL = ".partial"  #: suffix of a file that is being written; never read, removed by the next run


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are not there; their names are durable when this returns."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(made):
        with contextlib.suppress(PermissionError):  # a folder may be open to new names and closed to readers
            sync_folder(folder.parent)


def sync_and_close(file: BinaryIO) -> None:
    """Flush, fsync and close a file; closes it too when the disk is full."""
    try:
        file.flush()
        os.fsync(file.fileno())
    finally:
        file.close()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under `path` only when the block ends without an error.

    Readers see the old content or the new one. If the block raises, the partial file is removed.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    partial.unlink(missing_ok=True)  # a killed run's; or a link, which writing would follow to wherever it leads
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def locked(path: Path, busy: str, timeout_s: float = 0.0) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the system drops it when the process dies, however it dies.

    Raises:
        OutputError: with the sentence `busy`, if another process still holds it after `timeout_s` seconds.
    """
    lock = FileLock(path, timeout=timeout_s)
    try:
        with lock:
            yield
    except Timeout as error:
        raise OutputError(busy) from error


def free_bytes(folder: Path) -> int:
    """What a user may still write on the disk of a folder that exists."""
    return shutil.disk_usage(folder).free


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
