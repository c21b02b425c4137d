"""Where each picture is cropped, and whether it is mirrored.

torchvision v2's RandomResizedCrop, CenterCrop and RandomHorizontalFlip.

Stream "augment". Words 0, 2, … 18: areas of ten attempts; 1, 3, … 19: their ratios; 20: x; 21: y; 22: the flip.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from wdsremux.loading.augment.streams import Range, Streams

_ATTEMPTS = 10  #: boxes tried before the fall-back, as in torchvision's RandomResizedCrop
_X, _Y, _FLIP = 2 * _ATTEMPTS, 2 * _ATTEMPTS + 1, 2 * _ATTEMPTS + 2
_WORDS = 2 * _ATTEMPTS + 3


def words(streams: Streams) -> NDArray[np.float64]:
    """What the functions below are given: float64 [23, N]."""
    return streams.uniform("augment", _WORDS)


def flips(drawn: NDArray[np.float64], probability: float) -> NDArray[np.bool_]:
    """[N]: mirrored left to right."""
    mirrored: NDArray[np.bool_] = drawn[_FLIP] < probability
    return mirrored


def random_boxes(
    drawn: NDArray[np.float64], width: NDArray[np.int64], height: NDArray[np.int64], scale: Range, ratio: Range
) -> NDArray[np.int64]:
    """[N, 4]: x, y, width, height, of random area (a share of the picture's) and ratio (width over height)."""
    low, high = scale
    area = (width * height) * (low + drawn[0 : 2 * _ATTEMPTS : 2] * (high - low))
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    ratios = np.exp(log_low + drawn[1 : 2 * _ATTEMPTS : 2] * (log_high - log_low))
    w, h = np.rint(np.sqrt(area * ratios)).astype(np.int64), np.rint(np.sqrt(area / ratios)).astype(np.int64)
    fits: NDArray[np.bool_] = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first, column = fits.argmax(0), np.arange(len(width))
    w, h = w[first, column], h[first, column]
    x = np.floor(drawn[_X] * (width - w + 1)).astype(np.int64)
    y = np.floor(drawn[_Y] * (height - h + 1)).astype(np.int64)
    return np.where(np.any(fits, 0, keepdims=True).T, np.stack([x, y, w, h], 1), _fallback(width, height, ratio))


def _fallback(width: NDArray[np.int64], height: NDArray[np.int64], ratio: Range) -> NDArray[np.int64]:
    """The largest box from the middle whose ratio is allowed: for pictures so long that ten boxes did not fit."""
    w = np.clip(np.rint(height * ratio[1]).astype(np.int64), 1, width)
    h = np.clip(np.rint(width / ratio[0]).astype(np.int64), 1, height)
    return np.stack([(width - w) // 2, (height - h) // 2, w, h], 1)


def middle_boxes(width: NDArray[np.int64], height: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """[N, 4]: squares from the middle, whose side is this share of the short side."""
    side = np.maximum(1, np.rint(np.minimum(width, height) * share).astype(np.int64))
    return np.stack([(width - side) // 2, (height - side) // 2, side, side], 1)
