"""What was seen at some places -> what all of the source comes to, with intervals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wdsremux.conversion.plan import Extent
from wdsremux.forecast import interval
from wdsremux.forecast.interval import Interval
from wdsremux.forecast.places import SampledPlace

_MEMBER_BYTES = 512 + 256  #: what a tar adds to an image: a header, and on average half a block (POSIX.1-2017, pax)
_LABEL_BYTES = 1_024  #: likewise for a file with the label


@dataclass(frozen=True, slots=True)
class Frame:
    """What the places stand for: a source of so many units, be they rows or, where nobody knows the rows, bytes."""

    units: float
    a_row: NDArray[np.float64]  #: float64 [P], units that a row takes at each place
    parts: NDArray[np.float64]  #: float64 [P], for how much of the source each place stands
    taken: float  #: share of the units that was looked at, 0 to 1
    counts_rows: bool  #: whether units are rows

    @property
    def rows(self) -> Interval:
        return Interval.exact(self.units) if self.counts_rows else self.total(np.ones(len(self.a_row)))

    def at(self, chosen: NDArray[np.int64]) -> Frame:
        """What some of the places stand for: all of the source, too."""
        return replace(
            self, a_row=self.a_row[chosen], parts=self.parts[chosen], taken=self.taken * len(chosen) / len(self.a_row)
        )

    def total(self, each: ArrayLike) -> Interval:
        """Over all rows of the source, of something that is never negative.

        Args:
            each: of a row at each place, on average, float [P].
        """
        found = interval.mean(np.asarray(each) / self.a_row, self.taken, self.parts).map(lambda value: max(0.0, value))
        return found.map(lambda value: value * self.units)

    def count(self, of_sort: int, looked_at: int) -> Interval:
        """How many rows are of some sort, by how many are of those that were looked at."""
        return interval.share(of_sort, looked_at, self.taken) * self.rows


def frame(
    extents: Sequence[Extent],
    places: Sequence[SampledPlace],
    bytes_at: Sequence[int],
    labelled: bool,
    limit: int | None,
) -> Frame:
    """The frame of a sample.

    Args:
        extents: of the source's fragments.
        places: that were looked at, with as many rows as there were.
        bytes_at: of the images at each place.
        labelled: whether there are labels beside them.
        limit: rows that are converted at most; None: all.
    """
    rows_at, parts = [place.rows for place in places], np.array([place.parts for place in places], np.float64)
    ones, rows = np.ones(len(places)), sum(rows_at)
    known = [extent.rows for extent in extents]
    total = None if None in known else sum(count or 0 for count in known)
    if total is not None or limit is not None:
        units = min(count for count in (total, limit) if count is not None)
        return Frame(units, ones, parts, 0.0 if total is None else rows / max(1, total), counts_rows=True)
    beside = _MEMBER_BYTES + _LABEL_BYTES * labelled
    a_row = np.asarray(bytes_at) / np.maximum(1, rows_at) + beside
    size_bytes = sum(extent.size_bytes for extent in extents)
    return Frame(
        size_bytes, a_row, parts, min(1.0, float((a_row * rows_at).sum()) / max(1, size_bytes)), counts_rows=False
    )


def ratio(known: ArrayLike, other: ArrayLike, stands_for: Frame) -> Interval:
    """How a second quantity compares to a first one, by both at the same places (W. G. Cochran, Sampling Techniques,
    1977, chapter 6): what makes both larger at a place is no error.

    Args:
        known: the first, float [P], not all zero.
        other: the second, likewise.
        stands_for: what the places stand for.
    """
    first, second = np.asarray(known, np.float64), np.asarray(other, np.float64)
    parts = stands_for.parts / stands_for.parts.sum()
    value = float((second * parts).sum() / (first * parts).sum())
    off = interval.mean((second - value * first) / (first * parts).sum(), stands_for.taken, parts)
    return Interval(value, max(0.0, value + off.low), value + off.high)


@dataclass(frozen=True, slots=True)
class Line:
    """What grows evenly: the seconds of conversions with their rows, say."""

    fixed: float
    each: float

    @staticmethod
    def through(shorter: tuple[int, float], longer: tuple[int, float]) -> Line:
        """By two trials: how much, and what came of it. Where they do not tell what is fixed, nothing is."""
        count, value = longer
        more, grown = count - shorter[0], value - shorter[1]
        each = grown / more if more > 0 and grown > 0 else value / max(1, count)
        return Line(max(0.0, value - each * count), each)

    def at(self, count: float) -> float:
        return self.fixed + self.each * count

    def each_of(self, count: int, value: float) -> float:
        """By one trial of something else, of which as much is fixed."""
        return max(value - self.fixed, 0.1 * value) / count
