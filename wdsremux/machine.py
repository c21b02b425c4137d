"""What this machine lets a process have: cores, memory, open files. Light to import; both halves ask here."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")  #: version 2 of what Linux calls so, as containers see their own
_QUOTA_V2 = _CGROUP / "cpu.max"  #: "QUOTA PERIOD" in microseconds, or "max PERIOD"
_QUOTA_V1 = (_CGROUP / "cpu" / "cpu.cfs_quota_us", _CGROUP / "cpu" / "cpu.cfs_period_us")  #: -1: none
_MEMINFO = Path("/proc/meminfo")
# glibc alone has it; None on macOS and with musl.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

GIVE_BACK_BYTES = 16 * 2**20  #: to have read since the last `give_memory_back`; at 8 MB an image met 15 faults more


def cores() -> float:
    """The cores that this process may use: those of its affinity, or fewer by a cgroup's quota, which may be a part."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _quota()
    return allowed if quota is None else min(allowed, quota)


def _quota() -> float | None:
    """The cores' worth of time that a container may use; None where it has no bound."""
    try:
        quota, period = _QUOTA_V2.read_text().split() if _QUOTA_V2.exists() else [p.read_text() for p in _QUOTA_V1]
        return None if quota.strip() in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or another system's
        return None


def available_bytes() -> int | None:
    """Memory that can be had without pushing anything out that is in use; None where the system does not say.

    The machine's, or the container's where that has a bound of its own.
    """
    bounds = [size for size in (_field(_MEMINFO, "MemAvailable:", 1024), _container_bytes()) if size is not None]
    return max(0, min(bounds)) if bounds else None


def _container_bytes() -> int | None:
    try:
        most, used = (_CGROUP / "memory.max").read_text().strip(), int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no such group, or version 1
        return None
    # Files in the page cache count as used, and are given up when memory is wanted.
    return None if most == "max" else int(most) - used + (_field(_CGROUP / "memory.stat", "inactive_file", 1) or 0)


def _field(path: Path, name: str, unit: int) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * unit for line in lines if line.split()[:1] == [name]), None)


def give_memory_back() -> None:
    """Let Arrow's pool and the C heap return to the system what they do not use.

    Without it a worker grows for its first three tasks. It costs about 9 ms of CPU a call, the page faults that follow
    included, so it is called once in `GIVE_BACK_BYTES`, not for every batch.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)


def open_files() -> tuple[int, int | None]:
    """How many files this process has open, and how many it may have; None where there is no bound."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return len(os.listdir("/dev/fd")), None if most == resource.RLIM_INFINITY else most
