"""Threads over libjpeg-turbo, OpenCV and torch: the quickest way on a CPU that we measured.

Each image goes through the cache once: decode (of the rows that the crop lies in, where they can be told), crop,
resize, flip, then into the batch's memory: small pictures several at once, as a call costs as much as all its work.
For a CPU it is transposed and normalised on the way; for a GPU it stays uint8, a quarter of the bytes to copy there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from wdsremux import codec
from wdsremux.codec import cropping
from wdsremux.errors import BackendError, one_line
from wdsremux.loading.augment import Parameters
from wdsremux.loading.backends.base import Batch, Setup
from wdsremux.loading.backends.placement import Placement
from wdsremux.loading.backends.restart_rows import Strips, cut, whole
from wdsremux.loading.backends.scratch import Scratch
from wdsremux.loading.buffers import BatchMemory
from wdsremux.loading.output import Output
from wdsremux.loading.transforms import Transforms

_CHUNK = 32  #: images of one piece of work, at most: a future costs some 50 us, an image 250
_PIXELS = 2 * 224 * 224  #: of the pictures that are finished in one call: they are in the thread's cache still
_MOST_SCRATCH_BYTES = 2**26  #: larger images, and those that only the table says are so large, get their own memory
_LARGER = 8  #: pictures of so many times the pixels of a small crop lie in the cache still when all are decoded
_CHUNKS = 2  #: pieces of a batch for each thread, at least


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

    def __init__(self, setup: Setup, placement: Placement) -> None:
        self._count, self._size, self._cutting = setup.num_threads, setup.output.size, setup.restart_rows
        self._placement = placement
        self._together = max(1, _PIXELS // self._size**2)
        self._scratch = Scratch()
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
        bad: list[int] = []
        crops = _crops(batch, strips, slice(chunk.start, chunk.stop))
        direct = self._placement.direct(places[chunk.start : chunk.stop])
        together = self._together if direct is None or self._size <= cropping.SMALL else len(chunk)
        for first in range(0, len(chunk), together):
            piece = slice(chunk.start + first, min(chunk.start + first + together, chunk.stop))
            if direct is None:
                pixels = self._scratch.array("pixels", (piece.stop - piece.start, self._size, self._size, 3))
            else:
                pixels = direct[first : first + together]
            bad += [piece.start + place for place in self._decode(crops, first, pixels)]
            if direct is None:
                self._placement(pixels, places[piece], batch.parameters, piece)
        return bad

    def _decode(self, crops: _Crops, first: int, out: codec.Pixels) -> list[int]:
        """Images from `first` on into uint8 [n, S, S, 3]: decoded, cropped, resized, flipped. The bad ones."""
        piece = slice(first, first + len(out))
        nbytes = crops.nbytes[piece]
        lists = crops.jpegs[piece], crops.sizes[piece], crops.boxes[piece], crops.flips[piece], out
        if self._size <= cropping.SMALL and max(nbytes) <= _LARGER * out[0].size:
            memory = self._scratch.array("decoded", (sum(nbytes),))
            return cropping.crop_small(*lists, memory, self._scratch.array("resized", out.shape))
        return cropping.crop_all(*lists, self._scratch.array("decoded", (min(max(nbytes), _MOST_SCRATCH_BYTES),)))


@dataclass(frozen=True, slots=True)
class _Crops:
    """What is to be done for some images: lists, as arrays take ten times as long to look one value up."""

    jpegs: list[memoryview]
    sizes: list[tuple[int, int]]  #: height and width, in pixels
    nbytes: list[int]  #: of the decoded image
    boxes: list[list[int]]  #: x, y, width, height
    flips: list[bool]


def _crops(batch: Batch, strips: Strips, images: slice) -> _Crops:
    content, starts = strips.buffer.data, strips.starts[images]
    edges = zip(starts.tolist(), (starts + strips.sizes[images]).tolist(), strict=True)
    boxes = batch.parameters.boxes[images].copy()
    boxes[:, 1] -= strips.tops[images]
    heights, widths = strips.heights[images], batch.encoded.width[images]  # boxes were drawn for what the table says
    return _Crops(
        jpegs=[content[start:end] for start, end in edges],
        sizes=list(zip(heights.tolist(), widths.tolist(), strict=True)),
        nbytes=(3 * heights * widths).tolist(),
        boxes=boxes.tolist(),
        flips=batch.parameters.flips[images].tolist(),
    )


def placed(pixels: codec.Pixels, box: Sequence[int], flip: bool, size: int) -> codec.Pixels:
    """Cut, resize and flip one picture: x, y, width and height of `box` -> uint8 [size, size, 3]."""
    out = np.empty((size, size, 3), np.uint8)
    cropping.resize_crop(pixels, box, out)
    if flip:
        cropping.flip(out)
    return out


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
