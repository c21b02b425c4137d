"""A converted split as the loader knows it: manifest, sample table, and where in the shards each sample lies."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wdsremux import files
from wdsremux.errors import FormatError
from wdsremux.format import containers, keys, manifest, samples
from wdsremux.format.containers import Container
from wdsremux.format.manifest import Manifest
from wdsremux.format.samples import Table

CHECKED_BYTES = 256 * 2**20  #: a larger table is hashed only when asked for: 0.2 s for 256 MB
REBUILD = "Run the same conversion again to rebuild it"
DELETE = "Delete it and run the same conversion again to rebuild it"  #: a file of the right size is left alone else
DELETE_SHARD = "Delete this shard and run the same conversion again to rebuild it"


@dataclass(frozen=True)
class Split:
    """What is known of a split without its shards."""

    folder: Path
    manifest: Manifest
    table: Table

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """int64 [shards + 1]: the sample id with which each shard begins; the table lies in the order of the shards."""
        counts = np.fromiter((shard.nsamples for shard in self.manifest.shards), np.int64, len(self.manifest.shards))
        return np.concatenate([[0], np.cumsum(counts)])

    @cached_property
    def container(self) -> Container:
        """What the shards are."""
        return containers.container(self.manifest.container)

    @cached_property
    def sizes(self) -> NDArray[np.uint64]:
        """uint64 [shards]: the size of each shard in bytes."""
        return np.array([shard.size_bytes for shard in self.manifest.shards], np.uint64)

    @cached_property
    def largest_label(self) -> int:
        """Of all samples; `samples.NO_LABEL` if none has one."""
        return int(self.table["label"].max(initial=samples.NO_LABEL))

    def check_places(self, ids: NDArray[np.int64]) -> None:
        """See that the table has samples lie in their shards. What it says is then safe to read by; 15 us a batch.

        Raises:
            FormatError: naming the first that it has lie elsewhere.
        """
        rows, shards = self.table[ids], np.searchsorted(self.firsts, ids, "right") - 1
        offset, size, sizes = rows["offset"], rows["size"].astype(np.uint64), self.sizes[shards]
        inside = (rows["shard"] == shards) & (offset >= self.container.LEAD_BYTES) & (size <= sizes)
        inside &= offset <= sizes - np.minimum(size, sizes)
        if not inside.all():
            at = int(inside.argmin())
            raise self.misplaced(int(ids[at]), int(shards[at]))

    def misplaced(self, sample_id: int, shard: int) -> FormatError:
        """The error for a sample that the table has lie outside of its shard."""
        return FormatError(
            f"{self.folder / samples.NAME} does not match the manifest: sample {sample_id} should be in "
            f"{self.manifest.shards[shard].url}. {DELETE}"
        )

    def path(self, shard: int) -> Path:
        """The shard of that place in the manifest's list."""
        return self.folder / self.manifest.shards[shard].url

    def key(self, sample_id: int) -> str:
        """The `__key__` of a sample."""
        row = self.table[sample_id]
        return keys.key(int(row["fragment"]), int(row["row"]), int(row["part"]))

    def place(self, sample_id: int) -> str:
        """Where a sample lies, for people."""
        row = self.table[sample_id]
        return f"sample {sample_id} at byte {row['offset']} of {self.path(int(row['shard']))}"

    def missing(self) -> list[Path]:
        """The shards that are not there; one look at the folder, whatever their number: 50,000 names take 50 ms.

        Raises:
            FormatError: if the folder cannot be listed.
        """
        try:
            with os.scandir(self.folder) as entries:
                present = {entry.name for entry in entries}
        except OSError as error:
            raise FormatError(f"{self.folder} cannot be read: {error.strerror}. Make it readable") from error
        return [self.folder / shard.url for shard in self.manifest.shards if shard.url not in present]


def open_split(folder: Path, hash_table: bool = False) -> Split:
    """The split in a folder; its table mapped into memory.

    Args:
        folder: OUT/SPLIT.
        hash_table: check the table's SHA-256 even if it is larger than `CHECKED_BYTES`.

    Raises:
        FormatError: if the manifest or the table is missing or damaged, or they disagree.
    """
    split = Split(folder, manifest.read(folder), samples.read(folder / samples.NAME))
    path = folder / samples.NAME
    if len(split.table) != split.manifest.nsamples:
        count = f"{len(split.table)}, but the manifest says {split.manifest.nsamples}"
        raise FormatError(f"{path} has the wrong number of samples: {count}. {DELETE}")
    wanted = split.manifest.files[samples.NAME]["sha256"]
    if (split.table.nbytes <= CHECKED_BYTES or hash_table) and files.sha256(path) != wanted:
        raise FormatError(f"{path} was changed after the conversion: its SHA-256 differs. {DELETE}")
    return split


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells a shard from any other, also one of the same size: a sample of it, with what leads it."""

    container: Container
    sample_id: int
    offset: int  #: in the shard, of what its container has in front of an image
    size: int  #: of that and the image, in bytes
    key: str
    crc32: int  #: of the image

    def agrees(self, content: memoryview) -> bool:
        """Whether these bytes of a shard, uint8 [size], are those."""
        lead = self.container.LEAD_BYTES
        is_lead = self.container.is_lead(content[:lead], self.key, self.size - lead)
        return is_lead and zlib.crc32(content[lead:]) == self.crc32


def marks(split: Split, shard: int) -> tuple[Mark, Mark]:
    """The first and the last sample of a shard; they may be the same.

    Raises:
        FormatError: if the table does not place them in this shard.
    """
    first, last = split.firsts[shard : shard + 2].tolist()
    return _mark(split, shard, first), _mark(split, shard, last - 1)


def _mark(split: Split, shard: int, sample_id: int) -> Mark:
    row, about = split.table[sample_id], split.manifest.shards[shard]
    lead = split.container.LEAD_BYTES
    offset, size = int(row["offset"]) - lead, int(row["size"]) + lead
    if int(row["shard"]) != shard or not 0 <= offset <= about.size_bytes - size:
        raise split.misplaced(sample_id, shard)
    return Mark(split.container, sample_id, offset, size, split.key(sample_id), int(row["crc32"]))
