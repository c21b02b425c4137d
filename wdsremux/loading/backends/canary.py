"""Of what a GPU decodes, one image in some thousands is decoded on the CPU too, and compared, off the hot path.

Decoders have given black pictures, or those of another file, and no error (nvImageCodec on new cards;
meta-pytorch/torchcodec#1634).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux import codec
from wdsremux.errors import BackendError, ImageError
from wdsremux.loading.backends.base import Batch
from wdsremux.loading.backends.cpu_decoders import placed
from wdsremux.loading.device import Destination, named
from wdsremux.loading.reader import skip_log
from wdsremux.loading.reader.encoded import fault, place

PERIOD = 8191  #: samples to one that is looked at: a prime, so that it falls into step with no shard or batch
#: Of 255. Sound decoders stay below 1 on photographs and below 4 on pure colours by the pixel, where the one takes the
#: nearest chroma value and the other interpolates; pictures of another file are some 60 apart.
FAR = 8.0
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Canary:
    """Compares for one backend."""

    def __init__(self, decoder: str, destination: Destination, *, skip: bool) -> None:
        """`decoder` names library and version, for errors; `skip`: what the CPU cannot decode is left to pass."""
        self._decoder, self._destination, self._skip = decoder, destination, skip
        self._pending: deque[Future[None]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def look(self, batch: Batch, pixels: torch.Tensor) -> None:
        """Take what is due of a batch: uint8 [N, S, S, 3] on the device, cropped, resized and flipped.

        Raises:
            BackendError: if an image that was looked at before is not what the CPU makes of it.
            ImageError: if the CPU cannot decode it at all.
            FormatError: where that is because its bytes are not those that were written.
        """
        if batch.watch is not None:
            batch.watch(pixels)
            return  # the trial compares it itself
        for i in np.flatnonzero(batch.encoded.ids % PERIOD == 0).tolist():
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "wdsremux-canary")
            arrived = self._destination.fetch(pixels[i])
            self._pending.append(self._thread.submit(self._compare, batch, i, arrived))
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def finish(self) -> None:
        """Wait for what was taken; raises as `look` does."""
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        """End the thread; what was taken and not waited for is let go."""
        self._pending.clear()
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def _compare(self, batch: Batch, i: int, arrived: Callable[[], NDArray[np.uint8]]) -> None:
        try:
            pixels = arrived()
            off = difference(pixels, by_the_cpu(batch, i, len(pixels)))
        except ImageError as reason:
            if not self._skip:
                raise fault(batch.encoded, i, reason) from reason
            skip_log.LOG.warn(fault(batch.encoded, i, reason))
            return
        if off > FAR:
            raise BackendError(
                f"{place(batch.encoded, i)} was decoded wrongly by {self._decoder} on "
                f"{named(self._destination.device)}: it differs from the CPU's result by {off:.0f} of 255. "
                'Choose decode="cpu", and report this with the output of `make gpu-report`'
            )


def by_the_cpu(batch: Batch, i: int, size: int) -> NDArray[np.uint8]:
    """Image i of a batch as the CPU makes it: uint8 [size, size, 3].

    Raises:
        ImageError: if it cannot be decoded.
    """
    pixels = codec.decode(batch.encoded.image(i).data)
    return placed(pixels, batch.parameters.boxes[i].tolist(), bool(batch.parameters.flips[i]), size)


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Of 255: that of greys on average, or of a whole channel's mean, whichever is more.

    Decoders differ in how they fill in colour, pixel by pixel; not in grey, nor in colour over a picture.
    """
    off = one.astype(np.float32) - other
    return float(max(np.abs(off @ _GREY).mean(), np.abs(off.mean((0, 1))).max()))
