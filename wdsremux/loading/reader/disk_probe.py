"""How quick is the disk? A few single reads against a piece of a shard read in sequence."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wdsremux.errors import FormatError
from wdsremux.loading.reader.base import Reader

SINGLE_READS = 16
SEQUENTIAL_BYTES = 4 * 2**20
DEADLINE_S = 1.0  #: for either kind; a disk that slow is known by then
SLOW_S = 0.5e-3  #: a sample: at 2,000 a second and thread, reading alone would bound a training
WORTH = 1.5  #: times quicker has reading whole shards to be, for the memory that it takes


@dataclass(frozen=True, slots=True)
class Speed:
    """What a disk was seen to do, in seconds."""

    sample_s: float  #: a sample, when several are asked for at once
    byte_s: float  #: a byte, in sequence

    def window_s(self, samples: float, size_bytes: int) -> tuple[float, float]:
        """What so many samples take one by one, and so many bytes in sequence."""
        return samples * self.sample_s, size_bytes * self.byte_s

    def prefers_whole(self, samples: float, size_bytes: int) -> bool:
        """Whether whole shards are to be read for these samples of theirs."""
        single_s, whole_s = self.window_s(samples, size_bytes)
        return self.sample_s > SLOW_S and whole_s * WORTH < single_s


def measure(reader: Reader, shards: Sequence[int]) -> Speed | None:
    """Try the disk on some shards: a few ms on a quick disk, 2 s at most and the read then under way on a slow one.

    Returns:
        None where there are too few shards, or they cannot be read: that is for the real reads to say.
    """
    if len(shards) < 2:
        return None
    step = max(1, (len(shards) - 1) // SINGLE_READS)
    try:
        sample_s = _single(reader, shards[:-1][::step][:SINGLE_READS])
        return Speed(sample_s, _sequential(reader, shards[-1]))
    except (FormatError, OSError):
        return None


def _single(reader: Reader, shards: Sequence[int]) -> float:
    """Seconds a sample: one from the middle of each shard."""
    rows = []
    end = time.monotonic() + DEADLINE_S / 2
    for shard in shards:
        sample_id = int(reader.split.firsts[shard : shard + 2].mean())
        reader.split.check_places(np.array([sample_id]))
        row = reader.table[sample_id]
        reader.shards.descriptor(shard)  # opened once an epoch, so not counted
        rows.append((shard, int(row["offset"]), memoryview(bytearray(int(row["size"])))))
        if time.monotonic() > end:
            break
    start, done = time.monotonic(), 0
    for shard, offset, into in rows:
        reader.shards.hint(shard, offset, len(into))
    while done < len(rows) and time.monotonic() < start + DEADLINE_S / 2:
        reader.shards.read(*rows[done])
        done += 1
    return (time.monotonic() - start) / done


def _sequential(reader: Reader, shard: int) -> float:
    """Seconds a byte."""
    size = reader.manifest.shards[shard].size_bytes
    descriptor = reader.shards.disk.open(reader.split.path(shard))
    try:
        place = max(0, size - SEQUENTIAL_BYTES) // 2
        piece, done = memoryview(bytearray(2**20)), 0
        start = time.monotonic()
        while done < min(size, SEQUENTIAL_BYTES) and time.monotonic() < start + DEADLINE_S:
            count = reader.shards.disk.read(descriptor, piece, place + done)
            if not count:
                break
            done += count
        return (time.monotonic() - start) / max(1, done)
    finally:
        os.close(descriptor)
