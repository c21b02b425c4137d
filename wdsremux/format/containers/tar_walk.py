"""A tar of ours read back: its samples in their order, and where their files lie.

Nothing is believed: a header is used only if its checksum holds, no member may reach past the end of the file, and what
lies between the members is zero, as it was written. So a damage is found at its first byte, and a hostile file costs no
more memory than the largest picture in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wdsremux.errors import FormatError
from wdsremux.format import keys
from wdsremux.format.containers.base import Member, StoredSample
from wdsremux.format.containers.tar_layout import BLOCK_BYTES
from wdsremux.format.plain import MEND
from wdsremux.format.samples import NO_LABEL

RECORD_BYTES = 20 * BLOCK_BYTES  #: the end of a tar is padded to whole records (POSIX.1-1988: 20 blocks)
EXTENSIONS = frozenset({"jpg", "cls", "json"})  #: what a conversion writes

_LABEL = re.compile(rb"0|[1-9]\d{0,18}")
_SIZE, _CHECKSUM = re.compile(rb"([0-7]{11})\0"), re.compile(rb"([0-7]{6})\0 ")  # as every writer fills them in
_MAGIC = b"ustar\x0000"  #: USTAR's, with its version; GNU's own kind has blanks here
_U4, _I8 = 2**32, 2**63


def walk(file: BinaryIO, path: Path, size_bytes: int) -> Iterator[StoredSample]:
    """Read a tar from front to end, one sample in memory at a time. See `Container.walk`.

    Raises:
        FormatError: naming the byte of the first damage.
    """
    tar = _Tar(file, path.name, size_bytes)
    key, held = "", dict[str, tuple[Member, bytes]]()
    for member, content in tar.members():
        stem = member.name.partition(".")[0]
        if held and stem != key:
            yield _sample(tar, key, held)
            held = {}
        if member.extension in held:
            raise tar.damage(member.offset - BLOCK_BYTES, f"{member.name} occurs twice")
        key, held[member.extension] = stem, (member, content)
    if held:
        yield _sample(tar, key, held)


def _sample(tar: _Tar, key: str, held: dict[str, tuple[Member, bytes]]) -> StoredSample:
    members = [member for member, _ in held.values()]
    first = members[0].offset - BLOCK_BYTES
    if "jpg" not in held:
        raise tar.damage(first, f"sample {key} has no .jpg")
    try:
        place = keys.place(key)
    except FormatError as error:
        raise tar.damage(first, str(error)) from error
    image, content = held["jpg"]
    if max(*place, image.size) >= _U4:
        raise tar.damage(first, f"sample {key} has values that are too large for the sample table")
    label = NO_LABEL
    if "cls" in held:
        written = held["cls"][1]
        label = int(written) if _LABEL.fullmatch(written) else _I8
        if label >= _I8:
            raise tar.damage(held["cls"][0].offset, f"{key}.cls does not contain a label (got {written[:20]!r})")
    return StoredSample(key, place, label, image.offset, content, members)


@dataclass(slots=True)
class _Tar:
    """A tar being read from front to end."""

    file: BinaryIO
    name: str
    size_bytes: int
    at: int = 0  #: bytes read so far

    def damage(self, at: int, what: str) -> FormatError:
        return FormatError(f"is damaged at byte {at}: {what}. {MEND}", self.name)

    def members(self) -> Iterator[tuple[Member, bytes]]:
        """Each member and its content, up to the tar's end."""
        while any(block := self._take(BLOCK_BYTES, "the two blocks of zeros that end a tar file are missing")):
            start = self.at - BLOCK_BYTES
            name, size = self._header(block, start)
            member = Member(name.partition(".")[2], self.at, size, name)
            content = self._take(size, f"{name} of {size} bytes extends past the end of the file")
            self._zeros(-size % BLOCK_BYTES, f"after {name}")
            yield member, content
        end = self.at + BLOCK_BYTES
        if self.size_bytes != end + -end % RECORD_BYTES:
            raise self.damage(self.at, f"the archive ends here, but the file has {self.size_bytes} bytes")
        self._zeros(self.size_bytes - self.at, "at the end of the archive")

    def _take(self, count: int, lacking: str) -> bytes:
        # Looked at first: read() sets aside what it is asked for, and a header can ask for 8 GB.
        content = self.file.read(count) if self.at + count <= self.size_bytes else b""
        if len(content) != count:
            raise self.damage(self.at, lacking)
        self.at += count
        return content

    def _zeros(self, count: int, where: str) -> None:
        start = self.at
        padding = self._take(count, f"the file ends {where}")
        if any(padding):
            raise self.damage(start + count - len(padding.lstrip(b"\0")), f"nonzero bytes {where}")

    def _header(self, block: bytes, start: int) -> tuple[str, int]:
        """Name and size of a member (POSIX.1-1988, section 10.1.1)."""
        checked = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if _octal(_CHECKSUM, block[148:156]) != checked:
            raise self.damage(start, "the header has a wrong checksum")
        if block[156:157] != b"0" or block[257:265] != _MAGIC:
            raise self.damage(start, "not a regular file in USTAR format")
        name, size = block[:100].partition(b"\0")[0].decode("ascii", "replace"), _octal(_SIZE, block[124:136])
        if size is None or name.partition(".")[2] not in EXTENSIONS or any(block[345:500]):
            raise self.damage(start, f"a member that no conversion writes, {name!r}")
        return name, size


def _octal(form: re.Pattern[bytes], digits: bytes) -> int | None:
    match = form.fullmatch(digits)
    return int(match[1], 8) if match else None
