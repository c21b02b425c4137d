"""DataLoader: joins order, reader, augment and backend, and holds the state."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch

from wdsremux import arguments
from wdsremux.errors import StateError
from wdsremux.html_table import html_table
from wdsremux.loading import world
from wdsremux.loading.accelerate_loop import Loop
from wdsremux.loading.augment import Augment, make_augment
from wdsremux.loading.cautions import cautions, check_fields
from wdsremux.loading.facade import Dataset, about, make_sampler
from wdsremux.loading.feed import Share
from wdsremux.loading.options import Options
from wdsremux.loading.order import WINDOW, Order, Steps, steps
from wdsremux.loading.output import IMAGENET_MEAN, IMAGENET_STD, Output
from wdsremux.loading.reader import Reader
from wdsremux.loading.session import Session
from wdsremux.loading.signature import missing_attribute, remade, remembered
from wdsremux.loading.state import LoaderState, load
from wdsremux.loading.stats import Meter, Stats

_ANOTHER = "another iterator of this loader was started, and only the newest one can continue"


class DataLoader:
    """Reads one split of a converted set in batches, in place of `torch.utils.data.DataLoader`.

        loader = wdsremux.DataLoader("photos-256", batch_size=256)
        for images, labels in loader:  # float32 [N, 3, 224, 224], normalized; int64 [N]
            ...

    Args:
        out: The folder that `wdsremux convert` wrote, such as "photos-256", not "photos-256/train".
        batch_size: Samples per batch, on each rank.
        split: The split to read.
        shuffle: Whether the order differs in each epoch. See `window`.
        augment: "train": a random crop and flip. "eval": the largest central square, cropped to 7/8 of its side. None:
            the whole largest central square. Or a `wdsremux.Augment`. The result is resized to `size`.
        size: Height and width of the images in a batch, in pixels.
        backend: "dali", "torchvision", or "auto": DALI on a GPU, if it is installed and works, and torchvision
            otherwise. Both return the same images within rounding, except that backend="torchvision" with decode="gpu"
            uses the nearest chroma value where the others interpolate.
        device: Where images and labels are placed. By default this process's CUDA device, or the CPU if there is none.
        decode: "gpu" or "cpu": what decodes the JPEG files. By default the GPU, if batches are placed there. If the GPU
            cannot decode, you get a warning and the CPU decodes.
        seed: Seed of the order and of the augmentation. Use the same on all ranks.
        tail: What happens at the end of an epoch. "drop": only full batches are returned. "even": each sample is
            returned exactly once, in the same number of steps on all ranks. By default "drop" with shuffling and "even"
            without.
        lanes: How many parts of an epoch are read separately. More than 1 is useful if many nodes share slow storage.
        window: How many shards are shuffled together: by default 64. "all" is a full shuffle, which is suitable for
            NVMe disks and memory.
        rank: The rank of this process. By default it is taken from torch.distributed, or else from the environment of
            torchrun or srun.
        world_size: The number of ranks. Give both `rank` and `world_size`, or neither.
        num_threads: Threads that decode. By default the number of CPU cores of this process, divided by the number of
            ranks that torchrun started on the machine.
        prefetch: Batches that are prepared in advance.
        dtype: torch.float32, torch.float16 or torch.bfloat16: normalized. torch.uint8: from 0 to 255, not normalized.
        memory_format: torch.channels_last is faster to produce, and faster to train from on most hardware.
        mean: Subtracted from each channel after scaling to 0–1. The default is ImageNet's.
        std: Each channel is then divided by this. The default is ImageNet's.
        fields: What a batch consists of: "image", "label", "key" (list of str), "id" (int64 [N]), "json" (list of
            dictionaries with the columns that were kept by `--keep`).
        verify_crc: Whether to check the CRC-32 of every image that is read.
        on_error: "raise", or "skip" to replace an image that cannot be read or decoded by the next good image of the
            same batch, and to count it in `stats()`.

    Raises:
        OptionError: If an argument is not valid.
        FormatError: If the split is missing or damaged.
        BackendError: If the backend is not installed or the device does not exist.
    """

    _given: dict[str, Any]  #: the arguments, as `remembered` leaves them

    @remembered
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
        device: str | torch.device | None = None,
        decode: str | None = None,
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
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        fields: Sequence[str] = ("image", "label"),
        verify_crc: bool = False,
        on_error: str = "raise",
    ) -> None:
        options = Options(
            batch_size=batch_size,
            tail=("drop" if shuffle else "even") if tail is None else tail,
            fields=fields,
            augment=make_augment(augment),
            output=Output(size=size, dtype=dtype, memory_format=memory_format, mean=mean, std=std),
            backend=backend,
            device=device,
            decode=decode,
            rank=rank,
            world_size=world_size,
            num_threads=num_threads,
            prefetch=prefetch,
            on_error=on_error,
        )
        place = Path(arguments.path("out", out)).expanduser()
        checked = arguments.flag("verify_crc", verify_crc)
        self._options = options
        self._reader = Reader(place / arguments.text("split", split), checked, on_error)
        counts = tuple(shard.nsamples for shard in self._reader.manifest.shards)
        self._order = Order(counts, seed, shuffle, WINDOW if window is None else window, lanes)
        check_fields(self._reader, options.fields)
        for text in cautions(self._reader.split, self._order, place, labels="label" in options.fields):
            warnings.warn(text, stacklevel=3)
        self._state = LoaderState()
        self._newest = 0  #: number of the iterator that was begun last; `_iterator` is a name that Lightning sets
        self._meter = Meter()
        self._session = Session(options, self._order, self._reader)
        self._finalizer = weakref.finalize(self, self._session.close)
        self.batch_size = options.batch_size
        self.dataset = Dataset(self._reader.split, self._reader.manifest.classes)
        self.sampler = make_sampler(self, self.dataset, shuffle)
        self.batch_sampler = None  # Lightning and others look for one, and for the sampler in it

    @property
    def classes(self) -> list[str] | None:
        """The class names by label, or None if the labels have no names."""
        return self.dataset.classes

    @property
    def num_classes(self) -> int:
        """The number of classes, for the last layer of a model.

        If the labels are integers without names, it is the largest label of this split plus one. It is 0 if no sample
        has a label.
        """
        return self.dataset.num_classes

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The labels by class name; empty if the labels have no names."""
        return self.dataset.class_to_idx

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration returns. A resumed training starts with it."""
        return self._state.begin().epoch

    def __repr__(self) -> str:
        return f"wdsremux.DataLoader({about(self.dataset)}; {self._options.about})"

    def _repr_html_(self) -> str:
        return html_table("wdsremux.DataLoader", {"reads": about(self.dataset), "returns": self._options.about})

    def __len__(self) -> int:
        """Return the number of batches in a full epoch: the same on all ranks, also after a resume."""
        return len(self._steps(self._session.share(), 0))

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of one epoch, or after `load_state_dict` those that are left of the epoch.

        The iteration starts at the first `next`, so a call of `set_epoch` before that has an effect.
        """
        self._check_open()
        world.check_alone()
        state = self._state.begin()
        self._newest += 1
        mine = self._newest
        todo = self._steps(self._session.begin(), state.position)
        if len(todo) and todo[len(todo) - 1].repeats:
            warnings.warn(
                f"the samples that are left of epoch {state.epoch} ({self._order.nsamples - state.position}) cannot be "
                "divided evenly among the ranks, so some of them are repeated",
                stacklevel=2,
            )
        loop = Loop()
        try:
            yield from self._batches(len(todo), state, mine, loop)
        finally:
            loop.close()

    def _batches(self, count: int, state: LoaderState, mine: int, loop: Loop) -> Iterator[Any]:
        """So many batches from a state on; then the epoch has ended."""
        self._meter.begin()
        given = time.perf_counter()
        for number in range(count):
            if mine != self._newest:
                raise StateError(_ANOTHER)
            asked = time.perf_counter()
            self._check_open()  # it may have been closed since the iterator began
            ready = self._session.take(state.epoch, state.position)
            if mine != self._newest:  # begun in another thread while this one waited
                raise StateError(_ANOTHER)
            self._state = state = LoaderState(ready.epoch, ready.position)  # a state is used up by its first batch
            waited_s, callers_s, given = time.perf_counter() - asked, asked - given, time.perf_counter()
            self._meter.handed(ready.cost, len(ready.ids), waited_s, callers_s)
            loop.end_of_dataloader = number == count - 1
            yield ready.as_tuple(self._options.fields, self._reader)
        if mine == self._newest:
            self._meter.ended(time.perf_counter() - given)
            self._state = LoaderState(state.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration returns. A loaded position is kept if it is in that epoch.

        Raises:
            OptionError: If the number is not valid.
        """
        before, self._state = self._state, self._state.at_epoch(epoch)
        if before.loses(self._state, self._order.nsamples):
            warnings.warn(
                f"the loaded state (epoch {before.epoch}, sample {before.position:,}) is discarded, because "
                f"set_epoch({epoch}) chooses another epoch. To resume from it, start your loop at its epoch: "
                "for epoch in range(loader.epoch, EPOCHS)",
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the position in it, as plain values. Load them on any number of ranks."""
        return self._state.dump(self._order.fingerprint())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state: the next iteration returns the samples that are left of its epoch.

        Raises:
            StateError: If it is not a state, or belongs to another data set, seed or order. The error says which.
        """
        self._state = load(state, self._order.fingerprint())

    def stats(self) -> Stats:
        """Return images, bytes and seconds per stage. Print them to see the bottleneck in one line."""
        return self._meter.stats(*self._session.decoder)

    def close(self) -> None:
        """Stop all threads and close all files. The loader cannot be used afterwards."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    if not TYPE_CHECKING:  # or every name would be one of its attributes

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute(name)

    def __reduce__(self) -> Any:
        """A loader that has not begun is copied and pickled as its arguments, and where it is."""
        if self._session.begun:
            raise TypeError(
                "this loader has started, and its threads and open files cannot be copied or pickled. Copy it before "
                "its first batch, or create one in each process"
            )
        return remade, (type(self), DataLoader.__init__, self._given), self._state

    def __setstate__(self, state: LoaderState) -> None:
        self._state = state

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise StateError("this loader was closed. Create a new one")

    def _steps(self, share: Share, position: int) -> Steps:
        return steps(position, self._order.nsamples, share.batch_size, share.world, share.tail)
