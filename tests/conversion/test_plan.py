"""What the plan makes of sources of different sizes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from wdsremux.conversion.plan import LEAST_TAR_BYTES, Block, Extent, Read, Task, bytes_read, make_plan


def known(rows: Iterable[int]) -> list[Extent]:
    return [Extent(count, 1_000 * count) for count in rows]


def fragments(task: Task) -> list[int]:
    return [read.fragment for read in task.reads]


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
    plan = make_plan(known(min(100, rows - at) for at in range(0, rows, 100)), 0)
    assert (plan.samples_per_shard, plan.samples_per_task) == (per_shard, per_task)
    shards = sum(block.shards for task in plan.tasks for block in task.blocks)
    assert shards >= min(rows, 16)
    assert plan.rows == rows


def test_given_sizes_are_kept() -> None:
    plan = make_plan(known([100] * 12), 0, 50, 100)
    assert (plan.samples_per_shard, plan.samples_per_task) == (50, 100)
    assert [task.rows for task in plan.tasks] == [100] * 12
    assert [block for task in plan.tasks for block in task.blocks] == [Block(100, 2 * i, 2) for i in range(12)]


def test_bytes_that_are_read() -> None:
    """Those of whole fragments, and a share of the one that a limit cuts; a stream is cut nobody knows where."""
    extents = [Extent(100, 5_000), Extent(100, 7_000), Extent(0, 300)]
    assert bytes_read(make_plan(extents, 0), extents) == 12_000
    assert bytes_read(make_plan(extents, 0, limit=100), extents) == 5_000
    assert bytes_read(make_plan(extents[:1], 0, limit=30), extents) == 1_500
    assert bytes_read(make_plan([Extent(None, 9_000)], 0), [Extent(None, 9_000)]) == 9_000
    assert bytes_read(make_plan([Extent(None, 9_000)], 0, limit=5), [Extent(None, 9_000)]) is None


def test_a_large_fragment_is_a_task_of_blocks() -> None:
    plan = make_plan(known([30, 250, 30, 30]), 0, 40, 100)
    assert [task.rows for task in plan.tasks] == [90, 250]
    assert plan.tasks[1].reads == (Read(1, 250),)
    assert plan.tasks[1].blocks == (Block(100, 3, 3), Block(100, 6, 3), Block(50, 9, 2))
    assert plan.tasks[1].shards == range(3, 11)


def test_sorted_classes_are_spread() -> None:
    """A task of 82 fragments draws from all over a sorted source, and neighbours go to different tasks."""
    count = 18_000
    plan = make_plan(known([100] * count), 0)
    for task in plan.tasks[::20]:
        deciles = np.unique(np.array(fragments(task)) * 10 // count)
        assert len(deciles) == 10
    task_of = np.empty(count, int)
    for task in plan.tasks:
        task_of[fragments(task)] = task.number
    assert np.mean(task_of[1:] == task_of[:-1]) < 0.02


def test_the_seed_decides_the_order() -> None:
    plans = [make_plan(known([100] * 40), seed) for seed in range(5)]
    assert len({tuple(f for task in plan.tasks for f in fragments(task)) for plan in plans}) == 5


def test_golden() -> None:
    """A plan made anew, to mend a split, has to be the plan that made it."""
    plan = make_plan(known([10] * 8), 0, 7, 40)
    assert [tuple(fragments(task)) for task in plan.tasks] == GOLDEN
    assert [task.blocks for task in plan.tasks] == [(Block(40, 0, 6),), (Block(40, 6, 6),)]


GOLDEN = [(1, 3, 6, 5), (7, 2, 0, 4)]


# Without shuffling


def test_the_order_is_kept() -> None:
    plan = make_plan(known([30, 250, 30, 0, 50, 30]), 0, 40, 100, shuffle=False)
    assert [fragments(task) for task in plan.tasks] == [[0], [1], [2, 4], [5]]
    assert [task.shards for task in plan.tasks] == [range(1), range(1, 9), range(9, 11), range(11, 12)]


def test_a_task_is_filled_to_the_last_row() -> None:
    assert [fragments(task) for task in make_plan(known([2] * 4), 0, 1, 4, shuffle=False).tasks] == [[0, 1], [2, 3]]


# A limit


def test_a_limit_is_spread_over_the_source() -> None:
    """Whole fragments, as far from one another as can be; the last to be taken is cut."""
    plan = make_plan(known([100] * 16), 0, limit=450, shuffle=False)
    assert [read for task in plan.tasks for read in task.reads] == [
        Read(0, 100),
        Read(2, 50),
        Read(4, 100),
        Read(8, 100),
        Read(12, 100),
    ]


def test_a_limit_past_the_end_is_none() -> None:
    everything, limited = (make_plan(known([10] * 8), 0, limit=limit) for limit in (None, 1_000))
    assert everything == limited


def test_a_limit_sizes_shards() -> None:
    """A small taste of a large source has 16 shards too."""
    plan = make_plan(known([100] * 1_000), 0, limit=320)
    assert (plan.samples_per_shard, plan.rows) == (20, 320)


# Unknown rows


def test_a_fragment_of_unknown_rows_takes_the_numbers_it_could_fill() -> None:
    """A sample is no smaller than a header and a block: numbers do not depend on the count, unused ones are gaps."""
    sizes = [10 * LEAST_TAR_BYTES, 25 * LEAST_TAR_BYTES + 1, 1]
    plan = make_plan([Extent(None, size) for size in sizes], 0, 4, 8, shuffle=False)
    assert [task.reads for task in plan.tasks] == [(Read(number, None),) for number in range(3)]
    assert [len(task.shards) for task in plan.tasks] == [3, 7, 1]
    assert [task.shards.start for task in plan.tasks] == [0, 3, 10]
    assert [block.rows for block in plan.tasks[1].blocks] == [8, 8, 8, 2]
    assert plan.tasks[1].rows is None
    assert plan.rows is None


def test_a_task_of_unknown_rows_that_is_smaller_than_a_shard_fills_one() -> None:
    (task,) = make_plan([Extent(None, 20 * LEAST_TAR_BYTES)], 0, 10, 4).tasks
    assert task.blocks == (Block(10, 0, 1), Block(10, 1, 1))


def test_defaults_where_rows_are_unknown() -> None:
    plan = make_plan([Extent(None, 500_000_000)] * 4, 0)
    assert (plan.samples_per_shard, plan.samples_per_task) == (2_000, 8_192)
    assert {block.rows for task in plan.tasks for block in task.blocks[:-1]} == {8_000}  # whole shards


def test_a_limit_where_rows_are_unknown() -> None:
    """One task, which stops when it has them."""
    plan = make_plan([Extent(None, 500_000_000)] * 4, 0, limit=100)
    (task,) = plan.tasks
    assert (task.limit, fragments(task)) == (100, [0, 2, 1, 3])
    assert task.blocks == (Block(100, 0, 1),)
