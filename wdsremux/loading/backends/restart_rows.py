"""The rows of each crop, cut out of a batch's JPEGs before they are decoded.

In sets that were converted with --restart-rows, a restart marker (ITU-T T.81, E.1.4) ends each row of minimum coded
units: beyond it a decoder needs nothing of what came before. So the rows of units that a crop lies in are a JPEG of
their own, with another height in its frame header and its markers numbered anew. Slide viewers do the same.

A whole batch is cut at once, in numpy: 16 us an image of 256 px, of whose 265 us of decoding it saves 69. Image by
image, in the threads that decode, it took 27, and all that it saved was lost to waiting for the interpreter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdsremux.codec.markers import BASELINE, Data
from wdsremux.loading.reader.encoded import Encoded, packed

Ints = NDArray[np.int64]

_DRI, _SOS, _EOI = 0xDD, 0xDA, 0xD9
_RST = 0xD0  #: the first of eight, which take turns
_HEADER_BYTES = 4096  #: in which the scan has to begin, of a JPEG that can be cut; ours have 629
_CONTEXT = 1  #: rows of pixels on either side of a crop that its chroma is interpolated from


@dataclass(frozen=True, slots=True)
class Strips:
    """What is decoded of a batch's images: some rows of each."""

    buffer: NDArray[np.uint8]  #: their JPEGs, one after the other
    starts: Ints  #: int64 [N]: where in the buffer each begins
    sizes: Ints  #: int64 [N]: of each, in bytes
    tops: Ints  #: int64 [N]: the picture's row that is the first of them
    heights: Ints  #: int64 [N]: how many rows they are

    def jpeg(self, i: int) -> memoryview:
        """The file content of one."""
        return self.buffer[self.starts[i] : self.starts[i] + self.sizes[i]].data


def whole(encoded: Encoded) -> Strips:
    """All rows of all images."""
    return Strips(encoded.buffer, encoded.starts, encoded.sizes, np.zeros_like(encoded.height), encoded.height)


