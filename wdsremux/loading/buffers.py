"""Memory for batches that comes back when the caller lets go of it.

A fresh `torch.empty` of a float batch costs more in page faults than decoding it (370 us an image of 224 px; numpy's
memory, for which the kernel is asked for huge pages, 72; memory used before, 37). So batches live in numpy memory, and
when the last tensor that sees an array is gone, the array's memory is handed out again.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.loading.output import Output

# numpy has no bfloat16
_NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.uint16, torch.uint8: np.uint8}


class BufferPool:
    """Hands out arrays; keeps at most `limit` pieces of memory that came back."""

    def __init__(self, limit: int) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=limit)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of that shape, its content undefined.

        Pass this very array to `torch.from_numpy`, never a slice or reshape of it: numpy would let a view refer past it
        to the memory beneath, and the memory would be handed out again under a living tensor.
        """
        nbytes = int(np.prod(shape)) * dtype.itemsize
        memory = self._reused(nbytes)
        if memory is None:
            memory = np.empty(nbytes, np.uint8)
        array: NDArray[Any] = np.ndarray(shape, dtype, memory.data)
        # Runs in whatever thread drops the last view, so it does no more than an append, which is atomic.
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array

    def _reused(self, nbytes: int) -> NDArray[np.uint8] | None:
        while True:
            try:
                memory = self._free.pop()
            except IndexError:
                return None
            if memory.nbytes == nbytes:  # other sizes are those of a last batch: let them go
                return memory


class BatchMemory:
    """Memory for batches of images on the CPU; keeps at most so many pieces of it that came back."""

    def __init__(self, output: Output, keep: int) -> None:
        self._output, self._pool = output, BufferPool(keep)

    def take(self, count: int) -> torch.Tensor:
        """[count, 3, size, size] of the output's dtype and layout, its content undefined."""
        size = self._output.size
        shape = (count, size, size, 3) if self._output.channels_last else (count, 3, size, size)
        array: NDArray[Any] = self._pool.take(shape, np.dtype(_NUMPY[self._output.dtype]))
        images = torch.from_numpy(array).view(self._output.dtype)
        return images.permute(0, 3, 1, 2) if self._output.channels_last else images
