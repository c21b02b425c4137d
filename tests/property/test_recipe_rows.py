"""The law of `__row__`: whatever rows a recipe names, and how often, in whatever order, just these come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import picture, rows
from wdsremux import codec
from wdsremux.conversion.recipes.base import Reject, Sample, Settings
from wdsremux.conversion.recipes.batch import make_batch
from wdsremux.conversion.recipes.result import read

ROWS = 6
FIRST = 100
FORMS: list[Callable[[list[int]], Any]] = [list, tuple, lambda row: np.array(row, np.int32), torch.LongTensor]


@given(
    broken=st.sets(st.integers(0, ROWS - 1), max_size=ROWS - 1),
    draws=st.lists(st.integers(0, ROWS - 1), max_size=20),
    form=st.sampled_from(FORMS),
    spoilt=st.sets(st.integers(0, 19)),
)
def test_any_multiset_of_rows(broken: set[int], draws: list[int], form: Callable[..., Any], spoilt: set[int]) -> None:
    images = [b"no image" if i in broken else picture(40 * i) for i in range(ROWS)]
    batch = make_batch(rows(images, first=FIRST), "pil", 0)
    named = [draw % len(batch.places) for draw in draws]
    returned = [b"no image" if j in spoilt else np.full((2, 2), 10 * j, np.uint8) for j in range(len(named))]
    items = read({"img": returned, "__row__": form(named)}, batch, Settings())

    whole = [FIRST + place for place in batch.places]
    parts: Counter[int] = Counter()
    expected = {}
    for j, place in enumerate(named):
        expected[whole[place], parts[place]] = j
        parts[place] += 1
    made = [item for item in items if item.part is not None]
    assert [(item.row, item.part) for item in made] == sorted(expected)
    assert {item.row for item in items if item.part is None} == {FIRST + i for i in broken}
    assert [item.row for item in items] == sorted(item.row for item in items)
    for item in made:
        j = expected[item.row, item.part or 0]
        assert isinstance(item, Reject if j in spoilt else Sample)
        if isinstance(item, Sample):
            assert item.label == item.row
            assert round(float(codec.decode(item.image.data).mean())) == 10 * j
