"""A thread that makes batches ahead of the training loop: order -> reader -> augment -> backend -> queue.

It runs on over the ends of epochs, and knows nothing of what the caller has taken: that is the loader's state.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from wdsremux.loading.augment import Augment
from wdsremux.loading.backends import Backend, Batch
from wdsremux.loading.order import Ids, Order, deal, steps
from wdsremux.loading.reader import Reader

_JOIN_S = 0.05  #: between two looks at a thread that was told to stop


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


@dataclass(frozen=True, slots=True)
class Stages:
    """What the thread works with. It holds no reference to the loader, so that a forgotten loader can be collected."""

    order: Order
    share: Share
    reader: Reader
    augment: Augment
    seed: int
    backend: Backend | None  #: None where no field asks for images

    def plan(self, epoch: int, position: int) -> Iterator[tuple[int, int, Ids]]:
        """(epoch, position after it, this rank's ids) of every step from here on, without end."""
        share = self.share
        while True:
            permutation = self.order.epoch(epoch)
            todo = steps(position, self.order.nsamples, share.batch_size, share.world, share.tail)
            for number, step in enumerate(todo):
                ids = permutation[deal(step, self.order.lanes, share.rank, share.world)]
                after = self.order.nsamples if number == len(todo) - 1 else step.start + step.size
                yield epoch, after, ids
            epoch, position = epoch + 1, 0

    def batches(self, epoch: int, position: int) -> Iterator[Batch]:
        """What the backend is given: bytes and parameters."""
        for epoch_, after, ids in self.plan(epoch, position):
            encoded = self.reader.read(ids)
            drawn = self.augment.parameters(ids, encoded.width, encoded.height, self.seed, epoch_)
            yield Batch(epoch_, after, encoded, drawn)

    def ready(self, epoch: int, position: int) -> Iterator[Ready]:
        """What the caller gets."""
        if self.backend is None:
            for epoch_, after, ids in self.plan(epoch, position):
                yield Ready(epoch_, after, ids, None)
            return
        for batch, images in self.backend.run(self.batches(epoch, position)):
            yield Ready(batch.epoch, batch.position, batch.encoded.ids, images)


class Feed:
    """Runs the stages in a thread, from (epoch, position) on."""

    def __init__(self, stages: Stages, epoch: int, position: int, prefetch: int) -> None:
        self.cursor = (epoch, position)  #: of the batch that `take` gives next
        self._queue: queue.Queue[Ready | BaseException] = queue.Queue(prefetch)
        self._stopped = threading.Event()
        self._nsamples = stages.order.nsamples
        arguments = (stages.ready(epoch, position), self._queue, self._stopped)
        self._thread = threading.Thread(target=_run, args=arguments, name="wdsremux-feed", daemon=True)
        self._thread.start()

    def take(self) -> Ready:
        """The next batch; waits for it.

        Raises:
            WdsremuxError: what went wrong in the thread; it has ended then.
        """
        item = self._queue.get()
        if isinstance(item, BaseException):
            self.stop()
            try:
                raise item
            finally:
                del item  # its traceback holds this frame: as a cycle, they would keep files open until a collection
        self.cursor = (item.epoch, item.position) if item.position < self._nsamples else (item.epoch + 1, 0)
        return item

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
            self._thread.join(_JOIN_S)


def _run(items: Iterator[Ready], out: queue.Queue[Ready | BaseException], stopped: threading.Event) -> None:
    try:
        for item in items:
            if stopped.is_set():
                break
            out.put(item)
            del item
    except BaseException as error:  # handed to the caller's thread, whatever it is
        out.put(error)
    finally:
        items.close()  # type: ignore[attr-defined]  # a generator: lets the backend finish what it has begun
