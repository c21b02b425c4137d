"""How quickly a converted split can be read on this machine: each backend and decoder in turn, by the real loader.

ways     what there is to try here
measure  one of them, for some seconds, by a caller that does nothing with what it gets
advice   what to choose, in sentences
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from wdsremux.errors import BackendError
from wdsremux.loading import device, world
from wdsremux.loading.backends import BACKENDS, CPU, GPU, find
from wdsremux.loading.loader import DataLoader

_SLICES = 5  #: of the time for which a loader is measured: rates differ between them
_SETTLED = 4  #: batches after which prefetch and caches hold what they will hold
_FORMS = (
    (torch.float32, torch.contiguous_format),
    (torch.float32, torch.channels_last),
    (torch.uint8, torch.channels_last),
)


@dataclass(frozen=True, slots=True)
class Way:
    """A loader's arguments, of those that only change how quick it is."""

    backend: str
    decode: str  #: "gpu" or "cpu"
    dtype: torch.dtype
    memory_format: torch.memory_format

    @property
    def decoder(self) -> str:
        """As `stats()` names what decodes, if this works."""
        return f"{self.backend}, {self.decode}"

    @property
    def pixels(self) -> str:
        """What comes out, such as "float32 channels_last"."""
        return f"{_name(self.dtype)} {_name(self.memory_format).removesuffix('_format')}"

    @property
    def plain(self) -> dict[str, str]:
        """The arguments by name, each as a text."""
        names = {"dtype": _name(self.dtype), "memory_format": _name(self.memory_format)}
        return {"backend": self.backend, "decode": self.decode} | names

    @property
    def arguments(self) -> str:
        """As they are written in a call."""
        decode = f', decode="{self.decode}"' if torch.cuda.is_available() else ""
        return f'backend="{self.backend}"{decode}, dtype={self.dtype}, memory_format={self.memory_format}'


