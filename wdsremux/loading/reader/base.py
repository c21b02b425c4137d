"""Sample ids -> bytes: one pread a sample, at the table's offsets, into one buffer a batch.

Labels come from the sample table, so a step reads image bytes only. The table's SHA-256 is checked when it is opened
(up to 256 MB, above that with verify_crc), so that an edited label is never trained on. Nothing is written or locked:
a set on a read-only disk will do.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from wdsremux.errors import FormatError
from wdsremux.format import keys
from wdsremux.format.containers import KeptReader, Located
from wdsremux.format.manifest import Manifest
from wdsremux.format.samples import Table
from wdsremux.loading.order import Ids
from wdsremux.loading.reader import skip_log
from wdsremux.loading.reader.encoded import Encoded, damage, fault, packed
from wdsremux.loading.reader.open_shards import OPEN_SHARDS, Disk, Shards
from wdsremux.loading.reader.split import DELETE, open_split

__all__ = ["Encoded", "Reader", "fault"]

#: Reads begun at once. Cold, on a cloud machine's disk: 11,000 to 18,000 samples/s one by one, 30,000 to 41,000 so.
#: Where all is in memory, 0.5 us a sample more. Half of what stays open, as each may be of another shard.
HINTED = OPEN_SHARDS // 2
#: A sample. A batch that is read so quickly lies in the page cache: hints would take as long as the reads.
QUICK_S = 20e-6
_LOOSE = 3  #: times the bytes of a batch's files, that their rows may have
_NOTHING: Mapping[int, memoryview] = {}
_VIEW_BYTES = 2**11  #: read at once of kept columns, at least: a tar's header and what most samples keep

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Reader:
    """Reads images of one converted split. Not for several threads at once, but for `labels` and `keys`.

    Args:
        folder: OUT/SPLIT.
        verify_crc: check every image's CRC-32.
        on_error: "raise", or "skip": another sample of the batch stands in for one that cannot be read, and a shard
            that is missing or was changed is remembered as such until `close`.
        disk: how shards are read.

    Raises:
        FormatError: if the manifest or the sample table is missing or damaged.
    """

    def __init__(
        self, folder: Path, verify_crc: bool = False, on_error: str = "raise", disk: Disk | None = None
    ) -> None:
        self.split = open_split(folder, hash_table=verify_crc)
        self.folder = folder
        self.manifest: Manifest = self.split.manifest
        self.table: Table = self.split.table
        self.verify_crc = verify_crc
        #: shards that lie whole in memory, uint8 [bytes]; whoever puts them there has checked them. See `readahead`.
        self.held: Mapping[int, memoryview] = _NOTHING
        self._skip = on_error == "skip"
        self._waits = True  #: whether the reads of the last batch waited for a disk
        self.shards = Shards(self.split, disk or Disk(), lenient=self._skip)

    @property
    def has_json(self) -> bool:
        """Whether samples have kept columns: the set was converted with --keep."""
        return bool(self.manifest.options.get("keep"))

    def check_present(self) -> None:
        """One look at the folder for all shards, before any is read.

        Raises:
            FormatError: naming the first that is missing. With "skip" that is only logged, unless all are.
        """
        missing = self.split.missing()
        if not missing:
            return
        others = f" and {len(missing) - 1} more of {len(self.manifest.shards)} shards are" if missing[1:] else " is"
        what = (
            f"{missing[0]}{others} missing. Run the same conversion again to rebuild {'them' if missing[1:] else 'it'}"
        )
        if not self._skip or len(missing) == len(self.manifest.shards):
            raise FormatError(what)
        skip_log.LOG.warn(what)

    def labels(self, ids: Ids) -> NDArray[np.int64]:
        """The labels of some samples, int64 [N]; -1 for none."""
        return self.table["label"][ids].astype(np.int64)

    def sides(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Width and height of some samples' images as they are stored, int64 [N] each, in pixels."""
        rows = self.table[ids]
        return rows["width"].astype(np.int64), rows["height"].astype(np.int64)

    def keys(self, ids: Ids) -> list[str]:
        """The `__key__` of some samples."""
        rows = self.table[ids]
        places = zip(rows["fragment"].tolist(), rows["row"].tolist(), rows["part"].tolist(), strict=True)
        return [keys.key(*place) for place in places]

    def read(self, ids: Ids, rows: bool = False) -> Encoded:
        """The image bytes of some samples; with "skip", `ids` of the result may differ from those asked for.

        Args:
            ids: of the samples.
            rows: let each image begin a row as long as the longest of them, unless most of that would be empty.

        Raises:
            FormatError: naming the shard that is missing, changed, cut short, or damaged. With "skip" only if no sample
                of the batch can be read: the fault of the first. Or if the table has a sample lie outside of its shard.
        """
        self.split.check_places(ids)
        table = self.table[ids]
        sizes = table["size"].astype(np.int64)
        starts, nbytes = _laid_out(sizes, rows)
        buffer = np.empty(nbytes, np.uint8)
        view, edges = buffer.data, zip(starts.tolist(), (starts + sizes).tolist(), strict=True)
        faults: dict[int, FormatError] = {}
        shards, offsets = table["shard"].tolist(), table["offset"].tolist()
        held = {shard: content for shard in set(shards) if (content := self.held.get(shard)) is not None}
        read = self.shards.read
        begun = time.perf_counter()
        for i, (shard, offset, (start, end)) in enumerate(zip(shards, offsets, edges, strict=True)):
            if i % HINTED == 0 and self._waits:
                self._hint(shards[i : i + HINTED], offsets[i:], sizes[i:].tolist())
            into = view[start:end]
            try:
                if shard in held:
                    into[:] = held[shard][offset : offset + len(into)]
                else:
                    read(shard, offset, into)
            except FormatError as error:
                if not self._skip:
                    raise
                faults[i] = FormatError(str(error))  # without its traceback, which would keep this frame and its files
        self._waits = time.perf_counter() - begun > len(ids) * QUICK_S
        width, height = table["width"].astype(np.int64), table["height"].astype(np.int64)
        encoded = Encoded(ids, width, height, buffer, starts, sizes, table["crc32"], self.split, ids)
        if self.verify_crc:
            for i in range(len(ids)):
                if i not in faults and not encoded.sound(i):
                    if not self._skip:
                        raise damage(encoded, i)
                    faults[i] = damage(encoded, i)
        return self._without(encoded, faults) if faults else encoded

    def json(self, ids: Ids) -> list[dict[str, Any]]:
        """The kept columns of some samples, as JSON has them.

        Raises:
            FormatError: naming the first sample that has none, or whose shard cannot be read.
        """
        self.split.check_places(ids)
        return [self._json(int(sample_id)) for sample_id in ids]

    def close(self) -> None:
        """Close the shards; the next read opens them again."""
        self.shards.close()
        self.__dict__.pop("_kept", None)  # it refers back, which would keep the table mapped until a collection

    def _without(self, encoded: Encoded, faults: dict[int, FormatError]) -> Encoded:
        if len(faults) == len(encoded):
            raise FormatError(str(faults[0]))
        for what in faults.values():
            skip_log.LOG.warn(what)
        return encoded.without(list(faults))[0]

    def _hint(self, shards: list[int], offsets: list[int], sizes: list[int]) -> None:
        """Have the disk begin all these reads: one after the other, each would wait for the one before."""
        held, hint = self.held, self.shards.hint
        for i, shard in enumerate(shards):
            if shard not in held:
                hint(shard, offsets[i], sizes[i])

    def fetch(self, shard: int, offset: int, into: memoryview) -> None:
        """Fill `into` with a shard's bytes from `offset` on.

        Raises:
            FormatError: naming the shard that is missing, was changed, is cut short, or cannot be read.
        """
        held = self.held.get(shard)
        if held is not None and offset + len(into) <= len(held):
            into[:] = held[offset : offset + len(into)]
        else:
            self.shards.read(shard, offset, into)

    @cached_property
    def _kept(self) -> KeptReader:
        names = tuple(self.manifest.options.get("keep") or ())
        return self.split.container.kept_reader(self._opened, names)

    def _json(self, sample_id: int) -> dict[str, Any]:
        row = self.table[sample_id]
        shard, number = int(row["shard"]), sample_id - int(self.split.firsts[int(row["shard"])])
        located = Located(self.split.key(sample_id), number, int(row["offset"]), int(row["size"]))
        try:
            return self._kept.values(shard, located)
        except ValueError as error:
            raise FormatError(f"{self.split.path(shard)} {error}. {DELETE}") from error

    def _opened(self, shard: int) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_ShardView(self, shard), _VIEW_BYTES))


def _laid_out(sizes: Ids, rows: bool) -> tuple[Ids, int]:
    """Where in a buffer each image begins, and the buffer's bytes."""
    most, total = int(sizes.max(initial=0)), int(sizes.sum())
    if rows and most * len(sizes) <= _LOOSE * total:
        return most * np.arange(len(sizes)), most * len(sizes)
    return packed(sizes), total


class _ShardView(io.RawIOBase):
    """A shard as a file, for what is not taken out of it by its place alone."""

    def __init__(self, reader: Reader, shard: int) -> None:
        self._reader, self._shard, self._at = reader, shard, 0
        self._size = reader.manifest.shards[shard].size_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        into = memoryview(buffer)[: max(0, self._size - self._at)]
        self._reader.fetch(self._shard, self._at, into)
        self._at += len(into)
        return len(into)
