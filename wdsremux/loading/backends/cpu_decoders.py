"""Threads over libjpeg-turbo and torch's antialiased resize: the quickest way on a CPU that we measured.

Each image goes through the cache once: decode (of the rows that the crop lies in, where they can be told), copy of the
crop, resize, flip, then straight into the batch's memory.
For a CPU it is transposed and normalised on the way; for a GPU it stays uint8, a quarter of the bytes to copy there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux import codec
from wdsremux.errors import BackendError, ImageError, one_line
from wdsremux.loading.augment import Parameters
from wdsremux.loading.backends.base import Batch, Setup
from wdsremux.loading.backends.restart_rows import Strips, cut, whole
from wdsremux.loading.buffers import BatchMemory
from wdsremux.loading.output import Output
from wdsremux.loading.transforms import Transforms

_CHUNK = 32  #: images of one piece of work, at most: a future costs some 50 us, an image 250
_CHUNKS = 2  #: pieces of a batch for each thread, at least


class Store(Protocol):
    """Puts an image where it belongs."""

    def places(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """A view of each of some images [N, 3, H, W], as a call takes it: made for all of them at once."""

    def __call__(self, pixels: codec.Pixels, place: torch.Tensor, parameters: Parameters, i: int) -> None:
        """Pixels of image i of a batch, into its place."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A batch that threads work on."""

    batch: Batch
    places: torch.Tensor
    futures: list[Future[list[int]]]  #: of those that are not waited for yet: each gives the places of bad images

    def wait(self) -> list[int]:
        """Places of images that could not be decoded."""
        places: list[int] = []
        while self.futures:
            future = self.futures.pop(0)
            try:
                places += future.result()
            finally:
                del future  # its error holds this frame: as a cycle, they would keep files open until a collection
        return places

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()


class Decoders:
    """Threads that decode, crop, resize and flip."""

    def __init__(self, setup: Setup, store: Store) -> None:
        self._count, self._size, self._cutting = setup.num_threads, setup.output.size, setup.restart_rows
        self._store = store
        self._threads = _decoding_threads(self._count)

    def begin(self, batch: Batch, places: torch.Tensor) -> Pending:
        """Start on a batch; image i goes to places[i]."""
        strips = cut(batch.encoded, batch.parameters.boxes) if self._cutting else whole(batch.encoded)
        chunks = _chunks(len(batch.encoded), self._count)
        futures = [self._threads.submit(self._chunk, batch, strips, chunk, places) for chunk in chunks]
        return Pending(batch, places, futures)

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _chunk(self, batch: Batch, strips: Strips, chunk: range, places: torch.Tensor) -> list[int]:
        bad = []
        piece = slice(chunk.start, chunk.stop)
        boxes, flips = batch.parameters.boxes[piece].tolist(), batch.parameters.flips[piece].tolist()
        tops, heights = strips.tops[piece].tolist(), strips.heights[piece].tolist()
        widths = batch.encoded.width[piece].tolist()
        views = self._store.places(places[piece])
        each = zip(chunk, views, boxes, flips, tops, heights, widths, strict=True)
        for i, view, (x, y, *size), flip, top, height, width in each:
            try:
                pixels = codec.decode(strips.jpeg(i))
            except ImageError:
                bad.append(i)
                continue
            if pixels.shape[:2] != (height, width):  # boxes were drawn for what the table says
                bad.append(i)
                continue
            self._store(placed(pixels, (x, y - top, *size), flip, self._size), view, batch.parameters, i)
        return bad


def placed(pixels: codec.Pixels, box: Sequence[int], flip: bool, size: int) -> NDArray[np.uint8]:
    """Cut, resize and flip one picture: x, y, width and height of `box` -> uint8 [size, size, 3]."""
    x, y, width, height = box
    crop = np.ascontiguousarray(pixels[y : y + height, x : x + width])
    resized = codec.resize(crop, size, size)
    return torch.from_numpy(resized).flip(1).numpy() if flip else resized


