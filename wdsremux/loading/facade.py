"""What other libraries ask of a loader: its data set and its sampler."""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import SequentialSampler

from wdsremux import arguments, codec
from wdsremux.errors import ImageError
from wdsremux.loading.reader.encoded import Encoded, damage, fault
from wdsremux.loading.reader.open_shards import Disk, Shards
from wdsremux.loading.reader.split import Split


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """What `loader.dataset` says of the split: `dataset[i]` is (PIL picture, label), as it lies on disk."""

    split: Split  #: what is read; the loader's own reading does not notice
    classes: list[str] | None  #: names by label

    def __len__(self) -> int:
        return len(self.split.table)

    def __repr__(self) -> str:
        return f"Dataset({about(self)})"

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, int]:
        """A sample by its id, to look at: the picture as it was baked, not augmented; and its label, -1 for none.

        Raises:
            IndexError: if there is no such sample.
            FormatError: if its shard is missing, changed or damaged.
            ImageError: if it cannot be decoded.
        """
        place = range(len(self))[arguments.integer("index", index, None)]
        row, ids = self.split.table[place], np.array([place])
        self.split.check_places(ids)
        content = np.empty(int(row["size"]), np.uint8)
        with contextlib.closing(Shards(self.split, Disk())) as shards:
            shards.read(int(row["shard"]), int(row["offset"]), content.data)
        sides = np.array([row["width"]], np.int64), np.array([row["height"]], np.int64)
        edges = np.array([0, len(content)])
        encoded = Encoded(ids, *sides, content, edges, np.array([row["crc32"]]), self.split, ids)
        try:
            pixels = codec.decode(content.data)
        except ImageError as error:
            raise fault(encoded, 0, error) from error
        if not encoded.sound(0):
            raise damage(encoded, 0)
        return codec.to_pil(pixels), int(row["label"])

    @property
    def targets(self) -> NDArray[np.int64]:
        """[n], the label of each sample by its id; -1 for none. A new array: 800 MB for 100 M samples."""
        return np.array(self.split.table["label"], np.int64)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Labels by class name, as torchvision's ImageFolder has them; empty where classes have no names."""
        return {name: label for label, name in enumerate(self.classes or ())}


def about(dataset: Dataset) -> str:
    """Which samples a data set holds, in words."""
    classes = "" if dataset.classes is None else f", {len(dataset.classes):,} classes"
    return f"{dataset.split.folder}: {len(dataset):,} images{classes}"


class HasEpochs(Protocol):
    """A loader."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is next."""


def make_sampler(loader: HasEpochs, dataset: Dataset, shuffle: bool) -> Sampler:
    """`loader.sampler`."""
    return Sampler(loader) if shuffle else InOrder(loader, dataset)


class Sampler:
    """`loader.sampler`: through it Lightning, timm and others say which epoch is next."""

    def __init__(self, loader: HasEpochs) -> None:
        self._loader = weakref.ref(loader)  # a cycle would keep a forgotten loader's threads until a collection

    def set_epoch(self, epoch: int) -> None:
        """The same as the loader's own."""
        if (loader := self._loader()) is not None:
            loader.set_epoch(epoch)


class InOrder(Sampler, SequentialSampler):
    """That of a loader that does not shuffle, under the type by which Lightning's `overfit_batches` knows one."""

    def __init__(self, loader: HasEpochs, dataset: Dataset) -> None:
        Sampler.__init__(self, loader)
        SequentialSampler.__init__(self, dataset)