def _name(of_torch: torch.dtype | torch.memory_format) -> str:
    return str(of_torch).removeprefix("torch.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a way."""

    way: Way
    images_per_s: float = 0.0
    decoder: str = ""  #: what decodes, as `stats()` says it
    first_s: float = 0.0  #: from the making of the loader to its first batch
    read: float = 0.0  #: share of the making of batches, 0 to 1
    decode: float = 0.0  #: decode and augment
    copy: float = 0.0  #: to the device
    failure: str | None = None  #: why it does not work here


def ways() -> list[Way]:
    """What there is to try: backends that are installed, and on a machine with a GPU both decoders."""
    found = device.resolve(None)
    places = (GPU, CPU) if found.type == "cuda" else (CPU,)
    return [
        Way(backend, decode, dtype, memory_format)
        for backend in BACKENDS
        if _installed(backend, found)
        for decode in places
        for dtype, memory_format in _FORMS
    ]


def _installed(backend: str, found: torch.device) -> bool:
    try:
        find(backend, found)
    except BackendError:
        return False
    return True


def measure(
    out: str | os.PathLike[str],
    split: str,
    way: Way,
    *,
    batch_size: int = 256,
    size: int = 224,
    seconds: float = 5.0,
) -> Outcome:
    """Read a split in one way, with the training's crop and flip.

    Args:
        out: the converted set.
        split: which split of it.
        way: what to try.
        batch_size: samples of a batch; all of a smaller split.
        size: pixels a side.
        seconds: how long, after the first batches.

    Returns:
        What was seen; with a reason if this way does not work here.

    Raises:
        WdsremuxError: if the split is missing or damaged, or an argument is wrong.
    """
    options: dict[str, Any] = {
        "split": split,
        "size": size,
        "backend": way.backend,
        "decode": way.decode,
        "dtype": way.dtype,
        "memory_format": way.memory_format,
        "rank": 0,
        "world_size": 1,
        "tail": "even",  # a set may be smaller than a batch
    }
    begun = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with DataLoader(out, batch_size, **options) as loader:
                return _timed(loader, way, begun, seconds)
    except BackendError as error:
        return Outcome(way=way, failure=str(error))


@dataclass(frozen=True, slots=True)
class LoaderSpeed:
    """How quickly a loader with its own choice of backend reads a split."""

    images_per_s: tuple[float, ...]  #: in equal slices of the time
    decoder: str  #: what decodes, as `stats()` says it


def speed(out: str | os.PathLike[str], split: str, batch_size: int, size: int, seconds: float) -> LoaderSpeed:
    """Read a split as `DataLoader` does unless it is told otherwise.

    Raises:
        WdsremuxError: if the split is missing or damaged.
    """
    with DataLoader(out, batch_size, size=size, split=split, rank=0, world_size=1, tail="even") as loader:
        stream = _endless(loader)
        for _ in range(1 + _SETTLED):
            next(stream)
        rates = tuple(_rate(loader, stream, seconds / _SLICES) for _ in range(_SLICES))
        return LoaderSpeed(rates, loader.stats().decoder or "")


def _timed(loader: DataLoader, way: Way, begun: float, seconds: float) -> Outcome:
    stream = _endless(loader)
    next(stream)
    _finish(loader)
    first_s = time.perf_counter() - begun
    if reason := loader.stats().fallback:  # not measured under the name of what it stands in for
        return Outcome(way=way, failure=reason)
    for _ in range(_SETTLED):
        next(stream)
    images_per_s = _rate(loader, stream, seconds)
    stats = loader.stats()
    spent = stats.total
    work_s = max(spent.read_s + spent.decode_s + spent.copy_s, 1e-9)
    return Outcome(
        way=way,
        images_per_s=images_per_s,
        decoder=stats.decoder or "",
        first_s=first_s,
        read=spent.read_s / work_s,
        decode=spent.decode_s / work_s,
        copy=spent.copy_s / work_s,
    )


def _rate(loader: DataLoader, stream: Iterator[int], seconds: float) -> float:
    """Images a second, for about so long."""
    _finish(loader)
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += next(stream)
    _finish(loader)
    return images / (time.perf_counter() - start)


def _endless(loader: DataLoader) -> Iterator[int]:
    """The sizes of batches, epoch after epoch."""
    while True:
        for images, _ in loader:
            yield len(images)


def _finish(loader: DataLoader) -> None:
    """Wait for what is still under way on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def surroundings() -> str:
    """What the outcomes depend on beside the set: library, device, cores."""
    cores = f"{world.threads()} decoding thread{'s' if world.threads() > 1 else ''} on the CPU"
    return f"torch {torch.__version__}, device {device.resolve(None)}, {cores}"


def advice(outcomes: Sequence[Outcome]) -> list[str]:
    """What to choose, and what limits it."""
    working = [outcome for outcome in outcomes if outcome.failure is None]
    if not working:
        return ["No backend works on this machine. The reasons are listed above."]
    best = max(working, key=lambda outcome: outcome.images_per_s)
    said = []
    floats = [outcome for outcome in working if outcome.way.dtype != torch.uint8]
    if floats and (quickest := max(floats, key=lambda outcome: outcome.images_per_s)) is not best:
        said.append(f"Fastest with normalized floats: {_words(quickest)}.")
        said.append(f"Fastest of all, if your own code normalizes: {_words(best)}.")
    else:
        said.append(f"Fastest: {_words(best)}.")
    said.append(_bound(best))
    return said


def _words(outcome: Outcome) -> str:
    return f"{outcome.way.arguments} ({outcome.images_per_s:,.0f} images/s)"


def _bound(outcome: Outcome) -> str:
    shares = {"read": outcome.read, "decode": outcome.decode, "copy": outcome.copy}
    slower = "A model slower than that will not wait for data."
    match max(shares, key=lambda stage: shares[stage]):
        case "read":
            return f"Bottleneck: reading. A faster disk, or enough memory for the whole set, would help. {slower}"
        case "copy":
            return f"Bottleneck: copying to the device. dtype=torch.uint8 copies a quarter of the bytes. {slower}"
        case _:
            cores = f"{world.threads()} core{'s' if world.threads() > 1 else ''}"
            where = "the GPU" if outcome.way.decode == GPU else cores
            return f"Bottleneck: JPEG decoding, {outcome.images_per_s:,.0f} images/s on {where}. {slower}"
