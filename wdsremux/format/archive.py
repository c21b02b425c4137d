"""What a shard looks like inside: keys, tar members and where they lie, and DALI's index beside it.

A shard is a USTAR archive (POSIX.1-1988) as webdataset reads it: the files of a sample share a key and are adjacent.
Whole-second times of 0, no owner, and short names keep each member to one header block of 512 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from wdsremux.errors import FormatError

BLOCK_BYTES = 512  #: tar's unit: a header is one block, content is padded to whole blocks
INDEX_VERSION = "v1.2"  #: of DALI's webdataset index, as its wds2idx writes it

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


def shard_name(split: str, number: int) -> str:
    """The file name of a shard, such as train-000012.tar."""
    return f"{split}-{number:06d}.tar"


def shard_number(name: str) -> int:
    """The number in a shard's file name; the inverse of `shard_name`."""
    return int(name.removesuffix(".tar").rpartition("-")[2])


def index_name(shard: str) -> str:
    """The file name of DALI's index beside a shard."""
    return shard.removesuffix(".tar") + ".idx"


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a tar."""

    extension: str  #: such as "jpg": all that follows the key's dot
    offset: int  #: of the first byte of content in the tar
    size: int  #: of the content, in bytes
    name: str  #: key and extension


@dataclass(slots=True)
class Layout:
    """Where the next member of a tar will lie; the arithmetic of tar, so that nothing is read back."""

    position: int = 0

    def add(self, key_: str, sizes: dict[str, int]) -> list[Member]:
        """The members of a sample, in the order in which ShardWriter writes them: by extension.

        Args:
            key_: the sample's key.
            sizes: content size in bytes by extension.
        """
        members = []
        for extension in sorted(sizes):
            offset, size = self.position + BLOCK_BYTES, sizes[extension]
            members.append(Member(extension, offset, size, f"{key_}.{extension}"))
            self.position = offset + -(-size // BLOCK_BYTES) * BLOCK_BYTES
        return members


def index_text(samples: Iterable[list[Member]]) -> bytes:
    """DALI's index (version 1.2): a header, then a line a sample with `extension offset size name` a member."""
    lines = [" ".join(f"{m.extension} {m.offset} {m.size} {m.name}" for m in members) for members in samples]
    return "\n".join([f"{INDEX_VERSION} {len(lines)}", *lines, ""]).encode("ascii")
