"""A source sorted by class comes out well mixed: the real plan, the real permutation of a task, the real order."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from wdsremux import rng
from wdsremux.conversion.plan import Block, Extent, Plan, make_plan
from wdsremux.loading.order import Order

ROWS, CLASSES, GROUP, BATCH = 1_800_000, 365, 100, 256  #: Places365, sorted by class, with row groups of 100
SEED = 0


def converted(plan: Plan) -> tuple[list[int], NDArray[np.int64]]:
    """(samples of each shard, the source row of each sample), as baking makes them, without images."""
    counts, rows = [], []
    for task in plan.tasks:
        read = (np.array([read.fragment for read in task.reads])[:, None] * GROUP + np.arange(GROUP)).reshape(-1)
        for block in task.blocks:
            here, read = read[: block.rows], read[block.rows :]
            rows.append(here[rng.permutation(rng.key(SEED, "bake"), len(here), block.first_shard)])
            counts += shard_sizes(block)
    return counts, np.concatenate(rows)


def shard_sizes(block: Block) -> list[int]:
    edges = [number * block.rows // block.shards for number in range(block.shards + 1)]
    return [last - first for first, last in itertools.pairwise(edges)]


def mean_entropy(labels: NDArray[np.int64]) -> float:
    """Of the classes in each full batch, in bits, averaged."""
    batches = len(labels) // BATCH
    cells = np.arange(batches).repeat(BATCH) * CLASSES + labels[: batches * BATCH]
    share = np.bincount(cells, minlength=batches * CLASSES).reshape(batches, CLASSES) / BATCH
    return float(-(share * np.log2(share, where=share > 0, out=np.zeros_like(share))).sum(1).mean())


def test_batches_of_a_sorted_source_are_mixed_as_by_a_full_shuffle() -> None:
    counts, rows = converted(make_plan([Extent(GROUP, 1)] * (ROWS // GROUP), SEED))
    assert np.sort(rows).tolist() == list(range(ROWS))
    labels = rows * CLASSES // ROWS
    full = mean_entropy(labels[rng.permutation(rng.key(SEED, "test"), ROWS)])
    order = Order(tuple(counts), SEED)
    for epoch in (0, 1):
        ours = mean_entropy(labels[order.epoch(epoch)[np.arange(ROWS)]])
        assert abs(ours / full - 1) < 0.02
    assert mean_entropy(np.sort(labels)) < 0.1 * full  # what the source itself would give