def cut(encoded: Encoded, boxes: NDArray[Any]) -> Strips:
    """The fewest rows of each image that decode to its crop's pixels, the very same as from the whole.

    An image is left whole where it has no restart marker after each row of units, where its header is another than that
    of the batch's first, or where the sample table says another height: decoding it tells what is wrong. Damage outside
    of the rows goes unseen.

    Args:
        encoded: N images.
        boxes: integers [N, 4], x y width height in pixels: the crops.
    """
    layout = _layout(encoded.image(0).data)
    if layout is None:
        return whole(encoded)
    rows = -(-encoded.height // layout.unit)  # of units, as the next two
    first = np.maximum(boxes[:, 1] - _CONTEXT, 0) // layout.unit
    end = np.minimum(-(-(boxes[:, 1] + boxes[:, 3] + _CONTEXT) // layout.unit), rows)
    less = end - first < rows
    if not less.any():
        return whole(encoded)
    edges = _edges(encoded, layout)
    cuttable = less & _same_header(encoded, layout) & (edges.counts == rows - 1)
    return _strips(encoded, layout, edges, np.where(cuttable, first, 0), np.where(cuttable, end, rows), cuttable)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things lie in a JPEG that can be cut, and what is in them."""

    height_at: int  #: of the frame header's two bytes; two of the width follow
    interval_at: int  #: of the two bytes that say how many units lie between restart markers
    unit: int  #: rows of pixels of a minimum coded unit
    across: int  #: columns of it
    start: int  #: of the entropy-coded bytes


@dataclass(frozen=True, slots=True)
class _Edges:
    """The restart markers of all images."""

    at: Ints  #: int64 [M]: where in the buffer
    image: Ints  #: int64 [M]: whose
    number: Ints  #: int64 [M]: 0 for an image's first
    counts: Ints  #: int64 [N]: how many an image has; -1 where they do not take turns as they should
    firsts: Ints  #: int64 [N]: the place of an image's first among all


def _layout(data: Data) -> _Layout | None:
    """None for a JPEG that cannot be cut: not baseline, several scans, no marker at each row of units; or damaged."""
    view, at = memoryview(data), 2
    height_at = interval_at = unit = across = count = 0
    try:
        while at < _HEADER_BYTES and view[at] == 0xFF:
            marker, (length,) = view[at + 1], struct.unpack_from(">H", view, at + 2)
            if marker == BASELINE:
                height_at, count = at + 5, view[at + 9]
                factors = view[at + 11 : at + 11 + 3 * count : 3] if count > 1 else b"\x11"  # alone, it is not used
                across, unit = 8 * max(factor >> 4 for factor in factors), 8 * max(factor & 15 for factor in factors)
            elif marker == _DRI:
                interval_at = at + 4
            elif marker == _SOS:
                sound = height_at and interval_at and unit and across and view[at + 4] == count
                sound = sound and at + 2 + length <= _HEADER_BYTES  # a whole batch's are compared, side by side
                return _Layout(height_at, interval_at, unit, across, at + 2 + length) if sound else None
            at += 2 + length
    except (IndexError, ValueError, struct.error):  # cut short
        pass
    return None


def _same_header(encoded: Encoded, layout: _Layout) -> NDArray[np.bool]:
    """[N]: whether all before the entropy-coded bytes is as in the first image, sizes as the table says them."""
    places = encoded.starts[:, None] + np.arange(layout.start)
    headers = encoded.buffer[np.minimum(places, len(encoded.buffer) - 1)]
    sizes = {
        layout.height_at: encoded.height,
        layout.height_at + 2: encoded.width,
        layout.interval_at: -(-encoded.width // layout.across),
    }
    same = encoded.sizes > layout.start
    for at, size in sizes.items():
        same &= (headers[:, at] == size >> 8) & (headers[:, at + 1] == size & 0xFF)
        headers[:, at : at + 2] = 0
    same &= (headers == headers[0]).all(1)
    return same


def _edges(encoded: Encoded, layout: _Layout) -> _Edges:
    """Within entropy-coded bytes, FF is followed by 0 or by a restart marker's number."""
    buffer, starts, ends, count = encoded.buffer, encoded.starts, encoded.starts + encoded.sizes, len(encoded)
    at = np.flatnonzero(buffer[:-1] == 0xFF)
    at = at[(buffer[at + 1] & 0xF8) == _RST]
    image = np.searchsorted(starts, at, side="right") - 1
    coded = (at >= starts[image] + layout.start) & (at < ends[image] - 1)
    at, image = at[coded], image[coded]
    counts = np.bincount(image, minlength=count)
    firsts = np.cumsum(counts) - counts
    number = np.arange(len(at)) - firsts[image]
    counts[image[buffer[at + 1] != _RST + number % 8]] = -1
    return _Edges(at, image, number, counts, firsts)


def _strips(
    encoded: Encoded, layout: _Layout, edges: _Edges, first: Ints, end: Ints, cuttable: NDArray[np.bool]
) -> Strips:
    """Rows of units `first` to `end`, int64 [N] each, of the images that can be cut; the others as they are."""
    starts, rows = encoded.starts, -(-encoded.height // layout.unit)
    head = np.minimum(layout.start, encoded.sizes)  # of what is cut, all that comes before the entropy-coded bytes
    begin, stop = starts + head, starts + encoded.sizes
    later, shorter = np.flatnonzero(first > 0), np.flatnonzero(end < rows)
    begin[later] = edges.at[edges.firsts[later] + first[later] - 1] + 2
    stop[shorter] = edges.at[edges.firsts[shorter] + end[shorter] - 1]

    sizes = head + stop - begin + 2 * (end < rows)
    cut_starts, cut_ends = packed(sizes), np.cumsum(sizes)
    buffer = np.empty(int(cut_ends[-1]), np.uint8)
    into, out_of = buffer.data, encoded.buffer.data
    moves = zip(cut_starts.tolist(), starts.tolist(), head.tolist(), begin.tolist(), stop.tolist(), strict=True)
    for to, start, length, coded, past in moves:
        body = to + length
        into[to:body] = out_of[start : start + length]
        into[body : body + past - coded] = out_of[coded:past]

    buffer[cut_ends[shorter] - 2], buffer[cut_ends[shorter] - 1] = 0xFF, _EOI
    heights = np.minimum(encoded.height, end * layout.unit) - first * layout.unit
    changed = cut_starts[cuttable] + layout.height_at
    buffer[changed], buffer[changed + 1] = heights[cuttable] >> 8, heights[cuttable] & 0xFF
    number = edges.number - first[edges.image]
    kept = cuttable[edges.image] & (number >= 0) & (edges.number < end[edges.image] - 1)
    image = edges.image[kept]
    buffer[edges.at[kept] + 1 - begin[image] + cut_starts[image] + layout.start] = _RST + number[kept] % 8
    return Strips(buffer, cut_starts, sizes, first * layout.unit, heights)
