"""What a tar shard looks like inside: its members and where they lie, and DALI's index beside it.

A shard is a USTAR archive (POSIX.1-1988) as webdataset reads it: the files of a sample share a key and are adjacent.
Whole-second times of 0, no owner, and short names keep each member to one header block of 512 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wdsremux.format.containers.base import Member

BLOCK_BYTES = 512  #: tar's unit: a header is one block, content is padded to whole blocks
INDEX_VERSION = "v1.2"  #: of DALI's webdataset index, as its wds2idx writes it


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
