"""The law of portions: each row of a task is in exactly one, in order, and no batch of a recipe is cut."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wdsremux.conversion.plan import Extent, Plan, make_plan
from wdsremux.conversion.portions import LEAST_ROWS, Portion, Stretch, cut, divide, gatherings

ROWS = st.lists(st.integers(1, 400) | st.integers(1, 9_000), min_size=1, max_size=40)
SHARD, TASK, BATCH = st.integers(1, 150), st.integers(20, 3_000) | st.none(), st.integers(1, 1_000) | st.none()
EACH, WORKERS, LIMIT = st.integers(LEAST_ROWS, 2_000), st.integers(1, 20), st.integers(1, 9_000) | st.none()


def planned(rows: list[int], per_shard: int, per_task: int | None, limit: int | None) -> Plan:
    return make_plan([Extent(count, 1_000 * count) for count in rows], 0, per_shard, per_task, limit=limit)


def check_portions(portions: tuple[Portion, ...], batch_rows: int | None) -> None:
    """They are all rows of their task, in its order, cut between batches."""
    task = portions[0].task
    assert [portion.number for portion in portions] == list(range(len(portions)))
    joined: list[Stretch] = []
    for part in (part for portion in portions for part in portion.stretches):
        if joined and (joined[-1].fragment, joined[-1].stop) == (part.fragment, part.first):
            joined[-1] = replace(joined[-1], stop=part.stop)
        else:
            joined.append(part)
    assert joined == [Stretch(read.fragment, 0, read.rows) for read in task.reads]
    sizes = [sum((part.stop or 0) - part.first for part in portion.stretches) for portion in portions]
    assert all(sizes)
    assert [portion.first for portion in portions] == list(itertools.accumulate(sizes, initial=0))[:-1]
    for part in (part for portion in portions for part in portion.stretches):
        assert part.first == 0 or (batch_rows is not None and part.first % batch_rows == 0)
    if len(portions) > 1:
        assert min(sizes) >= LEAST_ROWS


@settings(deadline=None)
@given(rows=ROWS, per_shard=SHARD, per_task=TASK, limit=LIMIT, each=EACH, batch=BATCH)
def test_every_row_once_and_no_batch_cut(
    rows: list[int], per_shard: int, per_task: int | None, limit: int | None, each: int, batch: int | None
) -> None:
    for task in planned(rows, per_shard, per_task, limit).tasks:
        check_portions(cut(task, each, batch), batch)


@settings(deadline=None)
@given(rows=ROWS, per_shard=SHARD, per_task=TASK, workers=WORKERS, batch=BATCH)
def test_a_block_is_gathered_from_the_portions_that_hold_its_rows(
    rows: list[int], per_shard: int, per_task: int | None, workers: int, batch: int | None
) -> None:
    for portions in divide(planned(rows, per_shard, per_task, None).tasks, workers, batch):
        check_portions(portions, batch)
        edges = [*(portion.first for portion in portions), portions[0].task.rows or 0]
        blocks = [gathering.rows for gathering in gatherings(portions)]
        assert [rows.start for rows in blocks] + [edges[-1]] == [0] + [rows.stop for rows in blocks]
        for gathering in gatherings(portions):
            held = [n for n in range(len(portions)) if max(edges[n], gathering.rows[0]) < edges[n + 1]]
            held = [n for n in held if edges[n] <= gathering.rows[-1]]
            assert list(gathering.portions) == held


@given(rows=ROWS, per_task=TASK, workers=WORKERS, batch=BATCH)
def test_a_large_run_is_left_as_it_is(rows: list[int], per_task: int | None, workers: int, batch: int | None) -> None:
    tasks = planned(rows, 10, per_task, None).tasks
    assume(workers == 1 or len(tasks) >= 4 * workers)
    assert all(len(portions) == 1 for portions in divide(tasks, workers, batch))


@given(count=st.integers(1, 40), workers=st.integers(2, 8))
def test_there_is_something_to_do_for_all(count: int, workers: int) -> None:
    """As far as there are rows: of small fragments, and of a single one."""
    for rows in ([64] * count, [64 * count]):
        divided = divide(planned(rows, 10, None, None).tasks, workers, 64)
        assert sum(map(len, divided)) >= min(workers, count // 2)


def test_unknown_rows_stay_whole() -> None:
    """And what is cut short by a limit that nobody knows the place of."""
    for limit in (None, 500):
        tasks = make_plan([Extent(None, 10_000_000)] * 2, 0, limit=limit).tasks
        assert all(len(portions) == 1 for portions in divide(tasks, 4, 64))
