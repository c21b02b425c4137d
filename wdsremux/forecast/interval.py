"""Estimates from a sample, each with the interval that holds the truth in 95 of 100 samples. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_Z = 1.959963984540054  #: the normal distribution's quantile of 97.5 %


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    @staticmethod
    def exact(value: float) -> Interval:
        """Of what is known."""
        return Interval(value, value, value)

    @property
    def is_exact(self) -> bool:
        return self.low == self.high

    def map(self, function: Callable[[float], float]) -> Interval:
        """The estimate of something that grows with this."""
        return Interval(function(self.value), function(self.low), function(self.high))

    def __mul__(self, other: Interval) -> Interval:
        """The product of two estimates that do not depend on each other; their relative errors add up as squares."""
        value = self.value * other.value
        below = math.hypot(self._share(self.low), other._share(other.low))
        above = math.hypot(self._share(self.high), other._share(other.high))
        return Interval(value, max(0.0, value * (1 - below)), value * (1 + above))

    def _share(self, edge: float) -> float:
        return abs(edge - self.value) / self.value if self.value else 0.0


def mean(values: ArrayLike, taken: float = 0.0, weights: ArrayLike | None = None) -> Interval:
    """The mean of a source, by the values at places that are spread over it.

    Neighbours are compared with each other, not with the mean: a source that is sorted by class or by size is then
    known as well as one that is not (K. M. Wolter, Introduction to Variance Estimation, 2007, section 8.2, estimator
    v2). What a systematic sample of a trend would gain beyond that is left out: the interval is rather too wide.

    Args:
        values: of the places, in the source's order, float [P], P > 0.
        taken: share of the source that the places hold, 0 to 1; of all of it the mean is known.
        weights: for how much of the source each place stands, float [P]; None: all for as much.
    """
    found = np.asarray(values, np.float64).reshape(-1)
    shares = np.ones(len(found)) if weights is None else np.asarray(weights, np.float64)
    shares = shares / shares.sum()
    centre, count = float((found * shares).sum()), len(found)
    if taken >= 1:
        return Interval.exact(centre)
    if count == 1:
        return Interval(centre, -math.inf, math.inf)
    variance = float((np.diff(found) ** 2).sum()) / (2 * (count - 1))
    half = _student(count - 1) * math.sqrt((1 - taken) * variance * float((shares**2).sum()))
    return Interval(centre, centre - half, centre + half)


def share(count: int, of: int, taken: float = 0.0) -> Interval:
    """The share of a source's rows that are of some sort, by how many of a sample are (Wilson 1927).

    Args:
        count: of that sort.
        of: in the sample, more than 0.
        taken: share of the source that the sample is, 0 to 1.
    """
    found = count / of
    if taken >= 1:
        return Interval.exact(found)
    square = _Z**2 / of
    centre = (found + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(found * (1 - found) / of + square / (4 * of))
    return Interval(found, min(found, max(0.0, centre - half)), max(found, min(1.0, centre + half)))


def _student(freedom: int) -> float:
    """The quantile of 97.5 % of Student's t distribution (Abramowitz and Stegun 1964, 26.7.5)."""
    z, n = _Z, freedom
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3
