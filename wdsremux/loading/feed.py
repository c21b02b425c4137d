"""A thread that makes batches ahead of the training loop: order -> reader -> augment -> backend -> queue.

It runs on over the ends of epochs, and knows nothing of what the caller has taken: that is the loader's state.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import queue
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wdsremux.errors import BackendError, StateError
from wdsremux.loading.augment import Augment, Parameters
from wdsremux.loading.backends import Backend, Batch
from wdsremux.loading.device import Destination
from wdsremux.loading.order import Epoch, Ids, Order, Steps, deal, steps
from wdsremux.loading.reader import Reader
from wdsremux.loading.reader.readahead import ReadAhead
from wdsremux.loading.stats import Cost

_AT_ONCE = 4096  #: samples whose ids and random parameters are worked out together: 1 us each; 256 alone take 7
_JOIN_S = 0.05  #: between two looks at a thread that was told to stop
_LOOK_S = 0.2  #: between two looks whether the thread that is waited for still works
_EXIT_S = 10.0  #: that the end of a script waits for a feed; one may hang in a file system that is gone


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of each step is this rank's."""

    batch_size: int
    rank: int
    world: int
    tail: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch ready to be handed out."""

    epoch: int
    position: int  #: in the epoch, when it has been handed out
    ids: Ids
    images: torch.Tensor | None  #: None where no field asks for them
    labels: torch.Tensor | None  #: int64 [N], where the images are; None where no field asks for them
    json: list[dict[str, Any]] | None  #: the kept columns; None where no field asks for them
    cost: Cost

    def as_tuple(self, fields: Sequence[str], reader: Reader) -> tuple[Any, ...]:
        """What the caller gets: the fields in the order in which it asked for them."""
        return tuple(self._field(name, reader) for name in fields)

    def _field(self, name: str, reader: Reader) -> Any:
        match name:
            case "image":
                return self.images
            case "label":
                return self.labels
            case "id":
                return torch.from_numpy(self.ids)
            case "json":
                return self.json
            case _:
                return reader.keys(self.ids)


@dataclass(frozen=True, slots=True)
class RankStep:
    """What this rank takes of a step."""

    epoch: int
    position: int  #: in the epoch, when it has been handed out
    ids: Ids
    parameters: Parameters | None  #: of these ids; None where no field asks for images


@dataclass(frozen=True, slots=True)
class Stages:
    """What the thread works with. It holds no reference to the loader, so that a forgotten loader can be collected."""

    order: Order
    share: Share
    reader: Reader
    readahead: ReadAhead | None  #: None where nothing is read
    augment: Augment
    size: int  #: pixels a side of what comes out
    backend: Backend | None  #: None where no field asks for images
    destination: Destination
    labels: bool  #: whether a field asks for labels
    json: bool  #: whether a field asks for the kept columns

    def plan(self, epoch: int, position: int) -> Iterator[RankStep]:
        """This rank's part of every step from here on, without end."""
        share = self.share
        while True:
            permutation = self.order.epoch(epoch)
            todo = steps(position, self.order.nsamples, share.batch_size, share.world, share.tail)
            for number, (ids, parameters) in enumerate(self._dealt(permutation, todo)):
                step, last = todo[number], number == len(todo) - 1
                if self.readahead is not None:
                    self.readahead.at(permutation, step.start)
                yield RankStep(epoch, self.order.nsamples if last else step.start + step.size, ids, parameters)
            epoch, position = epoch + 1, 0

    def _dealt(self, permutation: Epoch, todo: Steps) -> Iterator[tuple[Ids, Parameters | None]]:
        """This rank's part of each step; several are worked out at once."""
        together = max(1, _AT_ONCE // self.share.batch_size)
        for first in range(0, len(todo), together):
            some = [todo[number] for number in range(first, min(first + together, len(todo)))]
            positions = [deal(step, self.order.lanes, self.share.rank, self.share.world) for step in some]
            ids, start = permutation[np.concatenate(positions)], 0
            drawn = None if self.backend is None else self._drawn(permutation.number, ids)
            for stop in np.cumsum([len(part) for part in positions]).tolist():
                part = slice(start, stop)
                yield ids[part], None if drawn is None else drawn.take(part)
                start = stop

    def _drawn(self, epoch: int, ids: Ids) -> Parameters:
        return self.augment.parameters(ids, *self.reader.sides(ids), self.order.seed, epoch, self.size)

    def ready(self, epoch: int, position: int) -> Iterator[Ready]:
        """What the caller gets."""
        if self.backend is None:
            for planned in self.plan(epoch, position):
                yield self._ready(planned.epoch, planned.position, planned.ids, None, Cost())
            return
        clock = _Clock()
        for batch, images in self.backend.run(self._batches(epoch, position, clock, self.backend.rows)):
            cost = clock.cost(batch, self.destination.finish())
            yield self._ready(batch.epoch, batch.position, batch.encoded.ids, images, cost)
            clock.start()  # what has passed since the yield is the caller's

    def _batches(self, epoch: int, position: int, clock: _Clock, rows: bool) -> Iterator[Batch]:
        """What the backend is given: bytes and parameters."""
        for planned in self.plan(epoch, position):
            with clock.reading():
                encoded = self.reader.read(planned.ids, rows)
            parameters = planned.parameters
            if parameters is None or encoded.skipped:  # others stand in for some
                parameters = self._drawn(planned.epoch, encoded.ids)
            yield Batch(planned.epoch, planned.position, encoded, parameters)

    def _ready(self, epoch: int, position: int, ids: Ids, images: torch.Tensor | None, cost: Cost) -> Ready:
        labels = self.destination.send(self.reader.labels(ids)) if self.labels else None
        return Ready(epoch, position, ids, images, labels, self.reader.json(ids) if self.json else None, cost)


class _Clock:
    """Seconds of the stages, from one batch to the next, in the thread that makes it."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._read_s = self._ahead_s = 0.0  #: since the start; of the latter, what another thread read meanwhile
        self.start()

    def start(self) -> None:
        self._begun, self._before = time.perf_counter(), (self._read_s, self._ahead_s)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        spent_s = time.perf_counter() - begun
        self._read_s += spent_s
        if threading.get_ident() != self._thread:
            self._ahead_s += spent_s

    def cost(self, batch: Batch, copy_s: float) -> Cost:
        """Of a batch that is ready now."""
        spent_s = time.perf_counter() - self._begun
        read_s, ahead_s = self._read_s - self._before[0], self._ahead_s - self._before[1]
        return Cost(
            nbytes=int(batch.encoded.sizes.sum()),
            skipped=batch.encoded.skipped,
            read_s=read_s,
            decode_s=max(0.0, spent_s - (read_s - ahead_s) - copy_s),
            copy_s=copy_s,
        )


class Feed:
    """Runs the stages in a thread, from (epoch, position) on."""

    def __init__(self, stages: Stages, epoch: int, position: int, prefetch: int) -> None:
        self.cursor = (epoch, position)  #: of the batch that `take` gives next
        self._queue: queue.Queue[Ready | BaseException] = queue.Queue(prefetch)
        self._stopped = threading.Event()
        self._nsamples = stages.order.nsamples
        arguments = (stages.destination, stages.ready(epoch, position), self._queue, self._stopped)
        self._thread = threading.Thread(target=_run, args=arguments, name="wdsremux-feed", daemon=True)
        self._thread.start()
        _end_before_what_is_registered()
        _feeds.add(self)

    def take(self) -> Ready:
        """The next batch; waits for it.

        Raises:
            WdsremuxError: what went wrong in the thread; it has ended then.
        """
        item = self._next()
        if isinstance(item, BaseException):
            self.stop()
            try:
                raise item
            finally:
                del item  # its traceback holds this frame: as a cycle, they would keep files open until a collection
        self.cursor = (item.epoch, item.position) if item.position < self._nsamples else (item.epoch + 1, 0)
        return item

    def _next(self) -> Ready | BaseException:
        """What the thread has put there; looked at now and then whether it still may put anything."""
        while True:
            alive = self._thread.is_alive()
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=_LOOK_S if alive else 0)
            if self._stopped.is_set():
                return StateError("this iterator was stopped, because another one was started or the loader was closed")
            if not alive:
                return BackendError("the thread that prepares batches ended without an error. Create a new loader")

    def stop(self, wait_s: float = math.inf) -> None:
        """End the thread and wait for it, so long at most."""
        self._stopped.set()
        until = time.monotonic() + wait_s
        while self._thread.is_alive() and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
            self._thread.join(_JOIN_S)


_feeds: weakref.WeakSet[Feed] = weakref.WeakSet()  #: of this process


def _end_all() -> None:
    """At the end of a script that leaves its loaders in the middle of an epoch."""
    for feed in list(_feeds):
        feed.stop(_EXIT_S)


def _end_before_what_is_registered() -> None:
    """Hooks run in reverse: DALI's, registered when it was imported, must find no thread that makes or drops pipelines.

    It asserts that there are none, which one time in three was not so.
    """
    atexit.unregister(_end_all)
    atexit.register(_end_all)


def _run(
    destination: Destination,
    items: Iterator[Ready],
    out: queue.Queue[Ready | BaseException],
    stopped: threading.Event,
) -> None:
    try:
        with destination.working():
            for item in items:
                if stopped.is_set():
                    break
                out.put(item)
                del item
    except BaseException as error:  # handed to the caller's thread, whatever it is: it waits for something
        out.put(error)
    finally:
        with contextlib.suppress(RuntimeError), destination.working():  # a device that failed fails here, too
            items.close()  # type: ignore[attr-defined]  # a generator: lets the backend finish what it has begun
