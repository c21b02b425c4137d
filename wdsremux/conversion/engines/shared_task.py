"""A task that several workers share: which of its steps are done, and which can be begun now."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from wdsremux.conversion import gather
from wdsremux.conversion.portions import Closing, Gathering, Portion, Step, gatherings


class SharedTask:
    """The steps of one task."""

    def __init__(self, portions: Sequence[Portion], work: Path) -> None:
        """
        Args:
            portions: into which it is cut.
            work: the folder in which its own is made.
        """
        self._task, self._work, self._count = portions[0].task, work, len(portions)
        self._unbaked = {portion.number for portion in portions}
        self._waiting = list(gatherings(portions))  #: that cannot be begun
        self._running: list[Gathering] = []  #: that can be begun, or were

    def begin(self) -> None:
        """Make its folder, before the first worker needs it: one that is late finds none, and makes none."""
        gather.shared_folder(self._work, self._task).mkdir(exist_ok=True)

    def done(self, step: Step) -> list[Step]:
        """Take down that a step is done; gives those that can be begun now."""
        if isinstance(step, Portion):
            self._unbaked.discard(step.number)
            ready = [block for block in self._waiting if self._unbaked.isdisjoint(block.portions)]
            self._waiting = [block for block in self._waiting if block not in ready]
            self._running += ready
            return list(ready)
        if isinstance(step, Gathering) and step in self._running:
            self._running.remove(step)
            needed = {number for block in self._waiting + self._running for number in block.portions}
            for number in set(step.portions) - needed:
                gather.drop(self._work, self._task, number)
        return [] if self._waiting or self._running else [Closing(self._task, self._count)]

    def clear(self) -> None:
        """Remove its folder."""
        shutil.rmtree(gather.shared_folder(self._work, self._task), ignore_errors=True)
