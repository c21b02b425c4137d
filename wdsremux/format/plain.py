"""A file of a split, opened only if it is a plain one: a pipe would be waited for, and a device read, for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from wdsremux.errors import FormatError

MEND = "Delete it and run the same conversion again to rebuild it"  #: one of its size would be left alone
FREE = "Make it readable, or delete it and run the same conversion again"


def open_plain(path: Path, buffer_bytes: int = 2**13) -> BinaryIO:
    """Open a file for reading, as `open(path, "rb")` does.

    Raises:
        FormatError: if there is something else under its name: a folder, a pipe, a device.
        OSError: if it cannot be opened.
    """
    check_plain(path)
    return open(path, "rb", buffer_bytes, opener=_at_once)


def check_plain(path: Path) -> int:
    """The size in bytes of a plain file.

    Raises:
        FormatError: if there is something else under its name.
        OSError: if there is nothing, or it may not be looked at.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise FormatError(f"is not a regular file. {MEND}", path)
    return found.st_size


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # it may have become a pipe since