class Plain:
    """As they are; images are [N, H, W, 3]."""

    def places(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        return images.unbind()

    def __call__(self, pixels: codec.Pixels, place: torch.Tensor, parameters: Parameters, i: int) -> None:
        place.copy_(torch.from_numpy(pixels))


class Normalised:
    """Transposed, converted, normalised, as a CPU's batch is to look.

    An image of 224 px takes some 90 us channels_last and 115 as NCHW, of which writing to fresh cache lines is 56.
    Tried and slower: NCHW by way of uint8 planes (138 to 194) or in place (161), numpy (110, 133), 16 images at once
    (120, 131), halves from planes (a sixth fewer images/s of the whole loader).
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        # (u8 / 255 - mean) / std as one multiplication and one addition. For rows of pixels these are whole rows, too:
        # broadcasting over a last dimension of 3 takes twice the time, 187 us an image where rows take 95.
        scale = _values([1 / (255 * s) for s in output.std])
        shift = _values([-m / s for m, s in zip(output.mean, output.std, strict=True)])
        self._row_scale, self._row_shift = scale.repeat(output.size), shift.repeat(output.size)
        self._plane_scale, self._plane_shift = scale[:, None, None], shift[:, None, None]
        self._local = threading.local()

    def places(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """Rows of pixels [H, W * 3] where that is how they lie, else [3, H, W]."""
        if not self._output.channels_last:
            return images.unbind()
        count, _, height, width = images.shape
        return images.permute(0, 2, 3, 1).view(count, height, 3 * width).unbind()

    def __call__(self, pixels: codec.Pixels, place: torch.Tensor, parameters: Parameters, i: int) -> None:
        rows, planes = pixels.reshape(len(pixels), -1), pixels.transpose(2, 0, 1)
        as_it_lies = rows if self._output.channels_last else planes
        if place.dtype == torch.uint8:
            place.copy_(torch.from_numpy(as_it_lies))
        elif place.dtype == torch.float32 and not self._output.channels_last:
            torch.addcmul(self._plane_shift, torch.from_numpy(planes), self._plane_scale, out=place)
        else:
            self._by_rows(torch.from_numpy(rows), place)

    def _by_rows(self, rows: torch.Tensor, place: torch.Tensor) -> None:
        if place.dtype == torch.float32:  # in place: what else it would write to drives the next image out of the cache
            place.copy_(rows)
            torch.addcmul(self._row_shift, place, self._row_scale, out=place)
            return
        values, picture = self._scratch()
        values.copy_(rows)
        torch.addcmul(self._row_shift, values, self._row_scale, out=values)
        place.copy_(values if self._output.channels_last else picture)

    def _scratch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 [size, 3 * size] of this thread's own, warm in its cache; and the same as [3, size, size]."""
        if not hasattr(self._local, "scratch"):
            size = self._output.size
            rows = torch.empty((size, 3 * size), dtype=torch.float32, device="cpu")
            self._local.scratch = rows, rows.view(size, size, 3).permute(2, 0, 1)
        scratch: tuple[torch.Tensor, torch.Tensor] = self._local.scratch
        return scratch


def _values(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device="cpu")  # whatever torch's defaults are


class Augmented:
    """As `Transforms` makes it."""

    def __init__(self, output: Output) -> None:
        self._transforms = Transforms(output, torch.device("cpu"))

    def places(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """[1, 3, H, W] each."""
        return images[:, None].unbind()

    def __call__(self, pixels: codec.Pixels, place: torch.Tensor, parameters: Parameters, i: int) -> None:
        self._transforms(torch.from_numpy(pixels[None]), parameters.take(slice(i, i + 1)), place)


class ThreadedTransforms:
    """`Transforms` on a CPU, pieces of a batch side by side: its small steps gain nothing from torch's own threads."""

    def __init__(self, count: int, output: Output, keep: int) -> None:
        self._memory, self._count, self._threads = BatchMemory(output, keep), count, _decoding_threads(count)
        self._transforms = Transforms(output, torch.device("cpu"))

    def __call__(self, pixels: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """See `Transforms`."""
        images = self._memory.take(len(pixels))
        pieces = [slice(chunk.start, chunk.stop) for chunk in _chunks(len(pixels), self._count)]
        work = [
            self._threads.submit(self._transforms, pixels[piece], parameters.take(piece), images[piece])
            for piece in pieces
        ]
        for future in work:
            future.result()
        return images

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


def _chunks(images: int, threads: int) -> list[range]:
    """A batch's images in pieces of work: enough of them that no thread idles while others end a batch."""
    size = max(1, min(_CHUNK, images // (_CHUNKS * threads)))
    return [range(first, min(first + size, images)) for first in range(0, images, size)]


def _decoding_threads(count: int) -> ThreadPoolExecutor:
    """Threads beneath which torch starts no threads of its own.

    OpenMP counts threads for each calling thread, but `torch.set_num_threads` also sets what threads begin with that
    have not worked yet. So all are started here, each takes that number over as if it had work to do, and then it is
    put back. With two of OpenMP's beneath each, two decoding threads on two cores are a twentieth slower.
    """
    before = torch.get_num_threads()
    started = threading.Barrier(count + 1)

    def begin() -> None:
        with _aborting(started):
            torch.set_num_threads(1)
            torch.get_num_threads()  # its first call in a thread takes over what is set, and the first work does so too
            started.wait()

    threads = ThreadPoolExecutor(count, "wdsremux-decode", initializer=begin)
    try:
        with _aborting(started):
            for _ in range(count):
                threads.submit(int)
            started.wait()
    except (RuntimeError, OSError, MemoryError) as error:  # no more threads, of which a barrier's end is a sign, too
        threads.shutdown(wait=False)
        what = f"the threads that decode cannot be started (num_threads={count}): {one_line(error)}"
        raise BackendError(
            f"{what}. Raise the limit of processes with `ulimit -u`, or choose a smaller num_threads"
        ) from error
    finally:
        torch.set_num_threads(before)
    return threads


@contextlib.contextmanager
def _aborting(barrier: threading.Barrier) -> Iterator[None]:
    """Whoever fails before a barrier lets none of the others wait there for ever."""
    try:
        yield
    except BaseException:
        barrier.abort()
        raise
