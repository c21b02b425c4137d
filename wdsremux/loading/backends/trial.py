"""Which way a loader's images take, and whether that works here: found out on one image, before the first batch.

Drivers without nvJPEG, containers without a library, GPUs too old for it: decoding on the CPU works everywhere, and is
quick for baked images. So the run goes on with that, and one warning. Libraries may also do so by themselves, without
one; the pixels of the trial tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.errors import BackendError, WdsremuxError, first_line
from wdsremux.loading.augment import WHOLE, Parameters
from wdsremux.loading.backends.base import AUTO, CPU, GPU, Backend, Batch, Plug, Setup, find, meant
from wdsremux.loading.backends.canary import FAR, by_the_cpu, difference
from wdsremux.loading.reader.encoded import Encoded

_TEXTURE = 10.0  #: of 255, the standard deviation from which a picture is one that two decoders round differently
#: Compute capabilities of cards that decode baseline JPEGs in an engine of their own: A100, A30, H100, B200, B300.
_ENGINES = ((8, 0), (9, 0), (10, 0), (10, 3))
_ENGINE_LIBRARY = "libnvcuvid"  #: of the driver; nvJPEG loads it to reach the engine
_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Route:
    """A way that images can take."""

    backend: str  #: a key of `BACKENDS`
    decode: str  #: "gpu" or "cpu"
    plug: Plug

    def __str__(self) -> str:
        return f"{self.backend}, {self.decode}"


@dataclass(frozen=True, slots=True)
class WorkingBackend:
    """A backend that works."""

    backend: Backend
    decoder: str  #: what decodes, for people: "dali, gpu"
    fallback: str | None = None  #: why that is not what was asked for, where it is not


def routes(name: str, device: torch.device, decode: str) -> list[Route]:
    """What to try, one after the other: the last one without a trial.

    Args:
        name: a key of `BACKENDS`, or "auto": then torchvision stands in for DALI, which may not find its CUDA at all.
        device: where images go.
        decode: "gpu" or "cpu".

    Raises:
        OptionError: if there is no backend of that name.
        BackendError: if it is not installed.
    """
    first = meant(name, device)
    ways = [(first, decode)]
    if decode == GPU:
        ways.append(("torchvision" if name == AUTO else first, CPU))
    return [Route(backend, way, find(backend, device)) for backend, way in ways]


def begin(ways: list[Route], setup: Setup, sample: Callable[[], Encoded | None]) -> WorkingBackend:
    """A backend that works, by the first way that does; a warning if that is not the first of them.

    Args:
        ways: of `routes`.
        setup: what backends are made with; its `decode` is the way's.
        sample: gives one sound image to try a decoder on; None if there is none.

    Raises:
        BackendError: if none works.
    """
    first, *others = ways
    if not others:
        return WorkingBackend(first.plug(replace(setup, decode=first.decode)), str(first))
    (other,) = others
    try:
        return _tried(first, replace(setup, decode=first.decode), sample)
    except (WdsremuxError, RuntimeError, OSError) as error:
        reason = first_line(error)
    try:
        backend = other.plug(replace(setup, decode=other.decode))
    except BackendError as error:
        raise BackendError(f'{error}. Choose backend="torchvision", which does not need DALI') from error
    by = "" if other.backend == first.backend else f" with {other.backend}"
    warnings.warn(
        f"decoding on the GPU does not work on this machine, so images are decoded on the CPU{by}: {reason}. "
        'To silence this warning, pass decode="cpu"',
        stacklevel=2,
    )
    return WorkingBackend(backend, str(other), reason)


def _tried(way: Route, setup: Setup, sample: Callable[[], Encoded | None]) -> WorkingBackend:
    backend = way.plug(setup)
    try:
        if (encoded := sample()) is not None:
            _try(backend, setup, encoded)
    except BaseException:
        backend.close()
        raise
    if way.backend == "dali" and (missing := unused_engine(setup.destination.device)):
        warnings.warn(missing, stacklevel=4)
        return WorkingBackend(backend, f"{way} without its JPEG engine")
    return WorkingBackend(backend, str(way))


def _try(backend: Backend, setup: Setup, encoded: Encoded) -> None:
    """Decode one image, and compare what comes out with the CPU's.

    Raises:
        BackendError: if it is another picture; or if it is the CPU's, to the last bit.
    """
    size, seen = setup.output.size, list[NDArray[np.uint8]]()

    def watch(pixels: torch.Tensor) -> None:
        seen.append(setup.destination.fetch(pixels[0])())

    batch = Batch(0, 0, encoded, _cut(encoded, size), watch)
    for _ in backend.run(iter([batch])):
        setup.destination.finish()  # faults of the device come up when it is waited for
    for pixels in seen:
        judge(pixels, by_the_cpu(batch, 0, size), exact=setup.destination.device.type == "cuda")


def judge(pixels: NDArray[np.uint8], wanted: NDArray[np.uint8], *, exact: bool) -> None:
    """Look at what a decoder made of an image.

    Args:
        pixels: uint8 [S, S, 3] that it made.
        wanted: those that the CPU makes.
        exact: whether to doubt pixels that are the same to the last bit. nvJPEG rounds otherwise than libjpeg, so these
            were decoded on the CPU: DALI does that, without a word, where a library is missing.

    Raises:
        BackendError: saying what is wrong.
    """
    if (off := difference(pixels, wanted)) > FAR:
        raise BackendError(f"the decoded images differ from the CPU's by {off:.0f} of 255 on average")
    if exact and wanted.std() > _TEXTURE and np.array_equal(pixels, wanted):
        raise BackendError("the pixels are exactly those of the CPU's decoder, so they were decoded on the CPU")


def _cut(encoded: Encoded, size: int) -> Parameters:
    """The middle of the picture as it lies, so that nothing but the decoder makes its pixels; resized if too small."""
    width, height = int(encoded.width[0]), int(encoded.height[0])
    if min(width, height) < size:
        return WHOLE.parameters(encoded.ids, encoded.width, encoded.height, 0, 0, size)
    return Parameters(np.array([[(width - size) // 2, (height - size) // 2, size, size]]), np.array([False]))


def unused_engine(device: torch.device) -> str | None:
    """Why a card's JPEG engine does not decode, after something was decoded; None if it does, or there is none."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) not in _ENGINES or _loaded(_ENGINE_LIBRARY):
        return None
    return (
        f"the hardware JPEG decoder of this GPU is not used, because the driver's {_ENGINE_LIBRARY}.so.1 is missing. "
        'Images are decoded by the GPU\'s cores and the CPU instead. In a container, add "video" to '
        "NVIDIA_DRIVER_CAPABILITIES"
    )


def _loaded(library: str) -> bool:
    """Whether a shared library is in this process; taken to be where that cannot be told."""
    try:
        return library in _MAPS.read_text()
    except OSError:
        return True
