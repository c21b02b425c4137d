"""Rejects counted while tasks run, against what is allowed; and the list of those known, where they are too many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wdsremux import files
from wdsremux.conversion.events import Progress
from wdsremux.conversion.journal import Journal
from wdsremux.conversion.plan import Task
from wdsremux.conversion.spec import Spec
from wdsremux.errors import RejectError, counted, printable
from wdsremux.format import manifest
from wdsremux.format.rejects import RejectLine

_LEAST_ROWS = 8_192  #: that a share of rejects is taken of where nobody knows the rows
_MOST_LISTED = 1_000  #: rejects of an unfinished task that are held in memory


@dataclass(slots=True)
class RejectCount:
    """Counts rejects against what is allowed."""

    spec: Spec
    begun: Journal
    rows: int  #: of finished tasks, and of what was told of others
    rejects: int  #: of those
    _pending: set[int]  #: numbers of tasks that are not done
    _told: dict[int, list[RejectLine]] = field(default_factory=dict)  #: by pending task, the first of its rejects

    @staticmethod
    def of(spec: Spec, begun: Journal, pending: Sequence[Task]) -> RejectCount:
        """A count that begins with what earlier runs have finished."""
        waiting = {task.number for task in pending}
        done = [task for task in begun.plan.tasks if task.number not in waiting and begun.recorded(task)]
        records = [begun.record(task.number) for task in done]
        rejects = sum(len(record.rejects) for record in records)
        return RejectCount(spec, begun, sum(record.rows for record in records), rejects, waiting)

    def add(self, progress: Progress) -> None:
        """Take note of some work, or that it was lost.

        Raises:
            RejectError: if there are too many rejects.
        """
        self.rows += progress.rows
        self.rejects += progress.nrejects
        if progress.rows < 0:
            lost = set(progress.rejects)
            self._told[progress.task] = [line for line in self._told.get(progress.task, []) if line not in lost]
        elif progress.rejects:
            told = self._told.setdefault(progress.task, [])
            told += progress.rejects[: _MOST_LISTED - len(told)]
        self.check()

    def done(self, task: int) -> None:
        """A task is finished, and its rejects are in its record."""
        self._pending.discard(task)
        self._told.pop(task, None)

    def check(self) -> None:
        """
        Raises:
            RejectError: if there are too many.
        """
        planned = self.begun.plan.rows
        allowed = self.spec.rejects_allowed(max(self.rows, _LEAST_ROWS) if planned is None else planned)
        if self.rejects <= allowed:
            return
        known = self._known()
        raise RejectError(
            f"{counted(self.rejects, 'row')} could not be converted, and {allowed:,} "
            f"{'is' if allowed == 1 else 'are'} allowed{_example(known)}{self._listed(known)}. "
            "Check the source, or allow more with --max-rejects and run the same command again"
        )

    def _known(self) -> list[RejectLine]:
        """Those of finished tasks, and the first of others, in the order of the tasks."""
        lines: list[RejectLine] = []
        for task in self.begun.plan.tasks:
            if task.number in self._pending:
                lines += self._told.get(task.number, [])
            elif self.begun.recorded(task):
                lines += self.begun.record(task.number).rejects
        return lines

    def _listed(self, known: Sequence[RejectLine]) -> str:
        """Write down what is known; gives the words that say where. A full disk takes nothing from the error itself."""
        path = self.begun.work / manifest.REJECTS
        try:
            _write(path, known)
        except OSError:
            return ""
        if len(known) < self.rejects:
            return f". The first ones are listed in {path}"
        return f". {'It is' if self.rejects == 1 else 'They are'} listed in {path}"


def _write(path: Path, lines: Sequence[RejectLine]) -> None:
    with files.atomic(path) as file:
        file.writelines(line.dumps() for line in lines)


def _example(known: Sequence[RejectLine]) -> str:
    if not known:
        return ""
    line = known[0]
    part = "" if line.part is None else f", part {line.part}"
    where = line.where or f"row {line.row} of fragment {line.fragment}"  # an earlier version recorded no more
    return printable(f", for example {where}{part}: {line.reason}")
