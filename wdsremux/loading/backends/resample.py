"""Crop, resize and flip of many images at once, as two matrix products: for GPUs, where images differ in size.

Antialiased bilinear resizing is linear in rows and in columns, so a batch of it is `rows @ image @ columns`, each image
with matrices of its own. They hold the triangle filter of Pillow and of torch's `interpolate(antialias=True)`: as wide
as one output pixel, but at least two input pixels; what lies outside the crop counts nothing, and each row sums to 1.
A flip is a filter with its rows in reverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.loading.transforms.steps import send

_TOGETHER = 6_000_000  #: pixels in a product, filled up to the largest crop: some 64 of 256 x 341 px, 72 MB as floats


def resample(
    images: Sequence[torch.Tensor], boxes: NDArray[np.int64], flips: NDArray[np.bool_], size: int
) -> torch.Tensor:
    """Cut, resize and flip.

    Args:
        images: N of uint8 [3, H, W], of any sizes, all on one device.
        boxes: int64 [N, 4]: x, y, width, height of each crop.
        flips: bool [N].
        size: of the result, in pixels.

    Returns:
        uint8 [N, size, size, 3] on the same device, contiguous.
    """
    if not len(images):
        return torch.empty((0, size, size, 3), dtype=torch.uint8)
    result = torch.empty((len(images), size, size, 3), dtype=torch.uint8, device=images[0].device)
    for part in _parts(boxes):
        result[part] = _resample(images[part], boxes[part], flips[part], size)
    return result


def _parts(boxes: NDArray[np.int64]) -> Iterator[slice]:
    """Neighbours that are worked on together."""
    first, width, height = 0, 0, 0
    for i, (w, h) in enumerate(boxes[:, 2:].tolist()):
        wider, higher = max(width, w), max(height, h)
        if i > first and (i + 1 - first) * wider * higher > _TOGETHER:
            yield slice(first, i)
            first, wider, higher = i, w, h
        width, height = wider, higher
    yield slice(first, len(boxes))


def _resample(
    images: Sequence[torch.Tensor], boxes: NDArray[np.int64], flips: NDArray[np.bool_], size: int
) -> torch.Tensor:
    crops = _padded(images, boxes)
    width, height = boxes[:, 2:].max(0).tolist()
    scales = np.ascontiguousarray(boxes[:, 2:].T, np.float32) / size  # [2, N]
    (across, down), flipped = send([scales, flips], crops.device)
    rows, columns = _filters(down, height, size), _filters(across, width, size)
    columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
    wide = crops.flatten(1, 2) @ columns.mT  # [N, 3 * height, size]
    resized: torch.Tensor = rows[:, None] @ wide.view(len(images), 3, height, size)  # [N, 3, size, size]
    return resized.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _padded(images: Sequence[torch.Tensor], boxes: NDArray[np.int64]) -> torch.Tensor:
    """float32 [N, 3, height, width] of the largest crop; what lies beyond a smaller one is 0 and meets weights of 0."""
    width, height = boxes[:, 2:].max(0).tolist()
    crops = torch.zeros((len(images), 3, height, width), dtype=torch.float32, device=images[0].device)
    for crop, image, (x, y, w, h) in zip(crops, images, boxes.tolist(), strict=True):
        crop[:, :h, :w] = image[:, y : y + h, x : x + w]
    return crops


def _filters(scales: torch.Tensor, longest: int, size: int) -> torch.Tensor:
    """float32 [N, size, longest]: row i holds the weights of a crop's pixels in output pixel i.

    Args:
        scales: float32 [N], pixels of the crop in one of the output.
        longest: of the crops, in pixels.
        size: of the output.
    """
    scale = scales[:, None, None]
    places = torch.arange(longest, dtype=torch.float32, device=scales.device) + 0.5
    centres = (torch.arange(size, dtype=torch.float32, device=scales.device)[:, None] + 0.5) * scale  # [N, size, 1]
    weights = (1 - (places - centres).abs_().div_(scale.clamp(min=1))).clamp_(min=0)
    weights *= places < scale * size
    return weights.div_(weights.sum(2, keepdim=True))
