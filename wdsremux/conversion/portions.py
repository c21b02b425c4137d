"""One task for several workers: cut into portions, which are baked side by side and gathered block by block. Pure.

    task      fragments  5   0   7   2            or one large fragment of several blocks
    portions            |5 0|7 2|                 |0 … 511|512 … 1,023|…
                          └─┬─┘                       └────┬────┘
    gathering             block                       block, block, …     permuted, written as partial shards
    closing               task                           task             published, recorded

A run decides this by its workers and by what is left to do, and forgets it: plan, journal and bytes are those of whole
tasks. Within a fragment a portion begins with a batch of the recipe, because a user's recipe gets, and draws by, whole
batches counted from the fragment's first row.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wdsremux.conversion.plan import Task

LEAST_ROWS = 64  #: of a portion, about
_A_WORKER = 4  #: portions, of all that is to be done; tasks, from which on none is cut
_A_WORKER_AND_BLOCK = 2  #: portions of a block of one fragment, which each worker reads from its beginning
_MOST = 64  #: portions of a block, about: each is a file that is open while the block is gathered


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive rows of one fragment."""

    fragment: int
    first: int  #: row of the fragment
    stop: int | None  #: the row after the last; None: to the end, where the number of rows is not known


@dataclass(frozen=True, slots=True)
class Portion:
    """Consecutive rows of a task, baked by one worker."""

    task: Task
    number: int  #: among the task's portions
    first: int  #: place among the task's rows of its first row
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Gathering:
    """The portions of a block are there, and become its shards."""

    task: Task
    block: int
    portions: tuple[int, ...]  #: numbers of those that hold rows of the block

    @property
    def rows(self) -> range:
        """Places of the block's rows among those of the task."""
        first = sum(block.rows for block in self.task.blocks[: self.block])
        return range(first, first + self.task.blocks[self.block].rows)


@dataclass(frozen=True, slots=True)
class Closing:
    """All blocks of a task are gathered, and it can be published and recorded."""

    task: Task
    portions: int  #: how many there were


Step = Task | Portion | Gathering | Closing  #: what a worker does in one go


def task_of(step: Step) -> Task:
    """The task that a step is of."""
    return step if isinstance(step, Task) else step.task


def whole(task: Task) -> Portion:
    """A task in one portion."""
    return Portion(task, 0, 0, tuple(Stretch(read.fragment, 0, read.rows) for read in task.reads))


def gatherings(portions: Sequence[Portion]) -> tuple[Gathering, ...]:
    """What becomes of the portions of a task, block by block."""
    task, starts, found, first = portions[0].task, [portion.first for portion in portions], [], 0
    for number, block in enumerate(task.blocks):
        stop = first + block.rows
        numbers = range(bisect.bisect_right(starts, first) - 1, bisect.bisect_left(starts, stop))
        found.append(Gathering(task, number, tuple(numbers)))
        first = stop
    return tuple(found)


def most_gathered(portions: Sequence[Portion]) -> int:
    """How many portions become a block at most; 0 of a task that stays whole."""
    return max(len(block.portions) for block in gatherings(portions)) if len(portions) > 1 else 0


def divide(tasks: Sequence[Task], workers: int, batch_rows: int | None) -> list[tuple[Portion, ...]]:
    """The portions of each task; a single one of those that stay whole.

    Tasks are cut where there are too few to keep all workers busy to the end, and only those whose rows are known.

    Args:
        tasks: all that is to be done in a run.
        workers: that share the work.
        batch_rows: of the recipe; None: fragments stay whole, because each worker would fetch them from a server.
    """
    if workers == 1 or len(tasks) >= _A_WORKER * workers:
        return [(whole(task),) for task in tasks]
    each_rows = _share(sum(task.rows or 0 for task in tasks), _A_WORKER * workers)
    return [_cut(task, workers, each_rows, batch_rows) for task in tasks]


def _cut(task: Task, workers: int, each_rows: int, batch_rows: int | None) -> tuple[Portion, ...]:
    if not task.rows or task.limit is not None:
        return (whole(task),)
    block_rows = max(block.rows for block in task.blocks)
    if len(task.reads) == 1:
        each_rows = _share(block_rows, _A_WORKER_AND_BLOCK * workers)
    return cut(task, max(LEAST_ROWS, each_rows, _share(block_rows, _MOST)), batch_rows)


def _share(rows: int, parts: int) -> int:
    return -(-rows // parts)


def cut(task: Task, each_rows: int, batch_rows: int | None) -> tuple[Portion, ...]:
    """Cut a task of known rows, where fragments end or, if they are large, where a batch begins.

    Args:
        task: what to cut.
        each_rows: rows of a portion, about; at least three quarters of it, and `LEAST_ROWS`, but for the last one.
        batch_rows: see `divide`.
    """
    total = task.rows or 0
    edges = [0]
    for place in sorted(set(_places(task, each_rows, batch_rows))):
        if place - edges[-1] >= max(LEAST_ROWS, 3 * each_rows // 4) and total - place >= LEAST_ROWS:
            edges.append(place)
    ends = itertools.pairwise([*edges, total])
    return tuple(Portion(task, number, *_stretches(task, first, stop)) for number, (first, stop) in enumerate(ends))


def _places(task: Task, each_rows: int, batch_rows: int | None) -> Iterator[int]:
    """Where a task may be cut: as evenly as batches allow within each block, and at the ends of fragments."""
    fragment_first = 0
    for read in task.reads:
        rows, block_first = read.rows or 0, 0
        yield fragment_first
        for block in task.blocks if batch_rows is not None else ():
            first = max(fragment_first, block_first)
            stop = min(fragment_first + rows, block_first + block.rows)
            parts = max(1, round((stop - first) / each_rows))
            for part in range(parts if stop > first else 0):
                row = first - fragment_first + part * (stop - first) // parts
                row = -(-row // (batch_rows or 1)) * (batch_rows or 1)
                yield fragment_first + min(row, rows)
            block_first += block.rows
        fragment_first += rows


def _stretches(task: Task, first: int, stop: int) -> tuple[int, tuple[Stretch, ...]]:
    """The place of the first row, and what lies from there to `stop`."""
    found, fragment_first = [], 0
    for read in task.reads:
        rows = read.rows or 0
        start, end = max(first, fragment_first), min(stop, fragment_first + rows)
        if start < end:
            found.append(Stretch(read.fragment, start - fragment_first, end - fragment_first))
        fragment_first += rows
    return first, tuple(found)
