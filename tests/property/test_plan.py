"""The law of the plan: every row of the source is in exactly one task, and shards are numbered before any work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wdsremux.conversion.plan import Block, Extent, Plan, Read, Task, agree, make_plan

FRAGMENTS = st.lists(st.integers(0, 400), min_size=1, max_size=60).filter(any)
UNKNOWN = st.lists(st.tuples(st.none() | st.integers(0, 400), st.integers(0, 400_000)), min_size=1, max_size=30)
SHARD, TASK, SEED, LIMIT = st.integers(1, 150), st.integers(1, 300), st.integers(0, 9), st.integers(1, 5_000)
SHUFFLE = st.booleans()


def known(rows: list[int]) -> list[Extent]:
    return [Extent(count, 1_000 * count) for count in rows]


def reads(plan: Plan) -> list[Read]:
    return [read for task in plan.tasks for read in task.reads]


@given(rows=FRAGMENTS, per_shard=SHARD | st.none(), per_task=TASK | st.none(), seed=SEED, shuffle=SHUFFLE)
def test_every_row_once(rows: list[int], per_shard: int | None, per_task: int | None, seed: int, shuffle: bool) -> None:
    plan = make_plan(known(rows), seed, per_shard, per_task, shuffle=shuffle)
    dealt = sorted((read.fragment, read.rows) for read in reads(plan))
    assert dealt == [(number, count) for number, count in enumerate(rows) if count]
    assert plan.rows == sum(rows)
    for task in plan.tasks:
        assert task.rows == sum(rows[read.fragment] for read in task.reads) > 0
        assert task.rows == sum(block.rows for block in task.blocks)


@given(rows=FRAGMENTS, per_task=TASK | st.none(), limit=LIMIT | st.none())
def test_the_order_is_kept_without_shuffling(rows: list[int], per_task: int | None, limit: int | None) -> None:
    plan = make_plan(known(rows), 0, 10, per_task, shuffle=False, limit=limit)
    order = [read.fragment for read in reads(plan)]
    assert order == sorted(set(order))


@given(rows=FRAGMENTS, per_task=TASK | st.none(), seed=SEED, shuffle=SHUFFLE, limit=LIMIT)
@example(rows=[0, 5, 0, 5], per_task=None, seed=0, shuffle=False, limit=10)
def test_a_limit_takes_so_many_rows(
    rows: list[int], per_task: int | None, seed: int, shuffle: bool, limit: int
) -> None:
    """Of whole fragments, but for one; and never more of one than it has."""
    plan = make_plan(known(rows), seed, 10, per_task, shuffle=shuffle, limit=limit)
    assert plan.rows == min(limit, sum(rows))
    taken = {read.fragment: read.rows or 0 for read in reads(plan)}
    assert len(taken) == len(reads(plan))
    assert all(0 < count <= rows[number] for number, count in taken.items())
    assert sum(count < rows[number] for number, count in taken.items()) <= 1


@given(count=st.integers(1, 200), taken=st.integers(1, 200))
def test_a_limit_is_spread(count: int, taken: int) -> None:
    """Of `taken` equal fragments, any run of the source holds its share, to within a factor of two and one more."""
    taken = min(taken, count)
    chosen = {read.fragment for read in reads(make_plan(known([7] * count), 0, limit=7 * taken))}
    gaps = sorted(chosen)
    assert len(chosen) == taken
    assert all(
        after - before <= 2 * -(-count // taken) + 1 for before, after in zip(gaps, [*gaps[1:], count], strict=True)
    )


@given(rows=FRAGMENTS, per_shard=SHARD, per_task=TASK, seed=SEED, shuffle=SHUFFLE, limit=LIMIT | st.none())
def test_numbers_run_on(
    rows: list[int], per_shard: int, per_task: int, seed: int, shuffle: bool, limit: int | None
) -> None:
    plan = make_plan(known(rows), seed, per_shard, per_task, shuffle=shuffle, limit=limit)
    check_numbers(plan)
    for task in plan.tasks:
        for block in task.blocks:
            assert block.shards == -(-block.rows // per_shard)


def check_numbers(plan: Plan) -> None:
    assert [task.number for task in plan.tasks] == list(range(len(plan.tasks)))
    shard = 0
    for block in (block for task in plan.tasks for block in task.blocks):
        assert block.first_shard == shard
        assert block.rows > 0
        assert block.shards > 0
        shard += block.shards


@given(rows=FRAGMENTS, per_task=TASK, seed=SEED)
def test_sizes_of_tasks(rows: list[int], per_task: int, seed: int) -> None:
    """About equal and about `per_task`, to within one fragment; a larger fragment stands alone, in blocks of that."""
    plan = make_plan(known(rows), seed, 10, per_task)
    small = [count for count in rows if 0 < count <= per_task]
    mean = sum(small) / -(-sum(small) // per_task) if small else 0
    for task in plan.tasks:
        if len(task.reads) == 1 and rows[task.reads[0].fragment] > per_task:
            sizes = [block.rows for block in task.blocks]
            assert sizes[:-1] == [per_task] * (len(sizes) - 1)
            assert 0 < sizes[-1] <= per_task
        else:
            assert len(task.blocks) == 1
            assert abs((task.rows or 0) - mean) <= max(small)


@given(rows=FRAGMENTS, per_task=TASK)
def test_sizes_of_tasks_in_order(rows: list[int], per_task: int) -> None:
    """No task is larger, unless it is of one fragment; two neighbours would not have fitted into one."""
    plan = make_plan(known(rows), 0, 10, per_task, shuffle=False)
    sizes = [task.rows or 0 for task in plan.tasks]
    assert all(len(task.reads) == 1 or (task.rows or 0) <= per_task for task in plan.tasks)
    for before, task in zip(sizes, plan.tasks[1:], strict=False):
        assert before + (task.reads[0].rows or 0) > per_task


@given(rows=FRAGMENTS, seed=SEED)
def test_the_same_every_time(rows: list[int], seed: int) -> None:
    assert make_plan(known(rows), seed) == make_plan(tuple(known(rows)), seed)


# Unknown rows


@given(extents=UNKNOWN, per_shard=SHARD, per_task=TASK, seed=SEED, shuffle=SHUFFLE)
def test_every_fragment_once_where_rows_are_unknown(
    extents: list[tuple[int | None, int]], per_shard: int, per_task: int, seed: int, shuffle: bool
) -> None:
    plan = make_plan([Extent(*extent) for extent in extents], seed, per_shard, per_task, shuffle=shuffle)
    check_numbers(plan)
    dealt = {read.fragment: read.rows for read in reads(plan)}
    assert len(dealt) == len(reads(plan))
    assert dealt == {number: rows for number, (rows, _) in enumerate(extents) if rows != 0}
    for task in plan.tasks:
        if task.rows is None:
            (read,) = task.reads
            check_room(task, extents[read.fragment][1], per_shard)


def check_room(task: Task, size_bytes: int, per_shard: int) -> None:
    """A tar of that many bytes cannot hold more samples than its task has room for, and all blocks but the last fill
    their shards: where a block begins then depends on no count."""
    assert sum(block.rows for block in task.blocks) >= size_bytes // 1_024
    assert all(block.rows == block.shards * per_shard for block in task.blocks[:-1])
    assert all(block.rows <= block.shards * per_shard for block in task.blocks)


@given(sizes=st.lists(st.integers(1, 400_000), min_size=1, max_size=20), limit=LIMIT, per_shard=SHARD, per_task=TASK)
def test_a_limit_where_rows_are_unknown(sizes: list[int], limit: int, per_shard: int, per_task: int) -> None:
    plan = make_plan([Extent(None, size) for size in sizes], 0, per_shard, per_task, limit=limit)
    check_numbers(plan)
    (task,) = plan.tasks
    assert sorted(read.fragment for read in task.reads) == list(range(len(sizes)))
    assert sum(block.rows for block in task.blocks) == limit == task.limit


@given(rows=FRAGMENTS, per_shard=SHARD, per_task=TASK, seed=SEED, shuffle=SHUFFLE, other=TASK)
def test_plans_of_the_same_rows_agree(
    rows: list[int], per_shard: int, per_task: int, seed: int, shuffle: bool, other: int
) -> None:
    """However they deal them."""
    saved = make_plan(known(rows), seed, per_shard, per_task, shuffle=shuffle)
    assert agree(saved, saved)
    assert agree(saved, make_plan(known(rows), seed + 1, per_shard, other))


@given(extents=UNKNOWN, per_shard=SHARD, per_task=TASK, seed=SEED)
def test_plans_of_unknown_rows_agree_with_themselves(
    extents: list[tuple[int | None, int]], per_shard: int, per_task: int, seed: int
) -> None:
    fragments = [Extent(*extent) for extent in extents]
    saved = make_plan(fragments, seed, per_shard, per_task)
    assert agree(saved, make_plan(fragments, seed, per_shard, per_task))


def changed(plan: Plan, **values: Any) -> Plan:
    """With other values in its second task."""
    tasks = [replace(task, **values) if task.number == 1 else task for task in plan.tasks]
    return replace(plan, tasks=tuple(tasks))


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("a fragment that another task reads", {"reads": (Read(0, 20),)}),
        ("a fragment lost", {"reads": ()}),
        ("fewer rows of it", {"reads": (Read(1, 19),)}),
        ("fewer rows of it, and in its shards", {"reads": (Read(1, 19),), "blocks": (Block(10, 2, 1), Block(9, 3, 1))}),
        ("rows that nobody counted", {"reads": (Read(1, None),)}),
        ("a number that another shard has", {"blocks": (Block(10, 1, 1), Block(10, 3, 1))}),
        ("a number left out", {"blocks": (Block(10, 2, 1), Block(10, 4, 1))}),
        ("more shards than rows", {"blocks": (Block(1, 2, 2), Block(19, 4, 2))}),
        ("rows without a shard", {"blocks": (Block(10, 2, 0), Block(10, 2, 2))}),
        ("too few rows in blocks", {"blocks": (Block(10, 2, 1), Block(9, 3, 1))}),
        ("too many rows in blocks", {"blocks": (Block(10, 2, 1), Block(11, 3, 1))}),
    ],
)
def test_a_plan_that_lost_or_doubled_something_does_not_agree(what: str, values: dict[str, Any]) -> None:
    plan = make_plan(known([20, 20, 20]), 0, 10, 20, shuffle=False)
    assert [task.blocks[0].first_shard for task in plan.tasks] == [0, 2, 4]
    assert agree(changed(plan), plan)
    assert not agree(changed(plan, **values), plan), what


def test_a_fragment_of_one_row_is_not_one_of_unknown_rows() -> None:
    plan = make_plan(known([1]), 0)
    task = replace(plan.tasks[0], reads=(Read(0, None),))
    assert not agree(replace(plan, tasks=(task,)), plan)


def test_blocks_that_fit_otherwise_agree() -> None:
    plan = make_plan(known([20, 20, 20]), 0, 10, 20, shuffle=False)
    assert agree(changed(plan, blocks=(Block(20, 2, 2),)), plan)
    assert agree(changed(plan, blocks=(Block(2, 2, 1), Block(18, 3, 1), Block(0, 4, 0))), plan)
