"""Memory that was freed but is still held by the allocators goes back to the system."""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa

# glibc alone has them; None on macOS and with musl.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_trim = getattr(_libc, "malloc_trim", None)
_mallopt = getattr(_libc, "mallopt", None)
_M_ARENA_MAX = -8  #: of mallopt(3)

WORTH_BYTES = 16 * 2**20  #: to have read since the last time; at 8 MB each image met 15 page faults more


def give_back() -> None:
    """Let Arrow's pool and the C heap return what they do not use.

    Without it a worker grows for its first three tasks. It costs about 9 ms of CPU a call, the page faults that follow
    included, so it is called between fragments, not between batches.
    """
    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)


def one_heap() -> None:
    """Let the threads that are begun from now on allocate from the heap of those there are.

    Each would have one of its own by glibc's choice: 20 MB that a worker's threads leave lying in turn.
    """
    if _mallopt is not None:
        _mallopt(_M_ARENA_MAX, 1)
