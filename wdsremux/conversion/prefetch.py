"""Reading ahead: while rows bake, threads read those that come next, as far as a bound in bytes allows.

    threads ── each takes the next reading, puts its batches on its own shelf ──> the one who bakes, in order

A network is waited for while the CPU works, and a disk too. Several readings at once make up for the time that a server
takes to begin an answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from wdsremux.conversion.source import Rows


@dataclass(frozen=True, slots=True)
class Reading:
    """Something to be read, such as a fragment."""

    begin: Callable[[], Iterator[Rows]]
    nbytes: int  #: as stored, all of it: a parquet reader may hold that much


@dataclass(slots=True)
class _Shelf:
    """Where a reading's batches wait."""

    batches: deque[Rows] = field(default_factory=deque)
    error: BaseException | None = None  #: what ended it
    ended: bool = False


class Readers:
    """Threads over some readings, and what they have read. `begin` makes them."""

    def __init__(self, readings: Sequence[Reading], bound_bytes: int, stored_bytes: int) -> None:
        self._shelves = [_Shelf() for _ in readings]
        self._readings = readings
        self._bound_bytes, self._stored_bytes = bound_bytes, stored_bytes
        self._begun: list[int] = []  #: and not ended
        self._unread = deque(range(len(readings)))
        self._current = 0  #: whose batches are wanted now
        self._held_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def work(self) -> None:
        """A thread's life."""
        while (number := self._take()) is not None:
            self._read(number, self._shelves[number])

    def _take(self) -> int | None:
        """The next reading, when those that go on leave room for it; None when there is none."""

        def free() -> bool:
            if self._closed or not self._unread or not self._begun:
                return True
            wanted_bytes = sum(self._readings[number].nbytes for number in (*self._begun, self._unread[0]))
            return wanted_bytes <= self._stored_bytes

        with self._changed:
            self._changed.wait_for(free)
            if self._closed or not self._unread:
                return None
            self._begun.append(self._unread.popleft())
            return self._begun[-1]

    def _read(self, number: int, shelf: _Shelf) -> None:
        batches: Iterator[Rows] | None = None
        guess_bytes = 0  #: of the next batch: as many as the last
        try:
            batches = self._readings[number].begin()
            while self._room(number, guess_bytes) and (rows := next(batches, None)) is not None:
                guess_bytes = rows.nbytes
                with self._changed:
                    shelf.batches.append(rows)
                    self._held_bytes += rows.nbytes
                    self._changed.notify_all()
        except BaseException as error:  # raised where the rows are wanted
            shelf.error = error
        finally:
            del batches  # a file that it holds open is closed here, in its own thread
            with self._changed:
                shelf.ended = True
                self._begun.remove(number)
                self._changed.notify_all()

    def _room(self, number: int, wanted_bytes: int) -> bool:
        """Wait until there is room for a batch; False when no more are wanted.

        The reading that is waited for may always have one batch ahead, however large, or nothing would go on.
        """

        def free() -> bool:
            starved = number == self._current and not self._shelves[number].batches
            return self._closed or starved or self._held_bytes + wanted_bytes <= self._bound_bytes

        with self._changed:
            self._changed.wait_for(free)
            return not self._closed

    @property
    def through(self) -> bool:
        """Whether all is read."""
        with self._changed:
            return not self._unread and not self._begun

    def rows(self) -> Iterator[Rows]:
        """The batches of all readings, in their order. The threads end with it.

        Raises:
            BaseException: what a reading raises, in its place.
        """
        try:
            for number in range(len(self._shelves)):
                yield from self._batches(number)
        finally:
            self.close()

    def _batches(self, number: int) -> Iterator[Rows]:
        shelf = self._shelves[number]
        with self._changed:
            self._current = number
            self._changed.notify_all()
        while (rows := self._next(shelf)) is not None:
            yield rows
        if shelf.error is not None:
            error, shelf.error = shelf.error, None
            try:
                raise error
            finally:
                del error  # its frames hold what was open; a cycle with this one would keep it

    def _next(self, shelf: _Shelf) -> Rows | None:
        with self._changed:
            self._changed.wait_for(lambda: shelf.batches or shelf.ended)
            if not shelf.batches:
                return None
            rows = shelf.batches.popleft()
            self._held_bytes -= rows.nbytes
            self._changed.notify_all()
            return rows

    def close(self) -> None:
        """Let the threads end. One that waits for a network is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def begin(readings: Sequence[Reading], at_once: int, bound_bytes: int, stored_bytes: int) -> Readers:
    """Begin to read.

    Args:
        readings: each is begun in a thread of its own.
        at_once: how many go on at the same time, at most.
        bound_bytes: images that wait, in bytes; a batch larger than this waits alone.
        stored_bytes: readings that go on at the same time, by their size; a larger one goes on alone.
    """
    readers = Readers(readings, bound_bytes, stored_bytes)
    for _ in range(min(at_once, len(readings))):
        threading.Thread(target=readers.work, name="wdsremux-reading", daemon=True).start()
    return readers
