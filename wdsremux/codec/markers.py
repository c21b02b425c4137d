"""What a JPEG's markers say (ITU-T T.81, annex B), read without decoding it."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from wdsremux.errors import ImageError

Data = bytes | memoryview  #: an image file's content; a memoryview has format "B"

START = b"\xff\xd8"
BASELINE = 0xC0  #: SOF0: 8-bit sequential Huffman

_SCAN = 0xDA  #: SOS
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_STRAY_BYTES = 2  #: before one marker, that are not taken for the rest of a lost segment
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  #: SOFn markers (table B.1)
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  #: markers without a length
_ORIENTATION = 0x0112  #: the EXIF tag
_INTEGERS = {1: "B", 3: "H", 4: "I"}  #: EXIF types that an orientation may have
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


@dataclass(frozen=True, slots=True)
class Header:
    """What a JPEG's markers say before the first scan (ITU-T T.81, annex B)."""

    frame: int  #: the SOF marker's low byte, 0xC0 for baseline
    precision: int  #: bits a sample
    width: int  #: in pixels, as stored
    height: int
    component_ids: tuple[int, ...]
    adobe_transform: int | None  #: of the APP14 segment: 0 RGB or CMYK, 1 YCbCr, 2 YCCK; None without one
    exif: bytes | None  #: the first Exif segment, from "Exif\\0\\0" on
    xmp: bytes | None  #: the last XMP segment

    @property
    def gpu_safe(self) -> bool:
        """Baseline, 8 bits, grey or YCbCr: what every GPU decoder takes."""
        components = len(self.component_ids)
        rgb_coded = components == 3 and (self.adobe_transform == 0 or self.component_ids == tuple(b"RGB"))
        return self.frame == BASELINE and self.precision == 8 and components in (1, 3) and not rgb_coded

    @property
    def orientation(self) -> int:
        """How the picture is turned (EXIF 2.32, tag 274); 1, upright, where nothing readable says otherwise."""
        found = None if self.exif is None else _exif_orientation(self.exif[6:])
        if found is None and self.xmp is not None and (match := _XMP_ORIENTATION.search(self.xmp)):
            found = int(match[1])
        return 1 if found is None else found


def header(data: Data) -> Header:
    """Read a JPEG's header.

    Raises:
        ImageError: if the markers do not lead to a frame header.
    """
    view, at, adobe, exif, xmp = memoryview(data), 2, None, None, None
    if bytes(view[:2]) != START:
        raise ImageError("not a JPEG: it does not begin with FF D8")
    try:
        while True:
            if view[at] != 0xFF:
                raise ImageError(f"not a sound JPEG: no marker at byte {at}")
            marker = view[at + 1]
            if marker == 0xFF or marker in _BARE:  # fill bytes may precede a marker
                at += 1 if marker == 0xFF else 2
                continue
            (length,) = struct.unpack_from(">H", view, at + 2)
            body = view[at + 4 : at + 2 + length]
            if marker in _FRAMES:
                precision, height, width, count = struct.unpack_from(">BHHB", body)
                ids = tuple(body[6 : 6 + 3 * count : 3])
                return Header(marker, precision, width, height, ids, adobe, exif, xmp)
            if marker == 0xEE and bytes(body[:5]) == b"Adobe" and len(body) > 11:
                adobe = body[11]
            elif marker == 0xE1 and exif is None and bytes(body[:6]) == b"Exif\0\0":
                exif = bytes(body)
            elif marker == 0xE1 and bytes(body[: len(_XMP)]) == _XMP:
                xmp = bytes(body)
            at += 2 + length
    except (IndexError, struct.error) as error:
        raise ImageError("not a sound JPEG: it ends inside its header") from error


def _exif_orientation(tiff: bytes) -> int | None:
    """The orientation in the first directory of EXIF's TIFF structure; None where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
            if tag == _ORIENTATION and kind in _INTEGERS:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], tiff, at + 8)
                return int(value)
    except struct.error:  # cut short: metadata alone never loses a picture
        pass
    return None


def scans(data: Data) -> int:
    """How many there are: within one a zero follows each FF. Those of a thumbnail are counted, too."""
    return bytes(data).count(bytes([0xFF, _SCAN]))


def tidied(data: Data) -> bytes:
    """A JPEG without the bytes that decoders skip: one or two, or zeros, before a marker of its header or its end.

    Where there are more of them they are what is left of a lost segment, and all is given back as it is.
    """
    content, kept, at = bytes(data), [START], 2
    while match := _MARKER.search(content, at):
        start, marker = match.start(), match[1][0]
        if len(content[at:start].strip(b"\0\xff")) > _STRAY_BYTES:
            return content
        if marker == _SCAN:
            return b"".join([*kept, _without_padding(content[start:])])
        at = start + 2 if marker in _BARE else start + 2 + int.from_bytes(content[start + 2 : start + 4])
        kept.append(content[start:at])
    return content


def plain(data: Data) -> bool:
    """Whether its segments follow each other without a byte between them, and its Huffman tables are in it.

    libjpeg skips stray bytes, and knows the tables that Motion JPEG leaves out. Others give the file up: DALI.
    """
    content = bytes(data)
    scan = content.find(bytes([0xFF, _SCAN]))
    # The last byte of a scan may be a zero of its own (5 % of photographs have one), so the end is not looked at.
    return tidied(content)[: max(scan, 0)] == content[: max(scan, 0)] and b"\xff\xc4" in content


def _without_padding(scans: bytes) -> bytes:
    """Scans without the zeros before the end marker; one after FF belongs to that."""
    end = scans.find(b"\xff\xd9")
    content = scans[:end].rstrip(b"\0")
    if end < 0 or len(content) == end:
        return scans
    return (content + b"\0" if content.endswith(b"\xff") else content) + scans[end:]
