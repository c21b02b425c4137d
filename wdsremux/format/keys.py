"""The `__key__` of a sample: the name under which it lies in a shard."""

from __future__ import annotations

import re

from wdsremux.errors import FormatError

_KEY = re.compile(r"(\d{6,})-(\d{6,})(?:-(\d+))?")


def key(fragment: int, row: int, part: int = 0) -> str:
    """The `__key__` of a sample: FFFFFF-RRRRRR, with -PART for further samples of a row.

    It depends on the source alone, not on shard size or plan. It holds no dot and no space, which break DALI's index.
    """
    stem = f"{fragment:06d}-{row:06d}"
    return f"{stem}-{part}" if part else stem


def place(key_: str) -> tuple[int, int, int]:
    """The (fragment, row, part) that a key names; the inverse of `key`.

    Raises:
        FormatError: if it is not such a key.
    """
    match = _KEY.fullmatch(key_)
    named = tuple(int(number or 0) for number in match.groups()) if match else ()
    if not named or key(*named) != key_:  # "-0" at the end, or a zero too many: a second key for the same sample
        raise FormatError(f"{key_!r} is not a key of a converted sample (FFFFFF-RRRRRR or FFFFFF-RRRRRR-PART)")
    return named[0], named[1], named[2]
