"""A step whose worker dies is done again: what all engines share of that. Most steps are whole tasks.

    in the worker     carry_out      one attempt: its progress, then what ended it
    where tasks are   Attempts       which step is next, what each attempt has told, which are lost
    mapped from

A worker that dies from outside (the system out of memory, a lost machine) says nothing of its step, which another may
well finish. An error that a worker reports is of the step itself and would come again: it is raised at once.
"""

from __future__ import annotations

import errno
import functools
import pickle
import shutil
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wdsremux.conversion import bake as baking
from wdsremux.conversion import gather as gathering
from wdsremux.conversion import portions
from wdsremux.conversion.bake import Bakery
from wdsremux.conversion.engines.base import Done
from wdsremux.conversion.engines.shared_task import SharedTask
from wdsremux.conversion.events import Progress, Warned
from wdsremux.conversion.plan import Task
from wdsremux.conversion.portions import Closing, Gathering, Portion, Step, task_of
from wdsremux.conversion.row_stream import RowStream
from wdsremux.errors import ConversionError, WdsremuxError, WorkerError, counted

MOST = 3  #: attempts at a step: memory may run out twice by bad luck, a picture that crashes its decoder does it always

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  #: errors of a write, which know of no file's name

_REJECTS_KEPT = 1_000  #: of an attempt's, to be taken back with it; no more are listed of an unfinished task


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step is done, and its task is not."""


Message = Progress | Stepped | Done | WdsremuxError  #: what a worker tells of a step; all but the first end it


def carry_out(step: Step, bakery: bytes, tell: Callable[[Message], None], stream: RowStream) -> None:
    """Make one attempt at a step, in a worker.

    Args:
        step: what to do.
        bakery: a `Bakery`, pickled.
        tell: called after every batch of rows, and last with what ended it. Errors keep their notes where they are
            pickled, for those stand in their `__dict__`.
        stream: the worker's, of this bakery alone.
    """
    task = task_of(step)
    try:
        _do(step, _opened(bakery), tell, stream)
        tell(Done(task.number) if isinstance(step, Task | Closing) else Stepped())
    except WdsremuxError as error:
        tell(error)
    except OSError as error:
        where = f" could not write to {_opened(bakery).work.parent}" if error.errno in _FULL else ""
        tell(ConversionError(f"task {task.number}{where}: {error}. Run the same command again to resume"))
    except BaseException as error:  # a defect, or a recipe that calls sys.exit: a sentence, and its trace with --debug
        failure = WorkerError(f"task {task.number} failed: {type(error).__name__}: {error}")
        failure.add_note(traceback.format_exc())
        tell(failure)


def _do(step: Step, bakery: Bakery, tell: Callable[[Message], None], stream: RowStream) -> None:
    if isinstance(step, Task):
        baking.bake(step, bakery, tell, stream)
    elif isinstance(step, Portion):
        gathering.bake_portion(step, bakery, tell, stream)
    elif isinstance(step, Gathering):
        gathering.gather(step, bakery)
    else:
        gathering.close(step, bakery)


@functools.lru_cache(maxsize=1)  # a process bakes for one run at a time; a source may have many fragments
def _opened(bakery: bytes) -> Bakery:
    """Unpickled within an attempt, so that a bakery that cannot be is an error told like any other."""
    opened: Bakery = pickle.loads(bakery)
    return opened


class Attempts:
    """Keeps the steps that wait, and the books on those that are tried."""

    def __init__(self, tasks: Sequence[Task], bakery: Bakery, workers: int) -> None:
        """
        Args:
            tasks: all that is to be done.
            bakery: what they are done with.
            workers: that share them.
        """
        self._work = bakery.work
        self._waiting: deque[Step] = deque()
        self._shared: dict[int, SharedTask] = {}  #: by task: those that are cut into portions, and not done
        for parts in portions.divide(tasks, workers, bakery.batch_rows):
            task = parts[0].task
            self._waiting += parts if len(parts) > 1 else [task]
            if len(parts) > 1:
                self._shared[task.number] = SharedTask(parts, self._work)
        self._told: dict[Step, Progress] = {}  #: the sums of what the attempt at a step has told
        self._losses: Counter[Step] = Counter()

    @property
    def waiting(self) -> int:
        """How many steps could be begun now."""
        return len(self._waiting)

    @property
    def more(self) -> bool:
        """Whether steps may come that cannot be begun before others are done."""
        return bool(self._shared)

    def take(self) -> Step | None:
        """The next step, or None if none can be begun."""
        if not self._waiting:
            return None
        step = self._waiting.popleft()
        if isinstance(step, Portion):
            self._shared[step.task.number].begin()
        return step

    def put_back(self, step: Step) -> None:
        """Let a step that was never begun wait again; that was no attempt."""
        self._waiting.appendleft(step)

    def tally(self, step: Step, message: Message) -> list[Progress | Done | Warned]:
        """Take down what a worker told of a step; gives what is to be told of it.

        Raises:
            WdsremuxError: if that is an error.
        """
        if isinstance(message, WdsremuxError):
            raise message
        if isinstance(message, Progress):
            self._told[step] = _sum(self._told.get(step), message)
            return [message]
        self._told.pop(step, None)
        number = task_of(step).number
        if isinstance(message, Stepped):
            self._waiting.extendleft(self._shared[number].done(step))  # first: their portions take up disk
            return []
        if number in self._shared:
            self._shared.pop(number).clear()
        return [message]

    def lost(self, step: Step, how: str) -> list[Progress | Done | Warned]:
        """Let a step whose worker died wait again, before all others.

        Args:
            step: what the worker was at.
            how: it died, such as "signal SIGKILL".

        Returns:
            What undoes the progress that was told of it, and a warning.

        Raises:
            WorkerError: if this attempt was the last.
        """
        self._losses[step] += 1
        count, number = self._losses[step], task_of(step).number
        for folder in gathering.attempts_at(step, self._work):  # lest attempts add up to more disk than one takes
            shutil.rmtree(folder, ignore_errors=True)  # what cannot go now is cleared away with the journal
        told = self._told.pop(step, None)
        where = _place(step, 0 if told is None else told.rows)
        if count == MOST:
            raise WorkerError(
                f"{MOST} workers died while converting task {number}, the last one with {how}. It had reached "
                f"{where}. Run the same command again to resume; if memory ran out, use fewer workers (--workers)"
            )
        self._waiting.appendleft(step)
        warning = Warned(
            f"a worker died with {how} while converting task {number}, which is retried (attempt {count + 1} of "
            f"{MOST}). It had reached {where}"
        )
        return [warning] if told is None else [_undone(told), warning]

    def close(self) -> None:
        """Remove what nobody will go on with, once no worker writes any more."""
        for task in self._shared.values():
            task.clear()


def _place(step: Step, rows: int) -> str:
    """What a worker was at, that had told of so many rows of its step: where to look for what is too large for it."""
    if isinstance(step, Gathering | Closing):
        return "the end, with all rows of its shards converted"
    for part in (portions.whole(step) if isinstance(step, Task) else step).stretches:
        if part.stop is None or rows < part.stop - part.first:
            return f"fragment {part.fragment}, after {counted(part.first + rows, 'row')}"
        rows -= part.stop - part.first
    return "the end, after converting all rows"


def _sum(one: Progress | None, other: Progress) -> Progress:
    if one is None:
        return other
    return Progress(
        task=one.task,
        rows=one.rows + other.rows,
        samples=one.samples + other.samples,
        nrejects=one.nrejects + other.nrejects,
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        rejects=(one.rejects + other.rejects)[:_REJECTS_KEPT],
    )


def _undone(told: Progress) -> Progress:
    return Progress(told.task, -told.rows, -told.samples, -told.nrejects, -told.bytes_in, -told.bytes_out, told.rejects)
