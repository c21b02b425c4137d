"""DataLoader: joins order, reader, augment and backend, and holds the state."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.errors import OptionError, StateError
from wdsremux.format.samples import Table
from wdsremux.loading import world
from wdsremux.loading.augment import Augment, make_augment
from wdsremux.loading.backends import Output, make_backend
from wdsremux.loading.feed import Feed, Ready, Share, Stages
from wdsremux.loading.order import WINDOW, Order, Steps, steps
from wdsremux.loading.reader import Reader
from wdsremux.loading.state import LoaderState, load

FIELDS = ("image", "label", "key", "id")
TAILS = ("drop", "even")
_IMAGENET_MEAN, _IMAGENET_STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # what pretrained torchvision models expect


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


class DataLoader:
    """Batches of a converted split, in place of `torch.utils.data.DataLoader`.

        loader = wdsremux.DataLoader("places", batch_size=256)
        for images, labels in loader:   # float [N, 3, 224, 224], normalised; int64 [N]

    Args:
        out: the converted set.
        batch_size: samples of a batch, on each rank.
        split: which split of it.
        shuffle: whether epochs are permuted; see `window`.
        augment: "train" (random resized crop and flip), "eval" (7/8 of the middle), None (the middle square), or an
            `Augment`.
        size: pixels a side of what comes out.
        backend: "torchvision", "dali", or "auto".
        seed: of order and augmentation; the same on all ranks.
        tail: "drop" (full steps only), "even" (every sample once, equal steps on all ranks), None: "drop" when
            shuffling, else "even".
        lanes: runs of an epoch that nodes read separately; 1 unless many nodes share slow storage.
        window: shards whose samples are mixed, 64 by default; "all" for a full shuffle, right for NVMe and RAM.
        rank: of this process; by default from torch.distributed, torchrun's or srun's environment.
        world_size: number of ranks; given together with rank.
        num_threads: that decode; by default this process's share of the cores.
        prefetch: batches made ahead.
        dtype: torch.float32, torch.float16, or torch.uint8 (0 to 255, not normalised).
        memory_format: torch.channels_last is quicker to make, and to train from on most hardware.
        mean: subtracted after scaling to 0 … 1, by channel; ImageNet's by default.
        std: divided by, then.
        fields: what a batch is a tuple of: "image", "label", "key" (list of str), "id" (int64 [N]).
        verify_crc: check every image's CRC-32 when it is read.

    Raises:
        OptionError: if an argument is wrong by itself.
        FormatError: if the split is missing or damaged.
        BackendError: if the backend is not installed.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        batch_size: int = 256,
        *,
        split: str = "train",
        shuffle: bool = True,
        augment: Augment | str | None = "train",
        size: int = 224,
        backend: str = "auto",
        seed: int = 0,
        tail: str | None = None,
        lanes: int = 1,
        window: int | str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        num_threads: int | None = None,
        prefetch: int = 2,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
        mean: tuple[float, float, float] = _IMAGENET_MEAN,
        std: tuple[float, float, float] = _IMAGENET_STD,
        fields: tuple[str, ...] = ("image", "label"),
        verify_crc: bool = False,
    ) -> None:
        _at_least_one(batch_size=batch_size, prefetch=prefetch, num_threads=num_threads)
        self.batch_size = batch_size
        self._tail = _one_of("tail", tail or ("drop" if shuffle else "even"), TAILS)
        self._fields = tuple(_one_of("field", field, FIELDS) for field in fields)
        self._reader = Reader(Path(out) / split, verify_crc)
        counts = tuple(shard.nsamples for shard in self._reader.manifest.shards)
        self._order = Order(counts, seed, shuffle, WINDOW if window is None else window, lanes)
        self._augment = make_augment(augment)
        output = Output(size=size, dtype=dtype, memory_format=memory_format, mean=mean, std=std)
        wanted = "image" in self._fields
        self._backend = make_backend(backend, output, batch_size, num_threads or world.threads()) if wanted else None
        self._place = (rank, world_size)
        if rank is not None or world_size is not None:
            world.rank_and_world(rank, world_size)
        self._prefetch = prefetch
        self._resolved: Share | None = None
        self._state = LoaderState()
        self._iterator = 0  #: number of the iterator that was begun last
        self._running = _Running(self._reader, self._backend)
        self._finalizer = weakref.finalize(self, self._running.close)
        self.dataset = Dataset(self._reader.table, self._reader.manifest.classes)

    def __len__(self) -> int:
        """Batches of a whole epoch, the same for all ranks, also after a resume."""
        return len(self._steps(0))

    def __iter__(self) -> Iterator[Any]:
        """The batches of one epoch, or what is left of the one that a loaded state was in.

        Begins at its first `next`, so that a `set_epoch` before that counts.
        """
        self._check_open()
        state = self._state.begin()
        self._iterator += 1
        mine = self._iterator
        todo = self._steps(state.position)
        if len(todo) and todo[len(todo) - 1].repeats:
            warnings.warn(
                f"{self._order.nsamples - state.position} samples are left of epoch {state.epoch}, "
                "too few for every rank: some of them are repeated",
                stacklevel=2,
            )
        for _ in range(len(todo)):
            if mine != self._iterator:
                raise StateError("another iterator of this loader has begun; only the newest can go on")
            ready = self._take(state)
            self._state = state = LoaderState(ready.epoch, ready.position)  # a state is used up by its first batch
            yield self._batch(ready)
        if mine == self._iterator:
            self._state = LoaderState(state.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iterator goes through; a loaded position is kept if it is of that epoch."""
        self._state = self._state.at_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the training is, in plain values; load it on any number of ranks, with any batch size."""
        return self._state.dump(self._order.fingerprint())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: the next iterator gives the rest of its epoch.

        Raises:
            StateError: if it is no state, or of another data set or order, naming what differs.
        """
        self._state = load(state, self._order.fingerprint())

    def close(self) -> None:
        """End threads and close files. The loader is not used again."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> Any:
        raise TypeError("a wdsremux.DataLoader holds threads and files and cannot be pickled; make one in each process")

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise StateError("this loader is closed; make a new one")

    def _steps(self, position: int) -> Steps:
        share = self._share()
        return steps(position, self._order.nsamples, share.batch_size, share.world, share.tail)

    def _share(self) -> Share:
        """Found late: Lightning and Accelerate set up their ranks after the loader is made."""
        if self._resolved is None:
            rank, size = world.rank_and_world(*self._place)
            self._resolved = Share(self.batch_size, rank, size, self._tail)
        return self._resolved

    def _take(self, state: LoaderState) -> Ready:
        """The batch that follows, from a feed that is at the right place."""
        self._check_open()  # it may have been closed since the iterator began
        feed = self._running.feed
        if feed is None or feed.cursor != (state.epoch, state.position):
            self._running.stop_feed()
            seed = self._order.seed
            stages = Stages(self._order, self._share(), self._reader, self._augment, seed, self._backend)
            feed = self._running.feed = Feed(stages, state.epoch, state.position, self._prefetch)
        try:
            return feed.take()
        except BaseException:
            self._running.stop_feed()
            raise

    def _batch(self, ready: Ready) -> tuple[Any, ...]:
        return tuple(self._field(name, ready) for name in self._fields)

    def _field(self, name: str, ready: Ready) -> Any:
        match name:
            case "image":
                return ready.images
            case "label":
                return torch.from_numpy(self._reader.labels(ready.ids))
            case "id":
                return torch.from_numpy(ready.ids)
            case _:
                return self._reader.keys(ready.ids)


class _Running:
    """What must be ended when the loader goes: apart from it, so that a finalizer can hold it."""

    def __init__(self, reader: Reader, backend: Any) -> None:
        self.reader, self.backend = reader, backend
        self.feed: Feed | None = None

    def stop_feed(self) -> None:
        if self.feed is not None:
            self.feed.stop()
            self.feed = None

    def close(self) -> None:
        if threading.current_thread().name.startswith("wdsremux"):
            # A collection in one of our own threads found the loader forgotten; that thread cannot wait for itself.
            threading.Thread(target=self._close, name="wdsremux-close").start()
        else:
            self._close()

    def _close(self) -> None:
        self.stop_feed()
        if self.backend is not None:
            self.backend.close()
        self.reader.close()


def _at_least_one(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise OptionError(f"Invalid {name} (got {value}). Supported: 1 or more")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise OptionError(f"Invalid {name} (got {value!r}). Supported: {', '.join(known)}")
    return value
