"""What the plan makes of sources of different sizes."""

from __future__ import annotations

import numpy as np
import pytest

from wdsremux.conversion.plan import Block, make_plan


@pytest.mark.parametrize(
    ("rows", "per_shard", "per_task"),
    [
        (1_800_000, 2_000, 8_192),
        (131_072, 2_000, 8_192),
        (100_000, 2_000, 6_250),
        (50_000, 2_000, 3_125),
        (32_000, 2_000, 2_048),
        (1_200, 75, 2_048),
        (300, 18, 2_048),
        (10, 1, 2_048),
        (1, 1, 2_048),
    ],
)
def test_defaults(rows: int, per_shard: int, per_task: int) -> None:
    """2,000 a shard and 8,192 a task; a small source is cut into 16, but tasks stay large enough to mix."""
    plan = make_plan([min(100, rows - at) for at in range(0, rows, 100)], 0)
    assert (plan.samples_per_shard, plan.samples_per_task) == (per_shard, per_task)
    shards = sum(block.shards for task in plan.tasks for block in task.blocks)
    assert shards >= min(rows, 16)
    assert plan.rows == rows


def test_given_sizes_are_kept() -> None:
    plan = make_plan([100] * 12, 0, 50, 100)
    assert (plan.samples_per_shard, plan.samples_per_task) == (50, 100)
    assert [task.rows for task in plan.tasks] == [100] * 12
    assert [block for task in plan.tasks for block in task.blocks] == [Block(100, 2 * i, 2) for i in range(12)]


def test_a_large_fragment_is_a_task_of_blocks() -> None:
    plan = make_plan([30, 250, 30, 30], 0, 40, 100)
    assert [task.rows for task in plan.tasks] == [90, 250]
    assert plan.tasks[1].fragments == (1,)
    assert plan.tasks[1].blocks == (Block(100, 3, 3), Block(100, 6, 3), Block(50, 9, 2))


def test_sorted_classes_are_spread() -> None:
    """A task of 82 fragments draws from all over a sorted source, and neighbours go to different tasks."""
    fragments = 18_000
    plan = make_plan([100] * fragments, 0)
    for task in plan.tasks[::20]:
        deciles = np.unique(np.array(task.fragments) * 10 // fragments)
        assert len(deciles) == 10
    task_of = np.empty(fragments, int)
    for task in plan.tasks:
        task_of[list(task.fragments)] = task.number
    assert np.mean(task_of[1:] == task_of[:-1]) < 0.02


def test_the_seed_decides_the_order() -> None:
    orders = {tuple(f for task in make_plan([100] * 40, seed).tasks for f in task.fragments) for seed in range(5)}
    assert len(orders) == 5


def test_golden() -> None:
    """A plan made anew, to mend a split, has to be the plan that made it."""
    plan = make_plan([10] * 8, 0, 7, 40)
    assert [task.fragments for task in plan.tasks] == GOLDEN
    assert [task.blocks for task in plan.tasks] == [(Block(40, 0, 6),), (Block(40, 6, 6),)]


GOLDEN = [(1, 3, 6, 5), (7, 2, 0, 4)]
