"""Colour jitter and grey: torchvision v2's ColorJitter (within RandomApply) and RandomGrayscale.

Stream "augment.colour". Words 0 to 3: factors of brightness, contrast, saturation, hue; 4: which of the 24 orders;
5: whether the image gets any of it. Stream "augment.grey". Word 0: whether the image turns grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from wdsremux.loading.augment.parameters import Colour
from wdsremux.loading.augment.streams import Range, Streams, spread

_ORDERS = np.array(list(permutations(range(4))), np.int8)  #: [24, 4], in lexical order: part of the stream's meaning
_WORDS = 6


def draw(streams: Streams, ranges: Sequence[Range], probability: float) -> Colour:
    """For ranges of brightness, contrast, saturation and hue; one of no width gives its one value."""
    drawn = streams.uniform("augment.colour", _WORDS)
    factors = np.stack([spread(drawn[i], bounds) for i, bounds in enumerate(ranges)], 1).astype(np.float32)
    order = _ORDERS[np.floor(drawn[4] * len(_ORDERS)).astype(np.int64)]
    return Colour(factors, order, drawn[5] < probability)


def draw_grey(streams: Streams, probability: float) -> NDArray[np.bool_]:
    """[N]."""
    grey: NDArray[np.bool_] = streams.uniform("augment.grey", 1)[0] < probability
    return grey
