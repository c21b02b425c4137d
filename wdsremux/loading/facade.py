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
    """The split that a loader reads, as `loader.dataset`. `dataset[i]` is a stored image (PIL) and its label.

    Attributes:
        split: The manifest and the sample table of the split.
        classes: The class names by label, or None if the labels have no names.
    """

    split: Split  #: what is read; the loader's own reading does not notice
    classes: list[str] | None  #: names by label

    def __len__(self) -> int:
        return len(self.split.table)

    def __repr__(self) -> str:
        return f"Dataset({about(self)})"

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, int]:
        """Return a sample by its id, to look at: the image as it is stored, not augmented, and its label (-1 for none).

        Raises:
            IndexError: If the sample does not exist.
            FormatError: If its shard is missing, changed or damaged.
            ImageError: If the image cannot be decoded.
        """
        place = range(len(self))[arguments.integer("index", index, None)]
        row, ids = self.split.table[place], np.array([place])
        self.split.check_places(ids)
        content = np.empty(int(row["size"]), np.uint8)
        with contextlib.closing(Shards(self.split, Disk())) as shards:
            shards.read(int(row["shard"]), int(row["offset"]), content.data)
        sides = np.array([row["width"]], np.int64), np.array([row["height"]], np.int64)
        start, size = np.array([0]), np.array([len(content)])
        encoded = Encoded(ids, *sides, content, start, size, np.array([row["crc32"]]), self.split, ids)
        try:
            pixels = codec.decode(content.data)
        except ImageError as error:
            raise fault(encoded, 0, error) from error
        if not encoded.sound(0):
            raise damage(encoded, 0)
        return codec.to_pil(pixels), int(row["label"])

    @property
    def targets(self) -> NDArray[np.int64]:
        """The labels of all samples, in the order of their ids; -1 for a sample without a label.

        Each access returns a new array with 8 bytes per sample.
        """
        return np.array(self.split.table["label"], np.int64)

    @property
    def num_classes(self) -> int:
        """The number of classes, for the last layer of a model.

        If the labels are integers without names, it is the largest label of this split plus one. It is 0 if no sample
        has a label.
        """
        return self.split.largest_label + 1 if self.classes is None else len(self.classes)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The labels by class name, as in torchvision's ImageFolder; empty if the labels have no names."""
        return {name: label for label, name in enumerate(self.classes or ())}


def about(dataset: Dataset) -> str:
    """Which samples a data set holds, in words."""
    classes = "" if dataset.classes is None else f", {_counted(len(dataset.classes), 'class', 'classes')}"
    return f"{dataset.split.folder}: {_counted(len(dataset), 'image', 'images')}{classes}"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


class HasEpochs(Protocol):
    """A loader."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is next."""


def make_sampler(loader: HasEpochs, dataset: Dataset, shuffle: bool) -> Sampler:
    """`loader.sampler`."""
    return Sampler(loader) if shuffle else InOrder(loader, dataset)


class Sampler:
    """`loader.sampler`: Lightning, timm and others call its `set_epoch` before each epoch."""

    def __init__(self, loader: HasEpochs) -> None:
        self._loader = weakref.ref(loader)  # a cycle would keep a forgotten loader's threads until a collection

    def set_epoch(self, epoch: int) -> None:
        """The same as `loader.set_epoch`."""
        if (loader := self._loader()) is not None:
            loader.set_epoch(epoch)


class InOrder(Sampler, SequentialSampler):
    """That of a loader that does not shuffle, under the type by which Lightning's `overfit_batches` knows one."""

    def __init__(self, loader: HasEpochs, dataset: Dataset) -> None:
        Sampler.__init__(self, loader)
        SequentialSampler.__init__(self, dataset)
