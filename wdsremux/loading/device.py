"""Where batches are to lie: on a CUDA device, made on a stream of our own; on a CPU all of this does nothing.

    feed's thread:   with destination.working(): upload, decode, transform …; finish() waits for them
    thread ahead:    with side.working(): decode; hand_over(tensors)
    caller's thread: receive(images, labels)

The feed waits for its own stream before it gives a batch away. So a batch is whole when it is handed out, whatever
stream the caller works on; and a fault of the device comes up with the batch that it belongs to.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.errors import BackendError, OptionError

_DRIVER = Path("/proc/driver/nvidia/version")
_PRIORITY = -1  # above the default: our short kernels do not stand in line behind the training's


def foreseen(device: str | torch.device | None) -> torch.device:
    """What `resolve` will most likely say, found out without beginning CUDA: a process that has can no longer fork.

    So it asks NVML, and not whether a driver that answers there works.

    Raises:
        OptionError: if it is no device.
        BackendError: if it is not there.
    """
    return _chosen(device, torch.cuda.device_count())


def resolve(device: str | torch.device | None) -> torch.device:
    """The device that a loader's argument means: as given; else this process's CUDA device, if there is any, else CPU.

    Found late: Lightning, Accelerate and torchrun scripts choose their device after the loader is made. A CUDA device
    without a number is the current one, or, where nobody has chosen yet, the one of LOCAL_RANK.

    Raises:
        OptionError: if it is no device.
        BackendError: if it is not there.
    """
    return _chosen(device, torch.cuda.device_count() if torch.cuda.is_available() else 0)


def _chosen(device: str | torch.device | None, count: int) -> torch.device:
    """Of so many CUDA devices."""
    if device is None:
        device = "cuda" if count else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise OptionError(f"Invalid device (got {device!r}). Supported: 'cpu', 'cuda', 'cuda:N'") from error
    if found.type not in ("cpu", "cuda"):
        raise OptionError(f"Invalid device (got {device!r}). Supported: 'cpu', 'cuda', 'cuda:N'")
    if found.type == "cpu":
        return found
    if not count:
        raise BackendError(
            f'device {str(found)!r} does not exist: torch {torch.__version__} finds no CUDA device. Choose device="cpu"'
        )
    index = _cuda_index() if found.index is None else found.index
    if index >= count:
        last = f" to 'cuda:{count - 1}'" if count > 1 else ""
        raise BackendError(f"device 'cuda:{index}' does not exist. Supported: 'cuda:0'{last}")
    return torch.device("cuda", index)


def _cuda_index() -> int:
    # Before CUDA is begun nobody has chosen, and to begin it here would forbid a fork between now and the first batch.
    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    current = torch.cuda.current_device() if begun else 0
    local = os.environ.get("LOCAL_RANK", "")
    if current == 0 and local.isdecimal() and int(local) < torch.cuda.device_count():
        return int(local)
    return current


def named(device: torch.device) -> str:
    """A device for people: the card and its driver."""
    if device.type == "cpu":
        return "the CPU"
    driver = ""
    with contextlib.suppress(OSError):  # WSL has no such file
        found = re.search(r"\d+\.\d[\d.]*", _DRIVER.read_text())
        driver = f" with driver {found[0]}" if found else ""
    return f"{torch.cuda.get_device_name(device)}{driver}"


class Destination:
    """One device, and the stream on which batches are made for it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = _take_stream(device) if device.type == "cuda" else None
        self._sides: list[torch.cuda.Stream] = []
        self._copies: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """What this thread starts meanwhile runs on our stream."""
        if self._stream is None:
            yield
            return
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield

    def side(self) -> Side:
        """A second stream, for a thread that works ahead; it is left to the next loader with the first."""
        if self._stream is None:
            return Side(None, None)
        stream = _take_stream(self.device)
        self._sides.append(stream)
        return Side(stream, self._stream)

    def staging(self, shape: tuple[int, ...]) -> torch.Tensor:
        """uint8 of that shape on the CPU, its content undefined, from which `upload` is quick: pinned, and used again.

        torch keeps pinned memory and gives it out anew once copies out of it are done.
        """
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self._stream is not None)

    def send(self, values: NDArray[np.int64]) -> torch.Tensor:
        """A few numbers, on the device when this returns."""
        return torch.from_numpy(values).to(self.device)

    def upload(self, staged: torch.Tensor) -> torch.Tensor:
        """Copy to the device; goes on behind."""
        if self._stream is None:
            return staged.to(self.device)
        begin, end = _event(), _event()
        begin.record(self._stream)
        copied = staged.to(self.device, non_blocking=True)
        end.record(self._stream)
        self._copies.append((begin, end))
        return copied

    def fetch(self, tensor: torch.Tensor) -> Callable[[], NDArray[Any]]:
        """Begin to copy to the host what our stream makes; the call that is given, in any thread, waits for it."""
        if self._stream is None:
            return tensor.clone().numpy
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        copied = _begun(self._stream)

        def arrived() -> NDArray[Any]:
            copied.synchronize()
            return host.numpy()

        return arrived

    def finish(self) -> float:
        """Wait for all that was started on our stream; returns the seconds that copies took."""
        if self._stream is None:
            return 0.0
        _begun(self._stream).synchronize()
        copies, self._copies = self._copies, []
        return float(sum(begin.elapsed_time(end) for begin, end in copies)) / 1e3

    def close(self) -> None:
        """Leave the streams to the next loader. The destination is not used again."""
        if self._stream is not None:
            _streams(self.device).extend([self._stream, *self._sides])

    def receive(self, *tensors: torch.Tensor | None) -> None:
        """In the caller's thread: its stream will use memory of ours, which must not be given out again before that."""
        if self._stream is not None:
            for tensor in tensors:
                if tensor is not None:
                    tensor.record_stream(torch.cuda.current_stream(self.device))


