"""Crop, resize and flip of many images at once, as two matrix products: for GPUs, where images differ in size.

    joined(images, boxes) -> parts -> resample(parts, boxes, flips, size)

Antialiased bilinear resizing is linear in rows and in columns, so a batch of it is `rows @ image @ columns`, each image
with matrices of its own. They hold the triangle filter of Pillow and of torch's `interpolate(antialias=True)`: as wide
as one output pixel, but at least two input pixels; what lies outside the crop counts nothing, and each row sums to 1.
A flip is a filter with its rows in reverse.

A GPU takes longer to be told of a small kernel than to run it, so there are some 20 of them, however many images there
are: the images lie one after the other in one piece of memory, out of which the rows of all crops are gathered at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.loading.transforms.steps import send

#: Pixels that are worked on at once, of whole pictures or of crops filled up to the largest: 256 of up to 341 x 341,
#: which is a batch of pictures baked to 256 px, upright and lying. Some 800 MB are in work then.
_TOGETHER = 30_000_000


@dataclass(frozen=True, slots=True)
class Joined:
    """Neighbouring images of a batch in one piece of memory, one after the other, each plane by plane."""

    values: torch.Tensor  #: uint8 [bytes]; behind the last image is room for a row of the widest crop, undefined
    widths: NDArray[np.int64]  #: [n], px
    heights: NDArray[np.int64]  #: [n], px


def joined(images: list[torch.Tensor], boxes: NDArray[np.int64]) -> list[Joined]:
    """The parts of a batch that are worked on together.

    Args:
        images: N of uint8 [3, H, W], of any sizes, all on one device. The list is empty afterwards: large images are
            let go of part by part, so that a batch of them is not there twice.
        boxes: int64 [N, 4]: x, y, width, height of each crop.
    """
    sizes = np.array([image.shape[1:] for image in images], np.int64).reshape(-1, 2)
    parts = []
    for part in _parts(boxes, sizes.prod(1)):
        taken = images[: part.stop - part.start]
        del images[: len(taken)]
        flat = [image.reshape(-1) for image in taken]
        nbytes, room = sum(map(len, flat)), int(boxes[part, 2].max())
        values = torch.empty(nbytes + room, dtype=torch.uint8, device=taken[0].device)
        torch.cat(flat, out=values[:nbytes])
        parts.append(Joined(values, sizes[part, 1], sizes[part, 0]))
    return parts


def _parts(boxes: NDArray[np.int64], areas: NDArray[np.int64]) -> Iterator[slice]:
    """Neighbours that are worked on together; areas are those of whole images."""
    first, width, height, total = 0, 0, 0, 0
    for i, ((w, h), area) in enumerate(zip(boxes[:, 2:].tolist(), areas.tolist(), strict=True)):
        wider, higher, total = max(width, w), max(height, h), total + area
        if i > first and max((i + 1 - first) * wider * higher, total) > _TOGETHER:
            yield slice(first, i)
            first, wider, higher, total = i, w, h, area
        width, height = wider, higher
    if len(boxes):
        yield slice(first, len(boxes))


def resample(parts: Sequence[Joined], boxes: NDArray[np.int64], flips: NDArray[np.bool_], size: int) -> torch.Tensor:
    """Cut, resize and flip.

    Args:
        parts: N images, as `joined` gives them for these boxes.
        boxes: int64 [N, 4]: x, y, width, height of each crop.
        flips: bool [N].
        size: of the result, in pixels.

    Returns:
        uint8 [N, size, size, 3] on the same device, contiguous.
    """
    device = parts[0].values.device if parts else None
    result = torch.empty((len(boxes), size, size, 3), dtype=torch.uint8, device=device)
    first = 0
    for part in parts:
        piece = slice(first, first + len(part.widths))
        _resample(part, boxes[piece], flips[piece], result[piece])
        first = piece.stop
    return result


def _resample(part: Joined, boxes: NDArray[np.int64], flips: NDArray[np.bool_], out: torch.Tensor) -> None:
    count, size, _, _ = out.shape
    width, height = boxes[:, 2:].max(0).tolist()
    for_rows, for_filters = _row_numbers(part, boxes), _filter_numbers(boxes, flips, size)
    sent = send([*for_rows, *for_filters], part.values.device)
    crops = _crops(part.values, width, *sent[: len(for_rows)])
    columns, rows = _filters(*sent[len(for_rows) :])
    wide = crops.flatten(1, 2) @ columns[..., :width].mT  # [N, height * 3, size]
    del crops
    resized = rows[..., :height] @ wide.view(count, height, 3 * size)
    out.copy_(resized.round_().clamp_(0, 255).view(count, size, 3, size).transpose(2, 3))


def _row_numbers(part: Joined, boxes: NDArray[np.int64]) -> list[NDArray[Any]]:
    """What `_crops` makes the places of rows of: int64, each to be broadcast to [N, height, 3]."""
    x, y, _, heights = boxes.T
    areas = part.widths * part.heights
    corners = 3 * (np.cumsum(areas) - areas) + y * part.widths + x
    firsts = corners[:, None, None] + areas[:, None, None] * np.arange(3)
    return [
        firsts,
        np.arange(heights.max())[:, None],
        (heights - 1)[:, None, None],
        np.ascontiguousarray(part.widths[:, None, None]),
    ]


def _crops(
    values: torch.Tensor,
    width: int,
    firsts: torch.Tensor,
    rows: torch.Tensor,
    last: torch.Tensor,
    strides: torch.Tensor,
) -> torch.Tensor:
    """float32 [N, height, 3, width] of the largest crop, out of `Joined.values`, by what `_row_numbers` gives.

    What lies beyond a smaller crop is something else out of the same memory: as bytes it is finite, and it meets
    weights of 0.
    """
    starts = torch.addcmul(firsts, torch.minimum(rows, last), strides)
    windows = values.as_strided((len(values) - width + 1, width), (1, 1))  # all of them; they overlap
    return windows[starts].to(torch.float32)


def _filter_numbers(boxes: NDArray[np.int64], flips: NDArray[np.bool_], size: int) -> list[NDArray[np.float32]]:
    """What `_filters` needs, for columns and rows."""
    sides = np.ascontiguousarray(boxes[:, 2:].T, np.float32)[..., None, None]  # [2, N, 1, 1]
    scales = sides / np.float32(size)  # pixels of the crop in one of the output
    units = np.arange(size, dtype=np.float32) + np.float32(0.5)
    mirrored = np.where(flips[:, None], units[::-1], units)
    centres = np.stack([mirrored, np.broadcast_to(units, mirrored.shape)])[..., None] * scales
    places = np.arange(boxes[:, 2:].max(), dtype=np.float32) + np.float32(0.5)
    return [places, centres, -np.maximum(scales, 1), sides]


def _filters(places: torch.Tensor, centres: torch.Tensor, slope: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """float32 [2, N, size, longest]: for columns and for rows, the weights of a crop's pixels in each output pixel.

    Args:
        places: float32 [longest], of the pixels along a crop's side.
        centres: float32 [2, N, size, 1], of the output's pixels among them.
        slope: float32 [2, N, 1, 1], what a weight of 1 falls to 0 over, in pixels, negative.
        sides: float32 [2, N, 1, 1], of the crops, in pixels.
    """
    weights = (places - centres).abs_().div_(slope).add_(1).clamp_(min=0)
    weights *= places < sides
    return weights.div_(weights.sum(-1, keepdim=True))
