"""A task whose worker dies is done again: what all engines share of that.

    in the worker     carry_out      one attempt: its progress, then Done or the error that ended it
    where tasks are   Attempts       which task is next, what each attempt has told, which are lost
    mapped from

A worker that dies from outside (the system out of memory, a lost machine) says nothing of its task, which another may
well finish. An error that a worker reports is of the task itself and would come again: it is raised at once.
"""

from __future__ import annotations

import errno
import functools
import pickle
import shutil
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from wdsremux.conversion import bake as baking
from wdsremux.conversion.bake import Bakery
from wdsremux.conversion.engines.base import Done
from wdsremux.conversion.events import Progress, Warned
from wdsremux.conversion.plan import Task
from wdsremux.errors import ConversionError, WdsremuxError, WorkerError, counted

MOST = 3  #: attempts at a task: memory may run out twice by bad luck, a picture that crashes its decoder does it always

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})  #: errors of a write, which know of no file's name

Message = Progress | Done | WdsremuxError  #: what a worker tells of a task; the last two end it


def carry_out(task: Task, bakery: bytes, tell: Callable[[Message], None]) -> None:
    """Make one attempt at a task, in a worker.

    Args:
        task: what to bake.
        bakery: a `Bakery`, pickled.
        tell: called after every batch of rows, and last with Done or the error. Errors keep their notes where they are
            pickled, for those stand in their `__dict__`.
    """
    try:
        baking.bake(task, _opened(bakery), tell)
        tell(Done(task.number))
    except WdsremuxError as error:
        tell(error)
    except OSError as error:
        where = f" could not write to {_opened(bakery).work.parent}" if error.errno in _FULL else ""
        tell(ConversionError(f"task {task.number}{where}: {error}. Run the same command again to resume"))
    except BaseException as error:  # a defect, or a recipe that calls sys.exit: a sentence, and its trace with --debug
        failure = WorkerError(f"task {task.number} failed: {type(error).__name__}: {error}")
        failure.add_note(traceback.format_exc())
        tell(failure)


@functools.lru_cache(maxsize=1)  # a process bakes for one run at a time; a source may have many fragments
def _opened(bakery: bytes) -> Bakery:
    """Unpickled within an attempt, so that a bakery that cannot be is an error told like any other."""
    opened: Bakery = pickle.loads(bakery)
    return opened


class Attempts:
    """Keeps the tasks that wait, and the books on those that are tried."""

    def __init__(self, tasks: Sequence[Task], work: Path) -> None:
        """
        Args:
            tasks: all that is to be done.
            work: the folder of partial files, from which those of lost attempts are removed.
        """
        self._waiting = deque(tasks)
        self._work = work
        self._told: dict[int, Progress] = {}  #: by task: the sums of what its attempt has told
        self._losses: Counter[int] = Counter()  #: by task

    def take(self) -> Task | None:
        """The next task, or None if none waits."""
        return self._waiting.popleft() if self._waiting else None

    def put_back(self, task: Task) -> None:
        """Let a task that was never begun wait again; that was no attempt."""
        self._waiting.appendleft(task)

    def tally(self, message: Message) -> Progress | Done:
        """Take down what a worker told, and hand it on.

        Raises:
            WdsremuxError: if that is an error.
        """
        if isinstance(message, Progress):
            self._told[message.task] = _sum(self._told.get(message.task), message)
        elif isinstance(message, Done):
            self._told.pop(message.task, None)
        else:
            raise message
        return message

    def lost(self, task: Task, how: str) -> list[Progress | Warned]:
        """Let a task whose worker died wait again, before all others.

        Args:
            task: what the worker was at.
            how: it died, such as "signal SIGKILL".

        Returns:
            What undoes the progress that was told of it, and a warning.

        Raises:
            WorkerError: if this attempt was the last.
        """
        self._losses[task.number] += 1
        count = self._losses[task.number]
        self._clear(task)
        told = self._told.pop(task.number, None)
        where = _place(task, 0 if told is None else told.rows)
        if count == MOST:
            raise WorkerError(
                f"{MOST} workers died while converting task {task.number}, the last one with {how}. It had reached "
                f"{where}. Run the same command again to resume; if memory ran out, use fewer workers (--workers)"
            )
        self._waiting.appendleft(task)
        warning = Warned(
            f"a worker died with {how} while converting task {task.number}, which is retried (attempt {count + 1} of "
            f"{MOST}). It had reached {where}"
        )
        return [warning] if told is None else [_undone(told), warning]

    def _clear(self, task: Task) -> None:
        """Remove the partial files of a lost attempt, lest attempts add up to more disk than one takes."""
        for folder in self._work.glob(f"task-{task.number:06d}-*"):
            shutil.rmtree(folder, ignore_errors=True)  # what cannot go now is cleared away with the journal


def _place(task: Task, rows: int) -> str:
    """What a worker was at, that had told of so many rows of its task: where to look for what is too large for it."""
    for read in task.reads:
        if read.rows is None or rows < read.rows:
            return f"fragment {read.fragment}, after {counted(rows, 'row')}"
        rows -= read.rows
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
    )


def _undone(told: Progress) -> Progress:
    return Progress(told.task, -told.rows, -told.samples, -told.nrejects, -told.bytes_in, -told.bytes_out)
