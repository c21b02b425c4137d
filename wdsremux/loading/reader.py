"""Sample ids -> bytes: one pread a sample, at the table's offsets, into one buffer a batch.

Labels come from the sample table, so a step reads image bytes only. The table's SHA-256 is checked when it is opened
(up to 256 MB, above that with verify_crc), so that an edited label is never trained on.
"""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wdsremux import files
from wdsremux.errors import FormatError
from wdsremux.format import archive, manifest, samples
from wdsremux.format.manifest import Manifest
from wdsremux.loading.order import Ids

CHECKED_BYTES = 256 * 2**20  #: a larger table is hashed only when asked for: 0.2 s for 256 MB
OPEN_SHARDS = 256  #: file descriptors kept; four windows, and a quarter of the usual limit of 1,024


@dataclass(frozen=True, slots=True)
class Encoded:
    """The images of a batch as they lie on disk."""

    ids: Ids  #: int64 [N]
    width: NDArray[np.int64]  #: [N], in pixels
    height: NDArray[np.int64]
    buffer: NDArray[np.uint8]  #: all images, one after the other
    starts: Ids  #: int64 [N+1]: image i is buffer[starts[i]:starts[i+1]]

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> NDArray[np.uint8]:
        """The file content of one image, uint8 [size]; a view."""
        return self.buffer[self.starts[i] : self.starts[i + 1]]


class Reader:
    """Reads images of one converted split. Not for several threads at once.

    Raises:
        FormatError: if the manifest or the sample table is missing or damaged.
    """

    def __init__(self, folder: Path, verify_crc: bool = False) -> None:
        self.folder = folder
        self.manifest: Manifest = manifest.read(folder)
        self.table = samples.read(folder / samples.NAME)
        self.verify_crc = verify_crc
        self._open: OrderedDict[int, int] = OrderedDict()  # shard -> file descriptor, least recently used first
        self._check_table()

    def _check_table(self) -> None:
        path = self.folder / samples.NAME
        if len(self.table) != self.manifest.nsamples:
            raise FormatError(f"{path} holds {len(self.table)} samples, the manifest {self.manifest.nsamples}")
        wanted = self.manifest.files[samples.NAME]["sha256"]
        if (self.table.nbytes <= CHECKED_BYTES or self.verify_crc) and files.sha256(path) != wanted:
            raise FormatError(f"{path} was changed since the conversion: its SHA-256 differs. {_MEND}")

    def labels(self, ids: Ids) -> NDArray[np.int64]:
        """The labels of some samples, int64 [N]; -1 for none."""
        return self.table["label"][ids].astype(np.int64)

    def keys(self, ids: Ids) -> list[str]:
        """The `__key__` of some samples."""
        rows = self.table[ids]
        places = zip(rows["fragment"].tolist(), rows["row"].tolist(), rows["part"].tolist(), strict=True)
        return [archive.key(*place) for place in places]

    def read(self, ids: Ids) -> Encoded:
        """The image bytes of some samples.

        Raises:
            FormatError: naming the shard that is missing, cut short, or damaged.
        """
        rows = self.table[ids]
        starts = np.concatenate([[0], np.cumsum(rows["size"], dtype=np.int64)])
        buffer = np.empty(int(starts[-1]), np.uint8)
        view, edges = buffer.data, starts.tolist()
        for i, (shard, offset) in enumerate(zip(rows["shard"].tolist(), rows["offset"].tolist(), strict=True)):
            piece, descriptor = view[edges[i] : edges[i + 1]], self._descriptor(shard)
            try:
                count = os.preadv(descriptor, [piece], offset)
            except OSError as error:
                raise FormatError(f"{self._path(shard)} cannot be read: {error.strerror}. {_MEND}") from error
            if count != len(piece):
                raise FormatError(f"{self._path(shard)} is cut short at the sample at byte {offset}. {_MEND}")
        encoded = Encoded(ids, rows["width"].astype(np.int64), rows["height"].astype(np.int64), buffer, starts)
        if self.verify_crc:
            self._check_crc(encoded, rows)
        return encoded

    def place(self, sample_id: int) -> str:
        """Where a sample lies, for people."""
        row = self.table[sample_id]
        return f"sample {sample_id}, at byte {row['offset']} of {self._path(int(row['shard']))}"

    def close(self) -> None:
        """Close the shards; the next read opens them again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _check_crc(self, encoded: Encoded, rows: samples.Table) -> None:
        for i, wanted in enumerate(rows["crc32"].tolist()):
            if zlib.crc32(encoded.image(i).data) != wanted:
                raise FormatError(f"{self.place(int(encoded.ids[i]))} is damaged: its CRC-32 differs. {_MEND}")

    def _descriptor(self, shard: int) -> int:
        descriptor = self._open.get(shard)
        if descriptor is None:
            try:
                descriptor = os.open(self._path(shard), os.O_RDONLY)
            except OSError as error:
                raise FormatError(f"{self._path(shard)} cannot be opened: {error.strerror}. {_MEND}") from error
            self._open[shard] = descriptor
            if len(self._open) > OPEN_SHARDS:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(shard)
        return descriptor

    def _path(self, shard: int) -> Path:
        return self.folder / self.manifest.shards[shard].url


_MEND = "Run the conversion again to rebuild it"
