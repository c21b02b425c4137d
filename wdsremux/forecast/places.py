"""Which rows of a source to look at: a few at each of many places, spread evenly over it. Pure.

    rows      0 ────────────────────────────────────────────────> N
    strata    |      |      |      |      |      |      |      |     equal parts of the source, in its order
    places      ▪▪     ▪▪   ▪▪       ▪▪   ▪▪    ▪▪       ▪▪   ▪▪     one in each, drawn by the seed

Where a row can be read by itself, a place is one row. Else it is some rows, and those before them in their fragment are
read, too: of a fragment that is too large for that, only the beginning is read, as one place.
Fragments of unknown rows (remote tars) are drawn by their bytes, and read from their beginning.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wdsremux import rng
from wdsremux.conversion.plan import Extent


@dataclass(frozen=True, slots=True)
class SampledPlace:
    """Consecutive rows of one fragment that are looked at."""

    fragment: int
    first: int  #: row of the fragment
    rows: int
    parts: int = 1  #: for how many of the equal parts of the source it stands; of all of a source, each row is one


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much to look at."""

    rows: int  #: in all
    places: int  #: at least so many, where rows are not read by themselves
    by_row: bool  #: whether they are
    reach_bytes: int  #: of a larger fragment, only the beginning is read


def places(extents: Sequence[Extent], wanted: Wanted, seed: int) -> list[SampledPlace]:
    """The places to look at, in the order of the source.

    Args:
        extents: of the source's fragments.
        wanted: how much of them.
        seed: draws the places.
    """
    rows = [extent.rows for extent in extents]
    if None in rows:
        return _by_bytes(extents, wanted, seed)
    counts = np.array(rows, np.int64)
    total = int(counts.sum())
    strata = wanted.rows if wanted.by_row else wanted.places
    each = -(-wanted.rows // strata)
    if total <= strata * each:
        return [SampledPlace(number, 0, int(count), int(count)) for number, count in enumerate(counts) if count]
    ends = np.cumsum(counts)
    found = list[SampledPlace]()
    drawn = np.array(_drawn(total, strata, each, seed), np.int64)
    numbers = np.searchsorted(ends, drawn, "right")
    for number, turns in sorted(Counter(numbers.tolist()).items()):
        count = int(counts[number])
        if not wanted.by_row and extents[number].size_bytes > wanted.reach_bytes:
            found.append(SampledPlace(number, 0, min(each * turns, count), turns))
            continue
        firsts = (drawn[numbers == number] - ends[number] + count).tolist()
        found += [SampledPlace(number, max(0, min(first, count - each)), min(each, count)) for first in firsts]
    return found


def _by_bytes(extents: Sequence[Extent], wanted: Wanted, seed: int) -> list[SampledPlace]:
    """Rows from the beginning of fragments that are drawn by their size; of one drawn twice, twice as many."""
    ends = np.cumsum([max(1, extent.size_bytes) for extent in extents])
    drawn = np.searchsorted(ends, _drawn(int(ends[-1]), wanted.places, 1, seed), "right")
    each, counts = -(-wanted.rows // wanted.places), Counter(drawn.tolist())
    return [SampledPlace(number, 0, each * turns, turns) for number, turns in sorted(counts.items())]


def _drawn(total: int, strata: int, width: int, seed: int) -> list[int]:
    """A position in each of the equal parts of range(total), as far from the part's end as `width` where it can be."""
    edges = [total * number // strata for number in range(strata + 1)]
    random = rng.uniform(rng.key(seed, "forecast"), np.arange(strata), 0, 1)[0]
    rooms = [max(1, end - first - width + 1) for first, end in itertools.pairwise(edges)]
    return [first + int(part * room) for first, part, room in zip(edges, random, rooms, strict=False)]
