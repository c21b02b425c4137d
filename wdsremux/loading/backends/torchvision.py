"""torch throughout: decodes with threads on the CPU, or with TorchCodec's nvJPEG on the GPU; augments with tensors.

device cpu                 threads decode, crop, resize, flip, augment, normalise, each image by itself
device cuda, decode cpu    threads decode, crop, resize, flip -> uint8 -> GPU -> the rest for the whole batch
device cuda, decode gpu    nvJPEG, a batch ahead -> crop, resize, flip, and the rest, for the whole batch
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from wdsremux.errors import BackendError, first_line, install_command
from wdsremux.loading.backends.base import GPU, Batch, Setup, repaired
from wdsremux.loading.backends.canary import Canary
from wdsremux.loading.backends.cpu_decoders import Decoders, Pending
from wdsremux.loading.backends.placement import Augmented, Normalised, Plain
from wdsremux.loading.backends.resample import Joined, joined, resample
from wdsremux.loading.buffers import BatchMemory
from wdsremux.loading.reader.encoded import place
from wdsremux.loading.transforms import Transforms

_T = TypeVar("_T")
_AHEAD = 2  #: batches worked on at once, so that no thread idles at a batch's end


class TorchvisionBackend:
    """See `Backend`."""

    rows = False

    def __init__(self, setup: Setup) -> None:
        self._way: _Cpu | _CpuToGpu | _Gpu
        if setup.decode == GPU:
            self._way = _Gpu(setup)
        else:
            self._way = _Cpu(setup) if setup.destination.device.type == "cpu" else _CpuToGpu(setup)

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Backend.run`."""
        return self._way.run(batches)

    def close(self) -> None:
        """See `Backend.close`."""
        self._way.close()


class _Threaded:
    """What both ways over the CPU have in common: threads work on a batch while the one before is finished."""

    def __init__(self, setup: Setup, decoders: Decoders) -> None:
        self._setup, self._decoders = setup, decoders

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        under_way: deque[Pending] = deque()
        try:
            for batch in batches:
                under_way.append(self._decoders.begin(batch, self._places(len(batch.encoded))))
                if len(under_way) == _AHEAD:
                    yield self._end(under_way.popleft())
            while under_way:
                yield self._end(under_way.popleft())
        finally:
            for pending in under_way:
                pending.cancel()

    def close(self) -> None:
        self._decoders.close()

    def _end(self, pending: Pending) -> tuple[Batch, torch.Tensor]:
        batch = pending.batch
        if bad := pending.wait():
            done = repaired(batch, self._setup.skip)
            if done is None or self._decoders.begin(done, pending.places).wait():
                raise BackendError(
                    f"{place(batch.encoded, bad[0])} does not have the size that is recorded in the sample table. "
                    "To find the damaged file, run `wdsremux verify OUT --decode`"
                )
            batch = done
        return batch, self._images(batch, pending.places)

    def _places(self, count: int) -> torch.Tensor:
        """Memory for a batch, image by image."""
        raise NotImplementedError

    def _images(self, batch: Batch, places: torch.Tensor) -> torch.Tensor:
        """What is handed out of what the threads left there."""
        raise NotImplementedError


class _Cpu(_Threaded):
    """Decoded and augmented by threads, into memory that comes back when the caller lets go of it."""

    def __init__(self, setup: Setup) -> None:
        self._memory = BatchMemory(setup.output, keep=2 * _AHEAD + 2)
        placement = Augmented(setup.output) if setup.after_crop else Normalised(setup.output)
        super().__init__(setup, Decoders(setup, placement))

    def _places(self, count: int) -> torch.Tensor:
        return self._memory.take(count)

    def _images(self, batch: Batch, places: torch.Tensor) -> torch.Tensor:
        return places


class _CpuToGpu(_Threaded):
    """Decoded, cropped and resized by threads; the rest on the device, batch by batch."""

    def __init__(self, setup: Setup) -> None:
        self._destination, self._size = setup.destination, setup.output.size
        self._transforms = Transforms(setup.output, setup.destination.device)
        super().__init__(setup, Decoders(setup, Plain()))

    def _places(self, count: int) -> torch.Tensor:
        return self._destination.staging((count, self._size, self._size, 3))

    def _images(self, batch: Batch, places: torch.Tensor) -> torch.Tensor:
        return self._transforms(self._destination.upload(places), batch.parameters)


class _Gpu:
    """Decoded by nvJPEG, a batch in one call."""

    def __init__(self, setup: Setup) -> None:
        try:
            from torchcodec import __version__
            from torchcodec.decoders import decode_jpeg
        except (ImportError, OSError, RuntimeError) as error:  # whatever a shared library lacks
            raise BackendError(
                "the torchvision backend needs TorchCodec to decode on the GPU, but it cannot be loaded "
                f"({first_line(error)}). Install it with {install_command('torchcodec')}"
            ) from error
        self._decode = decode_jpeg
        self._setup, self._output = setup, setup.output
        self._side = setup.destination.side()
        self._transforms = Transforms(setup.output, setup.destination.device)
        self._canary = Canary(f"TorchCodec {__version__}", setup.destination, skip=setup.skip)

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        with (
            contextlib.closing(_one_ahead(batches, "wdsremux-read")) as read,
            contextlib.closing(_one_ahead(map(self._decoded, read), "wdsremux-nvjpeg")) as decoded,
        ):
            for batch, parts in decoded:
                parameters = batch.parameters
                pixels = resample(parts, parameters.boxes, parameters.flips, self._output.size)
                parts.clear()
                self._canary.look(batch, pixels)
                yield batch, self._transforms(pixels, parameters)

    def close(self) -> None:
        """TorchCodec keeps its decoders for whoever comes next, and the stream is the destination's."""
        self._canary.close()

    def _decoded(self, batch: Batch) -> tuple[Batch, list[Joined]]:
        try:
            return batch, self._call(batch)
        except RuntimeError as error:
            done = repaired(batch, self._setup.skip)
            if done is None:
                raise BackendError(f"TorchCodec failed: {first_line(error)}") from error
            return done, self._call(done)

    def _call(self, batch: Batch) -> list[Joined]:
        with self._side.working():
            files = [torch.from_numpy(batch.encoded.image(i)) for i in range(len(batch.encoded))]
            images = list(self._decode(files, mode="RGB", device=self._setup.destination.device))
            sizes = zip(batch.encoded.height.tolist(), batch.encoded.width.tolist(), strict=True)
            for image, (height, width) in zip(images, sizes, strict=True):
                if image.shape[1:] != (height, width):
                    shape = f"{image.shape[2]}x{image.shape[1]}"
                    raise RuntimeError(f"an image of {width}x{height} pixels was decoded to {shape} pixels")
            # Joined on this stream, so that a few pieces of memory are handed over instead of each image: the allocator
            # records an event for every one.
            parts = joined(images, batch.parameters.boxes)
            self._side.hand_over(part.values for part in parts)
        return parts


def _one_ahead(items: Iterator[_T], name: str) -> Generator[_T, None, None]:
    """The same items; the next one is made in a thread of its own while the caller works on one."""
    with ThreadPoolExecutor(1, name) as thread:
        pending = [thread.submit(next, items, None)]
        while (item := pending.pop().result()) is not None:  # popped: a frame that holds its own error is a cycle
            pending.append(thread.submit(next, items, None))
            yield item
