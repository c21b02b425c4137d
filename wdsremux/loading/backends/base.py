"""Backends carry out a batch: decode, crop, resize, flip, and what augmentation asks for beyond. They are told how.

A plug is named in `BACKENDS` and imported when used; the core never imports one by kind.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch

from wdsremux import arguments, codec
from wdsremux.errors import ImageError, WdsremuxError
from wdsremux.loading.augment import Parameters
from wdsremux.loading.device import Destination
from wdsremux.loading.output import Output
from wdsremux.loading.reader import skip_log
from wdsremux.loading.reader.encoded import Encoded, damage, fault

BACKENDS = {
    "dali": "wdsremux.loading.backends.dali:DaliBackend",
    "torchvision": "wdsremux.loading.backends.torchvision:TorchvisionBackend",
}
AUTO = "auto"
GPU, CPU = "gpu", "cpu"  #: what decodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a backend is made with."""

    output: Output
    batch_size: int  #: the largest
    num_threads: int  #: that decode
    destination: Destination  #: where batches go
    decode: str = CPU  #: "gpu" or "cpu": what decodes. "gpu" with a destination that is a CPU takes the same way there
    after_crop: bool = False  #: whether batches ask for more than crop and flip
    restart_rows: bool = False  #: whether rows can be cut out of the JPEGs, so that less of them is decoded
    skip: bool = False  #: put a good sample in the place of one that cannot be decoded


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch on its way to a backend."""

    epoch: int
    position: int  #: in the epoch, when this batch has been handed out
    encoded: Encoded
    parameters: Parameters
    watch: Callable[[torch.Tensor], None] | None = None  #: gets the pixels as `Canary.look` does, where a GPU decodes


class Backend(Protocol):
    """What decodes and augments."""

    rows: bool  #: whether it is quicker with images that each begin a row; see `Reader.read`

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """Each batch with its images, in order; takes the next batch while it works on one.

        Called from one thread at a time. Closing the iterator ends the work on what it took. Images may still be under
        way on the current CUDA stream. With `skip`, a batch may come back with good samples in the place of bad ones.

        Raises:
            ImageError: naming the sample that cannot be decoded.
            FormatError: where that is because its bytes are not those that were written.
        """

    def close(self) -> None:
        """Release threads and memory. The backend is not used again."""


Plug = Callable[[Setup], Backend]


def find(name: str, device: torch.device) -> Plug:
    """The backend of that name, imported.

    Args:
        name: a key of `BACKENDS`, or "auto"; see `meant`.
        device: where images go.

    Raises:
        OptionError: if there is none of that name.
        BackendError: if it is not installed.
    """
    module, _, attribute = BACKENDS[meant(name, device)].partition(":")
    return cast(Plug, getattr(importlib.import_module(module), attribute))


def meant(name: str, device: torch.device) -> str:
    """The key of `BACKENDS` that a loader's argument means: "auto" is the quicker one for where images go.

    On a CPU that is torchvision.

    Raises:
        OptionError: if there is none of that name.
    """
    if name == AUTO:
        return "dali" if device.type == "cuda" and _installed("nvidia.dali") else "torchvision"
    arguments.one_of("backend", name, (AUTO, *BACKENDS))
    return name


def _installed(module: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # a parent package is missing
        return importlib.util.find_spec(module) is not None
    return False


def repaired(batch: Batch, skip: bool) -> Batch | None:
    """What to do about a batch that a decoder could not do: samples are decoded one by one on the CPU to find out.

    A file may also be one that libjpeg decodes and another decoder does not: its CRC-32 tells whether it is damaged.

    Returns:
        The batch with good samples in the place of those that cannot be decoded; None if all can.

    Raises:
        WdsremuxError: what is wrong with the first that cannot, unless `skip`; also if all are bad.
    """
    faults: dict[int, WdsremuxError] = {}
    for i in range(len(batch.encoded)):
        faults |= _fault(batch.encoded, i)
        if faults and not skip:
            raise faults.pop(i)  # not one that this frame still holds: they would keep each other, and files open
    if not faults:
        return None
    if len(faults) == len(batch.encoded):
        raise faults.pop(0)
    for error in faults.values():
        skip_log.LOG.warn(error)
    encoded, index = batch.encoded.without(list(faults))
    return replace(batch, encoded=encoded, parameters=batch.parameters.take(index))


def _fault(encoded: Encoded, i: int) -> dict[int, WdsremuxError]:
    """What is wrong with an image, by its place; empty if nothing is."""
    try:
        codec.decode(encoded.image(i).data)
    except ImageError as reason:
        return {i: fault(encoded, i, reason)}
    return {} if encoded.sound(i) else {i: damage(encoded, i)}
