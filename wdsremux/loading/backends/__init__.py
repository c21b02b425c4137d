"""Backends carry out a batch: decode, crop, resize, flip, normalise. Which parameters, they are told.

A plug is named in `BACKENDS` and imported when used; the core never imports one by kind.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from wdsremux.errors import OptionError
from wdsremux.loading.augment import Parameters
from wdsremux.loading.reader import Encoded

BACKENDS = {
    "dali": "wdsremux.loading.backends.dali:DaliBackend",
    "torchvision": "wdsremux.loading.backends.torchvision:TorchvisionBackend",
}
AUTO = "auto"
DTYPES = (torch.float32, torch.float16, torch.uint8)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a batch of images looks like: a tensor [N, 3, size, size].

    Raises:
        OptionError: when made with what no backend can give.
    """

    size: int  #: pixels a side
    dtype: torch.dtype  #: uint8 holds 0 to 255 and is not normalised
    memory_format: torch.memory_format
    mean: tuple[float, float, float]  #: of 0 to 1, by channel
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.size < 1:
            raise OptionError(f"Invalid size (got {self.size}). Supported: 1 or more pixels")
        if self.dtype not in DTYPES:
            raise OptionError(f"Invalid dtype (got {self.dtype}). Supported: {', '.join(map(str, DTYPES))}")
        if self.memory_format not in LAYOUTS:
            known = ", ".join(map(str, LAYOUTS))
            raise OptionError(f"Invalid memory_format (got {self.memory_format}). Supported: {known}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise OptionError(f"Invalid mean or std (got {self.mean}, {self.std}). Supported: three each, std above 0")

    @property
    def channels_last(self) -> bool:
        return self.memory_format == torch.channels_last


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch on its way to a backend."""

    epoch: int
    position: int  #: in the epoch, when this batch has been handed out
    encoded: Encoded
    parameters: Parameters


class Backend(Protocol):
    """What decodes and augments."""

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """Each batch with its images, in order; takes the next batch while it works on one.

        Called from one thread at a time. Closing the iterator ends the work on what it took.

        Raises:
            ImageError: naming the sample that cannot be decoded.
        """

    def close(self) -> None:
        """Release threads and memory. The backend is not used again."""


def make_backend(name: str, output: Output, batch_size: int, num_threads: int) -> Backend:
    """The backend of that name.

    Args:
        name: a key of `BACKENDS`, or "auto": the quicker one for where images go. On a CPU that is torchvision.
        output: what batches look like.
        batch_size: the largest.
        num_threads: threads that decode.

    Raises:
        OptionError: if there is none of that name.
        BackendError: if it is not installed.
    """
    name = "torchvision" if name == AUTO else name
    if name not in BACKENDS:
        raise OptionError(f"Invalid backend (got {name!r}). Supported: {AUTO}, {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    backend: Backend = getattr(importlib.import_module(module), attribute)(output, batch_size, num_threads)
    return backend
