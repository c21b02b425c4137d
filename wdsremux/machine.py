"""What this machine lets a process have: cores. Light to import; both halves ask here."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_QUOTA_V2 = _CGROUP / "cpu.max"  #: "QUOTA PERIOD" in microseconds, or "max PERIOD" (Linux cgroup v2)
_QUOTA_V1 = (_CGROUP / "cpu" / "cpu.cfs_quota_us", _CGROUP / "cpu" / "cpu.cfs_period_us")  #: -1: none


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
