"""The images of a batch as they lie on disk, with what it takes to say which of them is at fault, and to do without."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wdsremux.errors import FormatError, ImageError
from wdsremux.loading.order import Ids
from wdsremux.loading.reader.split import DELETE_SHARD, Split


@dataclass(frozen=True, slots=True)
class Encoded:
    """The images of a batch as they lie on disk."""

    ids: Ids  #: int64 [N]
    width: NDArray[np.int64]  #: [N], in pixels
    height: NDArray[np.int64]
    buffer: NDArray[np.uint8]  #: all images, one after the other, or each at the beginning of a row
    starts: Ids  #: int64 [N]: where in the buffer each begins
    sizes: Ids  #: int64 [N]: of each, in bytes
    crc32: NDArray[np.uint32] | None = None  #: [N], as the sample table says; None for images of no split
    split: Split | None = None  #: where they lie, for errors
    asked: Ids | None = None  #: int64 [N]: the ids that were asked for; others stand in where one was skipped

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def skipped(self) -> int:
        """Places where another sample stands than was asked for."""
        return 0 if self.asked is None else int(np.count_nonzero(self.ids != self.asked))

    def image(self, i: int) -> NDArray[np.uint8]:
        """The file content of one image, uint8 [size]; a view."""
        start = self.starts[i]
        return self.buffer[start : start + self.sizes[i]]

    def rows(self) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """The images as uint8 [N, most], each in the first bytes of its row, if they lie so; else one by one. Views."""
        most = len(self.buffer) // len(self)
        if most * len(self) == len(self.buffer) and (self.starts == most * np.arange(len(self))).all():
            return self.buffer.reshape(len(self), most)
        return [self.image(i) for i in range(len(self))]

    def sound(self, i: int) -> bool:
        """Whether an image's CRC-32 is the table's, or not known."""
        return self.crc32 is None or zlib.crc32(self.image(i).data) == int(self.crc32[i])

    def without(self, bad: Sequence[int]) -> tuple[Encoded, Ids]:
        """The same batch with the next good image, cyclically, in the place of each bad one.

        Args:
            bad: their places in the batch.

        Returns:
            The batch, of the same length, and int64 [N]: the place in this batch from which each image was taken. What
            was drawn or made for the images has to be taken from there, too.

        Raises:
            FormatError: if none is good, and the CRC-32 of the first is wrong.
            ImageError: if none is good otherwise.
        """
        places = np.arange(len(self))
        good = np.setdiff1d(places, bad)
        if not len(bad):
            return self, places
        if not good.size:
            raise fault(self, 0, "no other image of its batch can be decoded either")
        index = good[np.searchsorted(good, places) % good.size]
        return self._take(index), index

    def _take(self, index: Ids) -> Encoded:
        return replace(
            self,
            ids=self.ids[index],
            width=self.width[index],
            height=self.height[index],
            buffer=np.concatenate([self.image(i) for i in index.tolist()]),
            starts=packed(self.sizes[index]),
            sizes=self.sizes[index],
            crc32=None if self.crc32 is None else self.crc32[index],
            asked=self.ids if self.asked is None else self.asked,
        )


def packed(sizes: Ids) -> Ids:
    """Where images of so many bytes begin that lie one after the other."""
    return np.cumsum(sizes, dtype=np.int64) - sizes


def fault(encoded: Encoded, i: int, reason: object) -> FormatError | ImageError:
    """The error for an image that could not be decoded: was it damaged since, or was it never an image?

    Args:
        encoded: the batch.
        i: the image's place in it.
        reason: what the decoder said.
    """
    return ImageError(f"{place(encoded, i)} cannot be decoded: {reason}") if encoded.sound(i) else damage(encoded, i)


def damage(encoded: Encoded, i: int) -> FormatError:
    """The error for an image whose CRC-32 is wrong."""
    return FormatError(f"{place(encoded, i)} is damaged: its CRC-32 is wrong. {DELETE_SHARD}")


def place(encoded: Encoded, i: int) -> str:
    """Which sample an image is, and where it lies, for errors."""
    sample_id = int(encoded.ids[i])
    return f"sample {sample_id}" if encoded.split is None else encoded.split.place(sample_id)
