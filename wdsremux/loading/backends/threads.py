"""Threads over libjpeg-turbo and torch's antialiased resize: the quickest way on a CPU that we measured.

Each image goes through the cache once: decode, copy of the crop, resize, flip, then straight into the batch's memory.
For a CPU it is transposed and normalised on the way; for a GPU it stays uint8, a quarter of the bytes to copy there.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux import codec
from wdsremux.errors import ImageError
from wdsremux.loading.augment import Parameters
from wdsremux.loading.backends import Batch
from wdsremux.loading.buffers import BatchMemory
from wdsremux.loading.output import Output
from wdsremux.loading.transforms import Transforms

_CHUNK = 16  #: images of one piece of work: a future costs some 50 us, an image 400


class Store(Protocol):
    """Puts an image where it belongs."""

    def __call__(self, pixels: torch.Tensor, place: torch.Tensor, parameters: Parameters, i: int) -> None:
        """uint8 [H, W, 3] pixels of image i of a batch, into its place."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A batch that threads work on."""

    batch: Batch
    places: torch.Tensor
    futures: list[Future[list[int]]]  #: each gives the places of images that could not be decoded

    def wait(self) -> list[int]:
        """Places of images that could not be decoded."""
        return [i for future in self.futures for i in future.result()]

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()


class Decoders:
    """Threads that decode, crop, resize and flip."""

    def __init__(self, count: int, size: int, store: Store) -> None:
        self._size, self._store = size, store
        self._threads = _decoding_threads(count)

    def begin(self, batch: Batch, places: torch.Tensor) -> Pending:
        """Start on a batch; image i goes to places[i]."""
        count = len(batch.encoded)
        chunks = (range(first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK))
        return Pending(batch, places, [self._threads.submit(self._chunk, batch, chunk, places) for chunk in chunks])

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _chunk(self, batch: Batch, chunk: range, places: torch.Tensor) -> list[int]:
        bad = []
        piece = slice(chunk.start, chunk.stop)
        boxes, flips = batch.parameters.boxes[piece].tolist(), batch.parameters.flips[piece].tolist()
        heights, widths = batch.encoded.height[piece].tolist(), batch.encoded.width[piece].tolist()
        for i, box, flip, *size in zip(chunk, boxes, flips, heights, widths, strict=True):
            try:
                pixels = codec.decode(batch.encoded.image(i).data)
            except ImageError:
                bad.append(i)
                continue
            if pixels.shape[:2] != tuple(size):  # boxes were drawn for what the table says
                bad.append(i)
                continue
            resized = torch.from_numpy(self._resized(pixels, *box))
            self._store(resized.flip(1) if flip else resized, places[i], batch.parameters, i)
        return bad

    def _resized(self, pixels: codec.Pixels, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        crop = np.ascontiguousarray(pixels[y : y + height, x : x + width])
        return codec.resize(crop, self._size, self._size)


def plain(pixels: torch.Tensor, place: torch.Tensor, parameters: Parameters, i: int) -> None:
    """As they are: uint8 [H, W, 3]."""
    place.copy_(pixels)


class Normalised:
    """Transposed, converted, normalised, as a CPU's batch is to look; places are [3, H, W].

    An image of 224 px takes 74 us channels_last and 113 as NCHW, of which writing to fresh cache lines is 56. Tried
    and slower: NCHW by way of uint8 planes (138 to 194), numpy (110, 133), a conversion in place (85, 161).
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        # (u8 / 255 - mean) / std as one multiplication and one addition.
        self._scale = self._by_channel([1 / (255 * s) for s in output.std])
        self._shift = self._by_channel([-m / s for m, s in zip(output.mean, output.std, strict=True)])
        self._local = threading.local()

    def __call__(self, pixels: torch.Tensor, place: torch.Tensor, parameters: Parameters, i: int) -> None:
        size = self._output.size
        if self._output.channels_last:
            pixels, place = pixels.reshape(size, 3 * size), place.permute(1, 2, 0).view(size, 3 * size)
        else:
            pixels = pixels.permute(2, 0, 1)
        if place.dtype == torch.uint8:
            place.copy_(pixels)
            return
        if self._output.channels_last:
            pixels = self._scratch().copy_(pixels)
        if place.dtype == torch.float32:
            torch.addcmul(self._shift, pixels, self._scale, out=place)
        else:
            place.copy_(torch.addcmul(self._shift, pixels, self._scale))

    def _by_channel(self, values: list[float]) -> torch.Tensor:
        """One value a channel, shaped to meet an image where it is stored; rows of pixels meet whole rows of values.

        Broadcasting over a last dimension of 3 instead takes twice the time: 187 us an image where rows take 95.
        """
        by_channel = torch.tensor(values, dtype=torch.float32, device="cpu")  # whatever torch's default is
        return by_channel.repeat(self._output.size) if self._output.channels_last else by_channel[:, None, None]

    def _scratch(self) -> torch.Tensor:
        """float32 [size, 3 * size] of this thread's own, warm in its cache."""
        if not hasattr(self._local, "scratch"):
            shape = (self._output.size, 3 * self._output.size)
            self._local.scratch = torch.empty(shape, dtype=torch.float32, device="cpu")
        scratch: torch.Tensor = self._local.scratch
        return scratch


class Augmented:
    """As `Transforms` makes it; places are [3, H, W]."""

    def __init__(self, output: Output) -> None:
        self._transforms = Transforms(output, torch.device("cpu"))

    def __call__(self, pixels: torch.Tensor, place: torch.Tensor, parameters: Parameters, i: int) -> None:
        self._transforms(pixels[None], parameters.take(slice(i, i + 1)), place[None])


class ThreadedTransforms:
    """`Transforms` on a CPU, pieces of a batch side by side: its small steps gain nothing from torch's own threads."""

    def __init__(self, count: int, output: Output, keep: int) -> None:
        self._memory, self._threads = BatchMemory(output, keep), _decoding_threads(count)
        self._transforms = Transforms(output, torch.device("cpu"))

    def __call__(self, pixels: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """See `Transforms`."""
        images = self._memory.take(len(pixels))
        pieces = [slice(first, first + _CHUNK) for first in range(0, len(pixels), _CHUNK)]
        work = [
            self._threads.submit(self._transforms, pixels[piece], parameters.take(piece), images[piece])
            for piece in pieces
        ]
        for future in work:
            future.result()
        return images

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


def _decoding_threads(count: int) -> ThreadPoolExecutor:
    """Threads beneath which torch starts no threads of its own.

    OpenMP counts threads for each calling thread, but `torch.set_num_threads` also sets what threads begin with that
    have not worked yet. So all are started here, each takes that number over as if it had work to do, and then it is
    put back. Two decoding threads with two of OpenMP's beneath each are a third slower on two cores.
    """
    before = torch.get_num_threads()
    started = threading.Barrier(count + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # its first call in a thread takes over what is set, and the first work does so too
        started.wait()

    threads = ThreadPoolExecutor(count, "wdsremux-decode", initializer=begin)
    for _ in range(count):
        threads.submit(int)
    started.wait()
    torch.set_num_threads(before)
    return threads
