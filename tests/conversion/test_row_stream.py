"""A worker's rows go on over the borders of its steps: nothing else, nothing less, and nothing sooner than it may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WriteSource, tiny_jpeg
from tests.support.kitchen import Kitchen
from wdsremux.conversion import portions
from wdsremux.conversion.plan import Task
from wdsremux.conversion.portions import Gathering, Portion, Step
from wdsremux.conversion.row_stream import RowStream
from wdsremux.conversion.source import Source
from wdsremux.conversion.source.base import Fragment, Piece
from wdsremux.errors import SourceError

GROUP = 10  #: rows of a fragment
BATCH = 4
PATIENCE_S = 10.0


class Watched:
    """A source's reader that tells which fragments were begun, and fails at some."""

    def __init__(self, reader: Any, lost: Sequence[int] = ()) -> None:
        self._reader, self._lost = reader, lost
        self.begun: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        self.begun.append(fragment.part)
        if fragment.part in self._lost:
            raise SourceError(f"fragment {fragment.part} is lost")
        return self._reader.pieces(fragment, names, batch_rows)  # type: ignore[no-any-return]


class Steps:
    """The tasks of a plan, as a worker gets them; counts how often it asked what comes."""

    def __init__(self, source: Source, tasks: Sequence[Task], remote: bool = True, lost: Sequence[int] = ()) -> None:
        self.reader = Watched(source.reader, lost)
        self.source = replace(source, reader=self.reader, files=replace(source.files, remote=remote))
        self.steps: list[Step] = list(tasks)
        self.asked = 0
        self.stream = RowStream(self._coming)

    def _coming(self) -> Step | None:
        self.asked += 1
        return self.steps[0] if self.steps else None

    def rows(self) -> Iterator[tuple[int, int]]:
        """(fragment, row) of all rows of the next step."""
        step = self.steps.pop(0)
        portion = portions.whole(step) if isinstance(step, Task) else step
        assert isinstance(portion, Portion)
        for rows in self.stream.rows(portion, self.source, BATCH):
            yield from ((rows.fragment, row) for row in range(rows.first, rows.first + len(rows)))


@pytest.fixture
def kitchen(write_source: WriteSource, tmp_path: Path) -> Kitchen:
    """Six tasks of two fragments each."""
    source = write_source([tiny_jpeg(i % 50) for i in range(12 * GROUP)], rows_a_group=GROUP)
    return Kitchen(source, tmp_path / "out", samples_per_shard=GROUP, samples_per_task=2 * GROUP)


def wanted(task: Task) -> list[tuple[int, int]]:
    return [(read.fragment, row) for read in task.reads for row in range(GROUP)]


def wait_until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.002)


def idle() -> bool:
    return not any(thread.name == "wdsremux-reading" for thread in threading.enumerate())


@pytest.mark.parametrize("remote", [True, False])
def test_the_same_rows_in_the_same_order(kitchen: Kitchen, remote: bool) -> None:
    steps = Steps(kitchen.bakery.source, kitchen.plan.tasks, remote)
    for task in kitchen.plan.tasks:
        assert list(steps.rows()) == wanted(task)
    assert sorted(steps.reader.begun) == list(range(12)), "each fragment is read once"
    wait_until(idle)


def test_the_next_step_is_read_while_the_last_rows_of_this_one_wait(kitchen: Kitchen) -> None:
    first, second = kitchen.plan.tasks[:2]
    steps = Steps(kitchen.bakery.source, (first, second))
    rows = steps.rows()
    came = [next(rows)]
    wait_until(idle)  # all of it is read, and the first batch is out
    assert steps.asked == 0
    came += [next(rows) for _ in range(BATCH)]
    wait_until(lambda: len(steps.reader.begun) == 4)
    assert steps.asked == 1
    came += rows
    assert (came, list(steps.rows())) == (wanted(first), wanted(second))
    assert len(steps.reader.begun) == 4


def test_a_local_source_is_read_step_by_step(kitchen: Kitchen) -> None:
    steps = Steps(kitchen.bakery.source, kitchen.plan.tasks[:2], remote=False)
    list(steps.rows())
    assert (steps.asked, len(steps.reader.begun)) == (0, 2)


def test_nothing_is_read_for_a_gathering(kitchen: Kitchen) -> None:
    task = kitchen.plan.tasks[0]
    steps = Steps(kitchen.bakery.source, (task,))
    steps.steps.append(Gathering(task, 0, (0,)))
    assert list(steps.rows()) == wanted(task)
    assert len(steps.reader.begun) == 2


def test_another_step_than_was_told(kitchen: Kitchen) -> None:
    """What was begun is let go of."""
    first, second, third = kitchen.plan.tasks[:3]
    steps = Steps(kitchen.bakery.source, (first, second))
    list(steps.rows())
    steps.steps[0] = third
    assert list(steps.rows()) == wanted(third)
    wait_until(idle)


def test_an_error_waits_for_its_step(kitchen: Kitchen) -> None:
    first, second = kitchen.plan.tasks[:2]
    steps = Steps(kitchen.bakery.source, (first, second), lost=[second.reads[1].fragment])
    assert list(steps.rows()) == wanted(first)
    came: list[tuple[int, int]] = []
    with pytest.raises(SourceError, match="is lost"):
        came.extend(steps.rows())
    assert came == wanted(second)[:GROUP]
    wait_until(idle)
