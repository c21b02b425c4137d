"""Memory that each thread uses again and again: warm in its cache, and met without page faults."""

from __future__ import annotations

import math
import threading

import numpy as np

from wdsremux import codec

_FIRST_BYTES = 3 * 384 * 384  #: of a piece of memory, at least: most decoded images fit


class Scratch:
    """Pieces of memory by name, of the calling thread alone."""

    def __init__(self) -> None:
        self._local = threading.local()

    def array(self, name: str, shape: tuple[int, ...]) -> codec.Pixels:
        """uint8 of that shape, with whatever its last use left there; the next call with this name uses it again."""
        nbytes = math.prod(shape)
        memory: codec.Pixels | None = getattr(self._local, name, None)
        if memory is None or len(memory) < nbytes:
            memory = np.empty(max(nbytes, _FIRST_BYTES), np.uint8)
            setattr(self._local, name, memory)
        return memory[:nbytes].reshape(shape)
