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
from wdsremux.loading.feed import Ready, Share
from wdsremux.loading.options import Options
from wdsremux.loading.order import WINDOW, Order, Steps, steps
from wdsremux.loading.output import Output
from wdsremux.loading.reader import Reader
from wdsremux.loading.session import Session
from wdsremux.loading.signature import missing_attribute, remade, remembered
from wdsremux.loading.state import LoaderState, load
from wdsremux.loading.stats import Meter, Stats

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what pretrained models expect


_ANOTHER = "another iterator of this loader has begun; only the newest can go on"


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
        backend: "torchvision", "dali", or "auto": DALI for a GPU, if it is installed and works there, else torchvision.
            They give the same pictures within rounding. Only "torchvision" with decode="gpu" takes the nearest chroma
            value where the others interpolate: 0.3 of 255 on average for 4:2:0 photographs, nothing for 4:4:4.
        device: where images go; by default this process's CUDA device, if there is one. Labels, too.
        decode: what decodes, "gpu" or "cpu"; by default the GPU, if images go there, and the CPU where that fails.
        seed: of order and augmentation; the same on all ranks.
        tail: "drop" (full steps only), "even" (every sample once, equal steps on all ranks), None: "drop" when
            shuffling, else "even".
        lanes: runs of an epoch that nodes read separately; 1 unless many nodes share slow storage.
        window: shards whose samples are mixed, 64 by default; "all" for a full shuffle, right for NVMe and RAM.
        rank: of this process; by default from torch.distributed, torchrun's or srun's environment.
        world_size: number of ranks; given together with rank.
        num_threads: that decode; by default this process's share of the cores.
        prefetch: batches made ahead.
        dtype: torch.float32, torch.float16, torch.bfloat16, or torch.uint8 (0 to 255, not normalised).
        memory_format: torch.channels_last is quicker to make, and to train from on most hardware.
        mean: subtracted after scaling to 0 … 1, by channel; ImageNet's by default.
        std: divided by, then.
        fields: what a batch is a tuple of: "image", "label", "key" (list of str), "id" (int64 [N]), "json" (list of
            dict: what `convert --keep` kept).
        verify_crc: check every image's CRC-32 when it is read.
        on_error: "raise", or "skip": put the next good sample of the batch in the place of one that cannot be read or
            decoded, and count it in `stats()`.

    Raises:
        OptionError: if an argument is wrong by itself.
        FormatError: if the split is missing or damaged.
        BackendError: if the backend or the device is not there.
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
        mean: Sequence[float] = _IMAGENET_MEAN,
        std: Sequence[float] = _IMAGENET_STD,
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
        """Names by label; None where labels are plain integers or absent."""
        return self.dataset.classes

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Labels by class name."""
        return self.dataset.class_to_idx

    @property
    def epoch(self) -> int:
        """The epoch that the next iterator goes through, also what a resumed training begins with."""
        return self._state.begin().epoch

    def __repr__(self) -> str:
        return f"wdsremux.DataLoader({about(self.dataset)}; {self._options.about})"

    def _repr_html_(self) -> str:
        return html_table("wdsremux.DataLoader", {"reads": about(self.dataset), "gives": self._options.about})

    def __len__(self) -> int:
        """Batches of a whole epoch, the same for all ranks, also after a resume."""
        return len(self._steps(self._session.share(), 0))

    def __iter__(self) -> Iterator[Any]:
        """The batches of one epoch, or what is left of the one that a loaded state was in.

        Begins at its first `next`, so that a `set_epoch` before that counts.
        """
        self._check_open()
        world.check_alone()
        state = self._state.begin()
        self._newest += 1
        mine = self._newest
        todo = self._steps(self._session.begin(), state.position)
        if len(todo) and todo[len(todo) - 1].repeats:
            warnings.warn(
                f"{self._order.nsamples - state.position} samples are left of epoch {state.epoch}, "
                "too few for every rank: some of them are repeated",
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
            yield self._batch(ready)
        if mine == self._newest:
            self._meter.ended(time.perf_counter() - given)
            self._state = LoaderState(state.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iterator goes through; a loaded position is kept if it is of that epoch.

        Raises:
            OptionError: if there is no such epoch.
        """
        before, self._state = self._state, self._state.at_epoch(epoch)
        if before.loses(self._state, self._order.nsamples):
            warnings.warn(
                f"the loaded state (epoch {before.epoch}, {before.position:,} samples into it) is dropped, because "
                f"set_epoch({epoch}) asks for another epoch: training does not resume from it. Begin the loop where "
                "the state is: for epoch in range(loader.epoch, EPOCHS)",
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        """Where the training is, in plain values; load it on any number of ranks, with any batch size."""
        return self._state.dump(self._order.fingerprint())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: the next iterator gives the rest of its epoch.

        Raises:
            StateError: if it is no state, or of another data set or order, naming what differs.
        """
        self._state = load(state, self._order.fingerprint())

    def stats(self) -> Stats:
        """Seconds by stage, images and bytes, of what was handed out; as text one line that says what bounds you."""
        return self._meter.stats(*self._session.decoder)

    def close(self) -> None:
        """End threads and close files. The loader is not used again."""
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
                "this loader has begun: it holds threads and files, which cannot be copied or pickled. Copy it before "
                "its first batch, or make one in each process"
            )
        return remade, (type(self), DataLoader.__init__, self._given), self._state

    def __setstate__(self, state: LoaderState) -> None:
        self._state = state

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise StateError("this loader is closed; make a new one")

    def _steps(self, share: Share, position: int) -> Steps:
        return steps(position, self._order.nsamples, share.batch_size, share.world, share.tail)

    def _batch(self, ready: Ready) -> tuple[Any, ...]:
        return tuple(self._field(name, ready) for name in self._options.fields)

    def _field(self, name: str, ready: Ready) -> Any:
        match name:
            case "image":
                return ready.images
            case "label":
                return ready.labels
            case "id":
                return torch.from_numpy(ready.ids)
            case "json":
                return ready.json
            case _:
                return self._reader.keys(ready.ids)
