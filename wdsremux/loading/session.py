"""What a loader begins when the first batch is asked for, and must end: backend, read-ahead, feed.

Late, because Lightning, Accelerate and torchrun scripts choose rank and device after a loader is made; apart from the
loader, so that a finalizer can hold it.
"""

from __future__ import annotations

import contextlib
import os
import threading

import numpy as np

from wdsremux import codec
from wdsremux.errors import StateError, WdsremuxError
from wdsremux.loading import device, world
from wdsremux.loading.backends import Setup
from wdsremux.loading.backends.trial import WorkingBackend, begin, routes
from wdsremux.loading.device import Destination
from wdsremux.loading.feed import Feed, Ready, Share, Stages
from wdsremux.loading.options import Options
from wdsremux.loading.order import Order
from wdsremux.loading.reader import Reader
from wdsremux.loading.reader.encoded import Encoded
from wdsremux.loading.reader.readahead import Part, ReadAhead

_TRIALS = 8  #: samples that are looked at to find a sound one to try a decoder on


class Session:
    """Begun at the first `take`, in the process that calls it."""

    def __init__(self, options: Options, order: Order, reader: Reader) -> None:
        self._options, self._order, self._reader = options, order, reader
        self._share: Share | None = None
        self._destination: Destination | None = None
        self._begun: WorkingBackend | None = None
        self._readahead: ReadAhead | None = None
        self._feed: Feed | None = None
        self._owner: int | None = None  #: the process whose threads these are

    def share(self) -> Share:
        """Which part of each step is this rank's, as it stands now: a process group may be joined at any time."""
        rank, size = world.rank_and_world(self._options.rank, self._options.world_size)
        return Share(self._options.batch_size, rank, size, self._options.tail)

    def begin(self) -> Share:
        """An iterator begins: the share that it has to the end. What was made ahead for another is dropped."""
        share = self.share()
        if share != self._share:
            self.stop_feed()
            if self._readahead is not None:
                self._readahead.close()
            self._share, self._readahead = share, None
        return share

    def take(self, epoch: int, position: int) -> Ready:
        """The batch that follows on that place of an epoch, from a feed that is there; waits for it.

        Raises:
            WdsremuxError: what went wrong in the making.
            StateError: in a process forked from one that had begun.
        """
        if self._owner not in (None, os.getpid()):
            raise StateError("this loader is already in use in the parent process. Create a new one in this process")
        self._owner = os.getpid()
        if self._feed is None or self._feed.cursor != (epoch, position):
            self.stop_feed()
            self._feed = Feed(self._stages(), epoch, position, self._options.prefetch)
        feed = self._feed
        try:
            ready = feed.take()
        except BaseException:  # the caller's Ctrl-C, too: it may have come in the middle of anything
            if self._feed is feed:  # not one that another thread has begun since
                self._feed = None
            feed.stop()
            raise
        if self._destination is not None:
            self._destination.receive(ready.images, ready.labels)
        return ready

    @property
    def begun(self) -> bool:
        """Whether there are threads, or were."""
        return self._owner is not None

    @property
    def decoder(self) -> tuple[str | None, str | None]:
        """What decodes, and why that is not what was asked for; None before the first batch and without images."""
        return (None, None) if self._begun is None else (self._begun.decoder, self._begun.fallback)

    def stop_feed(self) -> None:
        """End what is made ahead."""
        feed, self._feed = self._feed, None  # first: after a Ctrl-C in what follows, nobody takes from it
        if feed is not None:
            feed.stop()

    def close(self) -> None:
        """End threads, release memory, close files."""
        if self._owner not in (None, os.getpid()):
            return  # a child's copy of its parent's threads and memory
        if threading.current_thread().name.startswith("wdsremux"):
            # A collection in one of our own threads found the loader forgotten; that thread cannot wait for itself.
            threading.Thread(target=self._close, name="wdsremux-close").start()
        else:
            self._close()

    def _close(self) -> None:
        self.stop_feed()
        if self._begun is not None:
            self._begun.backend.close()
        if self._readahead is not None:
            self._readahead.close()
        if self._destination is not None:
            self._destination.close()
        self._reader.close()

    def _stages(self) -> Stages:
        if self._destination is None:
            self._destination = Destination(device.resolve(self._options.device))
            if self._options.images:
                self._begun = self._begin_backend(self._destination)
        share = self._share or self.begin()
        if self._options.images and self._readahead is None:
            self._readahead = ReadAhead(self._reader, self._order, Part(share.rank, share.world, world.local_ranks()))
        return Stages(
            order=self._order,
            share=share,
            reader=self._reader,
            readahead=self._readahead,
            augment=self._options.augment,
            size=self._options.output.size,
            backend=None if self._begun is None else self._begun.backend,
            destination=self._destination,
            labels="label" in self._options.fields,
            json="json" in self._options.fields,
        )

    def _begin_backend(self, destination: Destination) -> WorkingBackend:
        options, device = self._options, destination.device
        setup = Setup(
            output=options.output,
            batch_size=options.batch_size,
            num_threads=options.num_threads or world.threads(),
            destination=destination,
            after_crop=options.augment.after_crop,
            restart_rows=bool(self._reader.manifest.options.get("restart_rows")),
            skip=options.skip,
        )
        with destination.working():
            return begin(routes(options.backend, device, options.decoder(device)), setup, self._sample)

    def _sample(self) -> Encoded | None:
        """One sound image; None if there is none among the first of some shards."""
        for sample_id in self._reader.split.firsts[:-1][:_TRIALS].tolist():
            with contextlib.suppress(WdsremuxError):  # it comes up again, with its policy, when the sample's turn comes
                encoded = self._reader.read(np.array([sample_id]))
                codec.decode(encoded.image(0).data)
                return encoded
        return None
