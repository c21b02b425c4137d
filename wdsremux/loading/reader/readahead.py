"""What is read before it is asked for: the next window of shards, while this one is trained on.

quick disks   hints to the page cache, piece by piece: the disk works while the decoder does
slow disks    whole shards into memory (`whole`), if a short trial says that it pays and memory allows it
small images  whole shards, too, where a window is small: a read of 1 KB costs what it takes to decode 2 KB, and lets go
              of the interpreter, which the thread then has to wait for among those that decode
neither       where a machine's ranks read but a small part of a window, or all of the set is one window: then only
              the samples of a batch are hinted, all at once, as the reader always does
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from wdsremux import machine
from wdsremux.loading.order import ALL, Epoch, Order, Window, lanes_of
from wdsremux.loading.reader.base import Reader
from wdsremux.loading.reader.disk_probe import measure
from wdsremux.loading.reader.shard_cache import WholeShards

LOGGER = logging.getLogger("wdsremux")
HINT_BYTES = 4 * 2**20  #: of one hint; a larger one would hold up the thread that gives it
HINTS_A_STEP = 16
MOST_HINTED_BYTES = 2 * 2**30  #: ahead of the training, on a machine
SMALL_WINDOW_BYTES = 2**27  #: at most, of small images; twice as much is held, this window and the next
SMALL_SAMPLE_BYTES = 2**13  #: on average, with all that a container adds
LEAST_PART = 0.5  #: of a window, that the ranks of a machine have to read between them for it to be hinted whole


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the order this rank reads, and with whom it shares a page cache."""

    rank: int = 0
    world: int = 1
    local_ranks: int = 1  #: on this machine

    def lanes(self, order: Order) -> range:
        """The lanes that it reads."""
        return lanes_of(self.rank, self.world, order.lanes)

    def share(self, order: Order) -> float:
        """Of the samples of such a lane, those that are its own: 0 to 1."""
        return min(1.0, order.lanes / self.world)

    def peers(self, order: Order) -> int:
        """Ranks of this machine that read the same lane, itself included."""
        return max(1, min(self.local_ranks, self.world // order.lanes))


class ReadAhead:
    """Reads ahead of one reader along one order; used by the thread that reads.

    Args:
        reader: for whose reads this is.
        order: in which it reads.
        part: of the order, that it reads.
        available_bytes: memory to spare on the machine; by default what the system says, none where it says nothing.
    """

    def __init__(
        self, reader: Reader, order: Order, part: Part | None = None, available_bytes: int | None = None
    ) -> None:
        self._reader, self._order, self._part = reader, order, part or Part()
        available = machine.available_bytes() if available_bytes is None else available_bytes
        self._available = (available or 0) // self._part.local_ranks
        self._lanes = [lane for lane in self._part.lanes(order) if lane < order.nsamples]  # more lanes than samples
        self._now: dict[int, _Stretch] = {}
        self._whole: WholeShards | None = None
        self._hints: _Hints | None = None
        self._begun = False

    def at(self, epoch: Epoch, position: int) -> None:
        """Called before the read of the step that begins at `position`; the first call tries the disk, 2 s at most."""
        if not self._lanes or (self._order.window == ALL and self._order.shuffle):
            return
        entered = [lane for lane in self._lanes if not self._inside(lane, epoch.number, position)]
        for lane in entered:
            self._now[lane] = _stretch(epoch, lane, position)
        if not self._begun:
            self._begun = True
            self._choose()
        if self._whole is not None and entered:
            stretches = self._now.values()
            self._whole.hold(
                _unique(shard for stretch in stretches for shard in stretch.window.shards),
                _unique(shard for stretch in stretches for shard in stretch.ahead.shards),
            )
        if self._hints is not None:
            for stretch in self._now.values():
                self._hints.at(stretch, position)

    def close(self) -> None:
        """End its thread and free its memory; the reader then reads one by one."""
        self._reader.held = {}
        self._hints = None
        if self._whole is not None:
            self._whole.close()

    @property
    def whole(self) -> WholeShards | None:
        """The shards in memory, where whole shards are read."""
        return self._whole

    @property
    def hints(self) -> bool:
        """Whether the next window is hinted to the page cache."""
        return self._hints is not None

    def _inside(self, lane: int, epoch: int, position: int) -> bool:
        stretch = self._now.get(lane)
        return stretch is not None and stretch.epoch == epoch and stretch.window.start <= position < stretch.window.stop

    def _choose(self) -> None:
        small = self._small()
        if small or self._pays():
            bound = self._available // 4
            if small:  # later windows may be larger
                bound = min(bound, 2 * SMALL_WINDOW_BYTES)
            self._whole = WholeShards(self._reader.split, self._reader.shards.disk, bound)
            self._reader.held = self._whole
            return
        part, order = self._part, self._order
        if part.share(order) * part.peers(order) >= LEAST_PART:
            most = min(MOST_HINTED_BYTES // part.local_ranks, self._available // 8) // len(self._lanes)
            self._hints = _Hints(self._reader, part.rank % part.peers(order), part.peers(order), most)

    def _small(self) -> bool:
        """Whether these are small images of a small window, most of which this rank reads."""
        _, size_bytes, samples = self._windows()
        bound = min(SMALL_WINDOW_BYTES, self._available // 8)
        if size_bytes > min(bound, samples * SMALL_SAMPLE_BYTES) or self._part.share(self._order) < LEAST_PART:
            return False
        LOGGER.info("%s: the images are small. Whole shards are read ahead into memory", self._reader.folder)
        return True

    def _windows(self) -> tuple[list[int], int, int]:
        """The shards of the windows that the lanes are in, their bytes and their samples."""
        shards = _unique(shard for stretch in self._now.values() for shard in stretch.window.shards)
        about = [self._reader.manifest.shards[shard] for shard in shards]
        return shards, sum(shard.size_bytes for shard in about), sum(shard.nsamples for shard in about)

    def _pays(self) -> bool:
        """Whether whole shards are to be read; the trial and what came of it is logged."""
        shards, size_bytes, samples = self._windows()
        if size_bytes > self._available // 4:  # of which half may be of this window, half of the next
            return False
        speed = measure(self._reader, shards)
        if speed is None:
            return False
        own = samples * self._part.share(self._order)
        single_s, whole_s = speed.window_s(own, size_bytes)
        whole = speed.prefers_whole(own, size_bytes)
        LOGGER.info(
            "%s: reading one sample takes %.2f ms; reading the samples of this rank in a window (%d) takes %.2f s; "
            "reading whole shards takes %.2f s. %s",
            *(self._reader.folder, speed.sample_s * 1e3, own, single_s, whole_s),
            "Whole shards are read ahead into memory" if whole else "Samples are read one by one",
        )
        return whole


@dataclass(slots=True)
class _Stretch:
    """Where a lane is, and what comes then."""

    epoch: int
    window: Window
    ahead: Window
    hinted: int = 0  #: pieces of what is ahead
    pieces: list[tuple[int, int, int]] = field(default_factory=list)  #: (shard, offset, size) of what is ahead

    def passed(self, position: int) -> float:
        """The part of the window that lies behind, 0 to 1."""
        return (position - self.window.start) / max(1, self.window.stop - self.window.start)


def _stretch(epoch: Epoch, lane: int, position: int) -> _Stretch:
    """Over the end of an epoch, what is ahead is the next one's first window."""
    window = epoch.window(lane, position)
    ahead = epoch.after(window) or epoch.order.epoch(epoch.number + 1).window(lane, 0)
    return _Stretch(epoch.number, window, ahead)


class _Hints:
    """Hints what is ahead in step with what is used up; several ranks of a machine each take their part of it."""

    def __init__(self, reader: Reader, rank: int, ranks: int, most_bytes: int) -> None:
        self._reader, self._rank, self._ranks = reader, rank, ranks
        self._most = most_bytes // HINT_BYTES

    def at(self, stretch: _Stretch, position: int) -> None:
        if not stretch.pieces and not stretch.hinted:
            stretch.pieces = self._pieces(stretch)
        due = min(int(stretch.passed(position) * len(stretch.pieces)) + 1, stretch.hinted + HINTS_A_STEP)
        for piece in stretch.pieces[stretch.hinted : due]:
            self._reader.shards.hint(*piece)
        stretch.hinted = max(stretch.hinted, due)

    def _pieces(self, stretch: _Stretch) -> list[tuple[int, int, int]]:
        pieces = [
            (shard, offset, HINT_BYTES)
            for shard in stretch.ahead.shards
            if shard not in stretch.window.shards
            for offset in range(0, self._reader.manifest.shards[shard].size_bytes, HINT_BYTES)
        ]
        return pieces[self._rank :: self._ranks][: self._most]


def _unique(shards: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(shards))
