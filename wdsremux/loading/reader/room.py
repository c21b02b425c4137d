"""How much memory there is to spare: the machine's, and the container's where it has a bound of its own."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")  #: version 2, as containers see their own


def available_bytes() -> int | None:
    """Memory that can be had without pushing anything out that is in use; None where the system does not say."""
    bounds = [size for size in (_machine(), _container()) if size is not None]
    return max(0, min(bounds)) if bounds else None


def _machine() -> int | None:
    return _field(_MEMINFO, "MemAvailable:", 1024)


def _container() -> int | None:
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
