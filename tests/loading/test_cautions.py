"""A set that kept its source's order is warned of where windows would not mix it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.splits import write_split
from wdsremux.loading.cautions import mixing_warning
from wdsremux.loading.order import ALL, Order
from wdsremux.loading.reader.split import Split, open_split

COUNTS = (3,) * 5


@pytest.fixture
def mixed(tmp_path: Path) -> Split:
    """Of several fragments."""
    split = open_split(write_split(tmp_path, shards=COUNTS))
    return dataclasses.replace(split, table=np.array(split.table))


def unshuffled(split: Split) -> Split:
    return dataclasses.replace(split, manifest=dataclasses.replace(split.manifest, options={"shuffle": False}))


def one_fragment(split: Split) -> Split:
    table = np.array(split.table)
    table["fragment"] = 7
    return dataclasses.replace(split, table=table)


@pytest.mark.parametrize("options", [{}, {"shuffle": True}])
def test_a_mixed_set_is_no_cause_for_a_warning(mixed: Split, options: dict[str, Any]) -> None:
    split = dataclasses.replace(mixed, manifest=dataclasses.replace(mixed.manifest, options=options))
    assert mixing_warning(split, Order(COUNTS, 0, window=2)) is None


def test_a_set_in_the_order_of_its_source_is_warned_of(mixed: Split) -> None:
    window = ", so a window of 2 of its 5 shards may contain only a few classes. "
    order = Order(COUNTS, 0, window=2)
    assert mixing_warning(unshuffled(mixed), order) == (
        f'{mixed.folder} was converted without shuffling{window}Choose window="all", or convert it again with shuffling'
    )
    assert str(mixing_warning(one_fragment(mixed), order)).startswith(
        f"{mixed.folder} was converted from one large file, whose order is kept{window}"
    )


@pytest.mark.parametrize(
    "order",
    [Order(COUNTS, 0, window=ALL), Order(COUNTS, 0, window=5), Order(COUNTS, 0), Order(COUNTS, 0, False, window=2)],
    ids=["all", "five", "default", "unshuffled"],
)
def test_where_all_shards_are_mixed_or_none_nothing_is_said(mixed: Split, order: Order) -> None:
    assert mixing_warning(unshuffled(mixed), order) is None
    assert mixing_warning(one_fragment(mixed), order) is None
