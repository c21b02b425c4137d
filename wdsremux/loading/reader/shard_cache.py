"""Whole shards in memory, read in sequence by a thread: for disks where each read of a sample waits for a seek or a
server. Two windows at most are held, this one and the next, each within half of a bound.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from wdsremux.errors import FormatError
from wdsremux.loading.reader.open_shards import Disk
from wdsremux.loading.reader.split import Split, marks

BLOCK_BYTES = 8 * 2**20  #: read at once: what NFS, FUSE and spinning disks need to come near their full rate


class WholeShards(Mapping[int, memoryview]):
    """Shards by their place in the manifest, uint8 [bytes] each, as far as they are in memory.

    One thread asks, another one of its own reads. A shard that was announced as `ahead` and is wanted now is waited
    for: single reads meanwhile would only take the disk away from its thread. One that cannot be read, or is not the
    manifest's, is never here; a single read says what is wrong with it.

    Args:
        split: which.
        disk: how it is read.
        bound_bytes: of memory.
    """

    def __init__(self, split: Split, disk: Disk, bound_bytes: int) -> None:
        self._split, self._disk, self._bound = split, disk, bound_bytes
        self._loaded: dict[int, memoryview] = {}
        self._failed: set[int] = set()
        self._queue: list[int] = []  # to be held, in the order in which they are to be read
        self._ahead: frozenset[int] = frozenset()
        self._awaited: frozenset[int] = frozenset()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None  # not before there is something to do

    def hold(self, now: Sequence[int], ahead: Sequence[int]) -> None:
        """Have these shards in memory, the first of each as far as the bound allows, and no others."""
        now, ahead = self._fitting(now), self._fitting([shard for shard in ahead if shard not in now])
        with self._changed:
            self._awaited = (self._ahead | self._awaited) & frozenset(now)
            self._ahead = frozenset(ahead)
            self._queue = [*now, *ahead]
            for shard in self._loaded.keys() - set(self._queue):
                del self._loaded[shard]
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="wdsremux-readahead", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread and free the memory."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._loaded.clear()

    @property
    def size_bytes(self) -> int:
        """Of all that is in memory."""
        return sum(map(len, list(self._loaded.values())))

    def __getitem__(self, shard: int) -> memoryview:
        content = self._loaded.get(shard)
        if content is None and shard in self._awaited:
            with self._changed:
                self._changed.wait_for(lambda: shard in self._loaded or shard in self._failed or self._closed)
                content = self._loaded.get(shard)
        if content is None:
            raise KeyError(shard)
        return content

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._loaded))

    def __len__(self) -> int:
        return len(self._loaded)

    def _fitting(self, shards: Sequence[int]) -> Sequence[int]:
        sizes = np.cumsum([self._split.manifest.shards[shard].size_bytes for shard in shards])
        return shards[: int(np.searchsorted(sizes, self._bound // 2, side="right"))]

    def _run(self) -> None:
        try:
            while (shard := self._next()) is not None:
                self._load(shard)
        finally:
            with self._changed:  # nobody waits for a thread that has ended
                self._closed = True
                self._changed.notify_all()

    def _next(self) -> int | None:
        """The next shard to be read; waits for one, and is None at the end."""
        with self._changed:
            while not self._closed:
                for shard in self._queue:
                    if shard not in self._loaded and shard not in self._failed:
                        return shard
                self._changed.wait()
        return None

    def _load(self, shard: int) -> None:
        try:
            content = self._read(shard)
        except (OSError, FormatError, MemoryError):  # single reads go on, and say what is wrong if it is the shard
            content = None
        with self._changed:
            if content is None:
                self._failed.add(shard)
            elif shard in self._queue:
                self._loaded[shard] = content
            self._changed.notify_all()

    def _read(self, shard: int) -> memoryview | None:
        """A shard's content; None where it is not what the manifest says. Empty where it is not wanted any more."""
        size = self._split.manifest.shards[shard].size_bytes
        descriptor = self._disk.open(self._split.path(shard))
        try:
            if os.fstat(descriptor).st_size != size:
                return None
            content, done = np.empty(size, np.uint8).data, 0
            while done < size and shard in self._queue and not self._closed:
                count = self._disk.read(descriptor, content[done : done + BLOCK_BYTES], done)
                if not count:
                    return None
                done += count
        finally:
            os.close(descriptor)
        first, _ = marks(self._split, shard)
        return content if done < size or first.agrees(content[first.offset : first.offset + first.size]) else None
