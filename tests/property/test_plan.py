"""The law of the plan: every row of the source is in exactly one task, and shards are numbered before any work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wdsremux.conversion.plan import Plan, make_plan

FRAGMENTS = st.lists(st.integers(0, 400), min_size=1, max_size=60).filter(any)
SHARD, TASK, SEED = st.integers(1, 150), st.integers(1, 300), st.integers(0, 9)


@given(rows=FRAGMENTS, per_shard=SHARD | st.none(), per_task=TASK | st.none(), seed=SEED)
def test_every_fragment_once_and_whole(rows: list[int], per_shard: int | None, per_task: int | None, seed: int) -> None:
    plan = make_plan(rows, seed, per_shard, per_task)
    dealt = [fragment for task in plan.tasks for fragment in task.fragments]
    assert sorted(dealt) == [i for i, count in enumerate(rows) if count]
    assert plan.rows == sum(rows)
    for task in plan.tasks:
        assert task.rows == sum(rows[i] for i in task.fragments) > 0


@given(rows=FRAGMENTS, per_shard=SHARD, per_task=TASK, seed=SEED)
def test_numbers_run_on(rows: list[int], per_shard: int, per_task: int, seed: int) -> None:
    plan = make_plan(rows, seed, per_shard, per_task)
    assert [task.number for task in plan.tasks] == list(range(len(plan.tasks)))
    shard = 0
    for block in (block for task in plan.tasks for block in task.blocks):
        assert block.first_shard == shard
        assert block.shards == -(-block.rows // per_shard)
        shard += block.shards


@given(rows=FRAGMENTS, per_task=TASK, seed=SEED)
def test_sizes_of_tasks(rows: list[int], per_task: int, seed: int) -> None:
    """About equal and about `per_task`, to within one fragment; a larger fragment stands alone, in blocks of that."""
    plan = make_plan(rows, seed, 10, per_task)
    small = [count for count in rows if 0 < count <= per_task]
    mean = sum(small) / -(-sum(small) // per_task) if small else 0
    for task in plan.tasks:
        if len(task.fragments) == 1 and rows[task.fragments[0]] > per_task:
            sizes = [block.rows for block in task.blocks]
            assert sizes[:-1] == [per_task] * (len(sizes) - 1)
            assert 0 < sizes[-1] <= per_task
        else:
            assert len(task.blocks) == 1
            assert abs(task.rows - mean) <= max(small)


@given(rows=FRAGMENTS, seed=SEED)
def test_the_same_every_time(rows: list[int], seed: int) -> None:
    plans: list[Plan] = [make_plan(rows, seed), make_plan(tuple(rows), seed)]
    assert plans[0] == plans[1]
