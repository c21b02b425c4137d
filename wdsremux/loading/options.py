"""What a loader was asked for, checked once and passed whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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
    fields: tuple[str, ...]
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
        counts = {"batch_size": self.batch_size, "prefetch": self.prefetch, "num_threads": self.num_threads}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise OptionError(f"Invalid {name} (got {value}). Supported: 1 or more")
        _one_of("tail", self.tail, TAILS)
        _one_of("on_error", self.on_error, ON_ERROR)
        _one_of("decode", self.decode or CPU, (GPU, CPU))
        for field in self.fields:
            _one_of("field", field, FIELDS)
        if self.rank is not None or self.world_size is not None:
            world.rank_and_world(self.rank, self.world_size)
        found = device.foreseen(self.device)  # resolved when it is used: a number may be chosen meanwhile
        self.decoder(found)
        if self.images:
            self.augment.check_size(self.output.size)
            find(self.backend, found)

    @property
    def images(self) -> bool:
        """Whether a field asks for images."""
        return "image" in self.fields

    @property
    def skip(self) -> bool:
        return self.on_error == "skip"

    def decoder(self, found: torch.device) -> str:
        """What is to decode for that device: "gpu" or "cpu".

        Raises:
            OptionError: if that is a GPU, and the device is none.
        """
        if self.decode == GPU and found.type != "cuda":
            raise OptionError(f'decode="gpu" needs a CUDA device, and images go to {str(found)!r}. Choose decode="cpu"')
        return self.decode or (GPU if found.type == "cuda" else CPU)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"Invalid {name} (got {value!r}). Supported: {', '.join(known)}")
