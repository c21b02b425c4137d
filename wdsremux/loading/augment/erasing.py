"""Which part of each picture is erased: torchvision v2's RandomErasing.

Stream "augment.erasing". Words 0, 2, … 18: areas of ten attempts; 1, 3, … 19: their ratios; 20: x; 21: y; 22: whether
anything is erased.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wdsremux.loading.augment.streams import Range, Streams, spread, spread_log

_ATTEMPTS = 10  #: boxes tried before the picture is left whole, as in torchvision's RandomErasing
_X, _Y, _CHANCE = 2 * _ATTEMPTS, 2 * _ATTEMPTS + 1, 2 * _ATTEMPTS + 2
_WORDS = 2 * _ATTEMPTS + 3


def draw(streams: Streams, probability: float, scale: Range, ratio: Range, size: int) -> NDArray[np.int64]:
    """[N, 4]: x, y, width, height in a picture of `size` px a side; all 0: nothing.

    Args:
        streams: of the batch.
        probability: that anything is erased.
        scale: area, as a share of the picture's.
        ratio: height over width.
        size: the box is smaller than this both ways, strictly.
    """
    drawn = streams.uniform("augment.erasing", _WORDS)
    area = size * size * spread(drawn[0 : 2 * _ATTEMPTS : 2], scale)
    ratios = spread_log(drawn[1 : 2 * _ATTEMPTS : 2], ratio)
    w, h = np.rint(np.sqrt(area / ratios)).astype(np.int64), np.rint(np.sqrt(area * ratios)).astype(np.int64)
    fits: NDArray[np.bool_] = (w < size) & (h < size)
    first, column = fits.argmax(0), np.arange(fits.shape[1])
    w, h = w[first, column], h[first, column]
    x, y = (np.floor(drawn[word] * (size - side + 1)).astype(np.int64) for word, side in ((_X, w), (_Y, h)))
    erased = (drawn[_CHANCE] < probability) & fits.any(0) & (w > 0) & (h > 0)
    return np.where(erased[:, None], np.stack([x, y, w, h], 1), 0)
