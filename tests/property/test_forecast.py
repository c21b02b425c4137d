"""The laws of a forecast: places are spread over the source, and intervals hold the truth as often as said."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsremux.conversion.plan import Extent
from wdsremux.forecast import interval
from wdsremux.forecast.estimates import frame
from wdsremux.forecast.interval import Interval
from wdsremux.forecast.places import SampledPlace, Wanted, places

ROWS = st.lists(st.integers(0, 3_000), min_size=1, max_size=80).filter(any)
WANTED = st.builds(
    Wanted,
    rows=st.integers(1, 600),
    places=st.integers(1, 100),
    by_row=st.booleans(),
    reach_bytes=st.sampled_from([0, 500_000, 10**9]),
)


@given(rows=ROWS, wanted=WANTED, seed=st.integers(0, 5))
def test_places_lie_in_their_fragments(rows: list[int], wanted: Wanted, seed: int) -> None:
    found = places([Extent(count, 1_000 * count) for count in rows], wanted, seed)
    assert found == sorted(found, key=lambda place: (place.fragment, place.first))
    for place in found:
        assert 0 < place.rows <= rows[place.fragment]
        assert 0 <= place.first <= rows[place.fragment] - place.rows
    parts = sum(place.parts for place in found)
    strata = wanted.rows if wanted.by_row else wanted.places
    whole = sum(place.rows for place in found) == sum(rows)
    assert whole or parts == strata


@given(rows=ROWS, seed=st.integers(0, 5))
def test_no_row_is_taken_twice_where_rows_are_read_alone(rows: list[int], seed: int) -> None:
    found = places([Extent(count, 0) for count in rows], Wanted(200, 1, True, 0), seed)
    assert len(set(found)) == len(found)
    total = sum(rows)
    firsts = dict(enumerate(np.cumsum([0, *rows]).tolist()))
    if total > 200:  # one in each two-hundredth
        at = [firsts[place.fragment] + place.first for place in found]
        edges = [total * number // 200 for number in range(201)]
        assert all(first <= row < stop for row, (first, stop) in zip(at, itertools.pairwise(edges), strict=True))


@given(sizes=st.lists(st.integers(1, 10**9), min_size=1, max_size=50), seed=st.integers(0, 5))
def test_fragments_of_unknown_rows_are_drawn_by_their_bytes(sizes: list[int], seed: int) -> None:
    found = places([Extent(None, size) for size in sizes], Wanted(400, 32, False, 0), seed)
    assert sum(place.parts for place in found) == 32
    assert all(place.first == 0 and place.rows == 13 * place.parts for place in found)
    for place in found:
        assert abs(place.parts - 32 * sizes[place.fragment] / sum(sizes)) <= 2


ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "as it comes": lambda values, rng: values,
    "sorted": lambda values, rng: np.sort(values),
    "by class": lambda values, rng: np.concatenate([values[i::10] * rng.uniform(0.5, 2) for i in range(10)]),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("by_row", [True, False])
def test_intervals_hold_the_truth(order: str, by_row: bool) -> None:
    """In 95 of 100 samples: skewed sizes of 20,000 images, in 200 row groups."""
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = ORDERS[order](rng.lognormal(0, 0.6, 20_000), rng)
        extents = [Extent(100, 10_000)] * 200
        found = places(extents, Wanted(400, 64, by_row, 10**9), seed)
        at = [values[100 * place.fragment + place.first :][: place.rows].mean() for place in found]
        total = frame(extents, found, [1] * len(found), True, None).total(at)
        hits += total.low <= values.sum() <= total.high
    assert hits >= 90


def test_a_place_that_stands_for_more_counts_more() -> None:
    """And makes the interval wider than as many places would: what it holds is one draw, not several."""
    even = interval.mean([1, 2, 3, 4])
    assert even.value == 2.5
    uneven = interval.mean([1, 2, 3, 4], weights=[5, 1, 1, 1])
    assert uneven.value == 14 / 8
    assert uneven.high - uneven.value > even.high - even.value


def test_of_all_of_a_source_nothing_is_unknown() -> None:
    extents = [Extent(3, 30), Extent(0, 0), Extent(5, 90)]
    found = places(extents, Wanted(400, 32, False, 10), 0)
    assert found == [SampledPlace(0, 0, 3, 3), SampledPlace(2, 0, 5, 5)]
    whole = frame(extents, found, [30, 90], True, None)
    assert whole.rows == Interval.exact(8)
    assert whole.total([1.0, 2.0]) == Interval.exact(13)


@pytest.mark.parametrize("limit", [None, 4, 100])
def test_a_limit_is_what_is_converted(limit: int | None) -> None:
    extents = [Extent(10, 100)] * 5
    found = places(extents, Wanted(400, 32, True, 0), 0)
    assert frame(extents, found, [100] * 5, True, limit).rows.value == min(50, limit or 50)
    unknown = [replace(extent, rows=None) for extent in extents]
    assert frame(unknown, found, [100] * 5, True, 4).rows.value == 4


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50), st.floats(0, 1))
def test_an_interval_is_around_its_value(values: list[float], taken: float) -> None:
    found = interval.mean(values, taken)
    assert found.low <= found.value <= found.high
    assert found.is_exact or taken < 1


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_a_share_is_one(case: tuple[int, int]) -> None:
    found = interval.share(*case)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (9, 2.262), (31, 2.040), (127, 1.979)])
def test_students_quantile(freedom: int, quantile: float) -> None:
    """Against printed tables."""
    values = np.arange(freedom + 1) % 2  # differences of 1: the variance is 1/2
    found = interval.mean(values)
    half = quantile * (0.5 / len(values)) ** 0.5
    assert found.high - found.value == pytest.approx(half, rel=0.01)
