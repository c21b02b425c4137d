"""The random streams of a batch: one a purpose, so that what is added later never changes what was there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wdsremux import rng
from wdsremux.loading.order import Ids

Range = tuple[float, float]  #: low and high


@dataclass(frozen=True, slots=True)
class Streams:
    """Of a batch of N samples."""

    ids: Ids
    seed: int
    epoch: int

    def uniform(self, purpose: str, words: int) -> NDArray[np.float64]:
        """Uniform numbers in [0, 1), float64 [words, N]; the same purpose gives the same again."""
        return rng.uniform(rng.key(self.seed, purpose), self.ids, self.epoch, words)


def spread(drawn: NDArray[np.float64], bounds: Range) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) -> uniform numbers between two bounds."""
    low, high = bounds
    return low + drawn * (high - low)


def spread_log(drawn: NDArray[np.float64], bounds: Range) -> NDArray[np.float64]:
    """The same, uniform in the logarithm: for ratios, where 1/2 is as far from 1 as 2 is."""
    return np.exp(spread(drawn, (float(np.log(bounds[0])), float(np.log(bounds[1])))))