class Side:
    """A stream beside that of a destination, for a library that works ahead of it and does not wait for streams.

    nvJPEG's hardware engine writes when it is called, whatever is still queued on the stream that it is given
    (meta-pytorch/torchcodec#1634). So the memory that it gets must be at rest, not merely free in the stream's order.
    What torch's allocator gives out while this stream is current was used before by work of this stream, which
    `working` waits for, and by readers on the destination's stream, for which `hand_over` has the allocator hold it
    back until they are done. So nobody has to wait for the destination's stream.
    """

    def __init__(self, stream: torch.cuda.Stream | None, readers: torch.cuda.Stream | None) -> None:
        self._stream, self._readers = stream, readers

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """What this thread starts meanwhile runs on this stream, on which nothing is under way when this begins."""
        if self._stream is None:
            yield
            return
        _begun(self._stream).synchronize()
        with torch.cuda.device(self._stream.device), torch.cuda.stream(self._stream):
            yield

    def hand_over(self, tensors: Iterable[torch.Tensor]) -> None:
        """Let the destination's stream read these, which were made on this one: it waits for what was begun so far."""
        if self._stream is None or self._readers is None:
            return
        self._readers.wait_event(_begun(self._stream))
        for tensor in tensors:
            tensor.record_stream(self._readers)


#: Streams that no loader works on, to be taken over: torch keeps memory for each stream, and cuBLAS a workspace.
_idle: dict[tuple[int, torch.device], list[torch.cuda.Stream]] = {}


def _take_stream(device: torch.device) -> torch.cuda.Stream:
    with contextlib.suppress(IndexError):
        return _streams(device).pop()
    return torch.cuda.Stream(device, priority=_PRIORITY)  # type: ignore[no-untyped-call]


def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    return _idle.setdefault((os.getpid(), device), [])  # a child has no use for its parent's


def _begun(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """An event behind all that was begun on a stream so far."""
    begun = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # sleeps; a stream's own wait spins
    begun.record(stream)
    return begun


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
