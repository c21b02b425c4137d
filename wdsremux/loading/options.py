"""What a loader was asked for, checked once and passed whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from wdsremux import arguments
from wdsremux.errors import OptionError
from wdsremux.loading import device, world
from wdsremux.loading.augment import Augment
from wdsremux.loading.backends import CPU, GPU, find
from wdsremux.loading.output import Output

FIELDS = ("image", "label", "key", "id", "json")
TAILS = ("drop", "even")
ON_ERROR = ("raise", "skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a loader was asked for, but for its order.

    Raises:
        OptionError: if something is wrong by itself.
        BackendError: if the device or the backend is not there.
    """

    batch_size: int  #: of each rank
    tail: str
    fields: Sequence[str]  #: as a tuple, once this is made
    augment: Augment
    output: Output
    backend: str
    device: str | torch.device | None  #: None: this process's CUDA device, if there is one
    decode: str | None  #: None: "gpu" for a CUDA device
    rank: int | None
    world_size: int | None
    num_threads: int | None
    prefetch: int
    on_error: str

    def __post_init__(self) -> None:
        self._hold("batch_size", arguments.integer("batch_size", self.batch_size))
        self._hold("prefetch", arguments.integer("prefetch", self.prefetch))
        for name, least in (("num_threads", 1), ("rank", 0), ("world_size", 1)):
            if getattr(self, name) is not None:
                self._hold(name, arguments.integer(name, getattr(self, name), least))
        self._hold("fields", arguments.texts("fields", self.fields, FIELDS))
        arguments.one_of("tail", self.tail, TAILS)
        arguments.one_of("on_error", self.on_error, ON_ERROR)
        arguments.one_of("decode", CPU if self.decode is None else self.decode, (GPU, CPU))
        if self.rank is not None or self.world_size is not None:
            world.rank_and_world(self.rank, self.world_size)
        found = device.foreseen(self.device)  # resolved when it is used: a number may be chosen meanwhile
        self.decoder(found)
        if self.images:
            self.augment.check_size(self.output.size)
            find(self.backend, found)

    def _hold(self, name: str, value: object) -> None:
        """Put a plain value in the place of one that is like it."""
        object.__setattr__(self, name, value)

    @property
    def images(self) -> bool:
        """Whether a field asks for images."""
        return "image" in self.fields

    @property
    def about(self) -> str:
        """What batches are like, in words."""
        what = f"{self.output.size} x {self.output.size} pixels" if self.images else "no images"
        return f"batches of {self.batch_size:,}, {what}, {', '.join(self.fields)}"

    @property
    def skip(self) -> bool:
        return self.on_error == "skip"

    def decoder(self, found: torch.device) -> str:
        """What is to decode for that device: "gpu" or "cpu".

        Raises:
            OptionError: if that is a GPU, and the device is none.
        """
        if self.decode == GPU and found.type != "cuda":
            raise OptionError(f'decode="gpu" needs a CUDA device (got {str(found)!r}). Choose decode="cpu"')
        return self.decode or (GPU if found.type == "cuda" else CPU)
