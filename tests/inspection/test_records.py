"""The places of samples, against a dictionary of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsremux.format import samples
from wdsremux.inspection import records
from wdsremux.inspection.records import Places

NUMBERS = st.sampled_from([0, 1, 2, 2**32 - 1])
PLACES = st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from([0, 0, 0, 1, 2**32 - 1])), max_size=12)


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """More than one piece of so few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_PIECE", 5)
        yield


@given(places=PLACES)
def test_places_are_those_of_the_table(places: list[tuple[int, int, int]]) -> None:
    table = np.zeros(len(places), samples.SAMPLE)
    for name, column in zip(("fragment", "row", "part"), zip(*places, strict=True), strict=False):
        table[name] = column
    found = Places.of(table)
    where = {place: [i for i, other in enumerate(places) if other == place] for place in places}
    repeated = found.repeated()
    assert (repeated is None) == all(len(ids) == 1 for ids in where.values())
    assert repeated is None or list(repeated) in [ids[:2] for ids in where.values()]
    for fragment, row in itertools.product([0, 1, 2, 3, 2**32 - 1], repeat=2):
        assert found.holds(fragment, row, None) == any(place[:2] == (fragment, row) for place in places)
        assert all(
            found.holds(fragment, row, part) == ((fragment, row, part) in where) for part in (0, 1, 5, 2**32 - 1)
        )
