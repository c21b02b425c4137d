"""What other libraries ask of a loader: its data set and its sampler."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wdsremux.format.samples import Table


@dataclass(frozen=True, slots=True)
class Dataset:
    """What `loader.dataset` says of the split."""

    table: Table = field(repr=False)  #: the sample table, by sample id
    classes: list[str] | None  #: names by label

    def __len__(self) -> int:
        return len(self.table)

    @property
    def targets(self) -> NDArray[np.int64]:
        """[n], the label of each sample by its id; -1 for none. A new array: 800 MB for 100 M samples."""
        return np.array(self.table["label"], np.int64)


class HasEpochs(Protocol):
    """A loader."""

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is next."""


class Sampler:
    """`loader.sampler`: through it Lightning, timm and others say which epoch is next."""

    def __init__(self, loader: HasEpochs) -> None:
        self._loader = weakref.ref(loader)  # a cycle would keep a forgotten loader's threads until a collection

    def set_epoch(self, epoch: int) -> None:
        """The same as the loader's own."""
        if (loader := self._loader()) is not None:
            loader.set_epoch(epoch)
