"""The cores that a process may use: one place tells, for conversions and loaders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wdsremux import machine
from wdsremux.conversion.spec import make_spec
from wdsremux.loading import world


@pytest.mark.parametrize(
    ("v2", "v1", "cores"),
    [
        ("200000 100000", None, 2.0),
        ("150000 100000", None, 1.5),
        ("max 100000", None, 64.0),
        (None, ("400000", "100000"), 4.0),
        (None, ("-1", "100000"), 64.0),
        (None, None, 64.0),
        ("nonsense", None, 64.0),
    ],
)
def test_quotas_of_containers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, v2: str | None, v1: tuple[str, str] | None, cores: float
) -> None:
    """64 cores are seen; a container may have the time of two of them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    names = [tmp_path / name for name in ("cpu.max", "quota", "period")]
    for path, text in zip(names, (v2, *(v1 or (None, None))), strict=True):
        if text is not None:
            path.write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_QUOTA_V2", names[0])
    monkeypatch.setattr(machine, "_QUOTA_V1", tuple(names[1:]))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert machine.cores() == cores
    assert make_spec("a", "b").workers == world.threads() == int(cores)
