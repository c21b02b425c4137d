"""An evaluation over any number of ranks counts each sample once."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.conftest import ConvertTiny
from wdsremux import DataLoader

COUNT = 613  #: a prime: no number of ranks divides it


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [16, 100])  # at 100, seven ranks share less than one full step
def test_each_sample_counts_once_over_all_ranks(convert_tiny: ConvertTiny, world: int, batch_size: int) -> None:
    out = convert_tiny(COUNT)
    with ExitStack() as stack:
        loaders = [
            stack.enter_context(
                DataLoader(
                    out, batch_size, shuffle=False, augment="eval", size=8, rank=rank, world_size=world,
                    fields=("image", "label", "id"),
                )
            )
            for rank in range(world)
        ]  # fmt: skip
        ranks = [list(loader) for loader in loaders]
    assert len({len(batches) for batches in ranks}) == 1
    seen = [i for batches in ranks for _, _, ids in batches for i in ids.tolist()]
    assert sorted(seen) == list(range(COUNT))
    for batches in ranks:
        for images, labels, ids in batches:
            assert 1 <= len(ids) == len(labels) == len(images) <= batch_size
