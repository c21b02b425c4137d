"""Files that are whole or absent: atomic writes, fsync, locks.

A kill, a power loss or a full disk leaves either the old file or the new one under a final name, never half of it:
write beside, fsync, rename, fsync of the folder (the order that ext4, xfs and btrfs document for it).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from wdsremux.errors import OutputError

_PIECE_BYTES = 2**30  #: what one read gives at most on some systems is a little under twice that
PARTIAL = ".partial"  #: suffix of a file that is being written; never read, removed by the next run


class NotPlain(OSError):
    """What is under a file's name is none: a device or a pipe, that never ends or never begins; or too large a file."""


def read_plain(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """The content of a plain file, as far as its size goes: there are files that give more than they are said to hold.

    It is opened without waiting, and looked at once it is open: it may have become something else since.

    Raises:
        NotPlain: if it is something else than a file, or holds more than `most_bytes`.
        OSError: if it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        about = os.fstat(descriptor)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(about.st_mode):
            raise NotPlain("it is no file but a device or a pipe")
        if about.st_size > most_bytes:
            raise NotPlain(f"it has {about.st_size:,} bytes, more than any image that is taken")
        pieces, left = [], about.st_size
        while left and (piece := os.read(descriptor, min(left, _PIECE_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(descriptor)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside `folder` durable."""
    sync(folder)


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


def sync(path: Path) -> None:
    """Make the content of a file durable that another library has written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
