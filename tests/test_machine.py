"""The cores, memory and open files that a process may use: one place tells, for conversions and loaders."""

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


def test_memory_is_the_lesser_of_machine_and_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:       80 kB\n")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.available_bytes() == 80 * 1024
    (tmp_path / "memory.current").write_text("50000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 20000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_bytes() == 80 * 1024
    (tmp_path / "memory.max").write_text("60000\n")
    assert machine.available_bytes() == 30_000
    (tmp_path / "memory.max").write_text("10000\n")
    assert machine.available_bytes() == 0
    (tmp_path / "meminfo").unlink()
    (tmp_path / "memory.max").unlink()
    assert machine.available_bytes() is None
