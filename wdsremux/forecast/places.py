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

LEAST_ROWS, MOST_ROWS = 400, 1_000  #: to look at
LEAST_PLACES, LOCAL_PLACES = 32, 128  #: where rows are not read by themselves; the latter on this machine
MOST_SHARE, MOST_BYTES = 0.01, 500 * 10**6  #: of the source, to read beyond the least rows
LEAST_BYTES = 16 * 10**6  #: likewise, of a small source
WHOLE_BYTES = 200 * 10**6  #: a source that is read to its end, where rows lie at the end of a fragment


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


def wanted(extents: Sequence[Extent], *, remote: bool, by_row: bool) -> Wanted:
    """How much to look at: 400 rows, and more of a large source as long as that is little of it.

    Args:
        extents: of the source's fragments.
        remote: whether it is read over the network.
        by_row: whether a row is read without those before it in its fragment.
    """
    rows, size_bytes = sum(extent.rows or 0 for extent in extents), sum(extent.size_bytes for extent in extents)
    little_bytes = min(MOST_BYTES, int(MOST_SHARE * size_bytes))
    more = int(little_bytes * rows / size_bytes) if rows and size_bytes else int(MOST_SHARE * rows)
    most = LEAST_ROWS if remote and not by_row else MOST_ROWS  # pages are read there, not rows
    count = LEAST_PLACES if remote else LOCAL_PLACES
    # What lies before a place is read, too; of places in one fragment, only once.
    passed_bytes = (max(LEAST_BYTES, little_bytes) if remote else 2 * MOST_BYTES) // min(count, len(extents))
    reach_bytes = size_bytes if size_bytes <= WHOLE_BYTES else passed_bytes
    return Wanted(max(LEAST_ROWS, min(most, more)), count, by_row, reach_bytes)


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
