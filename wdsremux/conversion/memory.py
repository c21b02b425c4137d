"""Memory that was freed but is still held by the allocators goes back to the system."""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa

# glibc alone has it; None on macOS and with musl.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

WORTH_BYTES = 16 * 2**20  #: to have read since the last time; at 8 MB each image met 15 page faults more


def give_back() -> None:
    """Let Arrow's pool and the C heap return what they do not use.

    Without it a worker grows for its first three tasks. It costs about 9 ms of CPU a call, the page faults that follow
    included, so it is called once in `WORTH_BYTES`, not for every batch.
    """
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
