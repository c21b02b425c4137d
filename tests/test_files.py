"""A file under its final name is whole; a lock dies with its holder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wdsremux import files
from wdsremux.errors import OutputError

HOLD = """
import sys, time
from pathlib import Path
from wdsremux import files
with files.locked(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_atomic_writes(tmp_path: Path) -> None:
    with files.atomic(tmp_path / "a") as file:
        file.write(b"new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_old_content_stays_when_the_block_raises(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write() -> None:
        with files.atomic(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_full_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error may come as late as with the fsync."""
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), files.atomic(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_order_of_system_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content to disk, then the name, then the name to disk: any other order may leave an empty file under the name."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        size = target.stat().st_size if target.is_file() else None
        calls.append(f"fsync {target.name} {size}" if size is not None else f"fsync folder {target.name}")
        fsync(descriptor)

    def traced_replace(source: Path, target: Path) -> None:
        calls.append(f"rename {Path(source).name} {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    with files.atomic(tmp_path / "a") as file:
        file.write(b"12345")
    assert calls == ["fsync .a.partial 5", "rename .a.partial a", f"fsync folder {tmp_path.name}"]


def test_sync_and_close_closes_on_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    file = open(tmp_path / "a", "wb")  # noqa: SIM115  # closing it is what is tested
    with pytest.raises(OSError, match="No space left"):
        files.sync_and_close(file)
    assert file.closed


def test_lock_refuses_a_second_process_and_dies_with_the_first(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=r"^OUT is busy$"), files.locked(lock, "OUT is busy"):
            pass
        holder.kill()
        holder.wait()
        with files.locked(lock, "OUT is busy"):
            assert lock.exists()


def test_lock_is_free_after_the_block(tmp_path: Path) -> None:
    held = 0
    for _ in range(2):
        with files.locked(tmp_path / "lock", "busy"):
            held += 1
            with pytest.raises(OutputError), files.locked(tmp_path / "lock", "busy"):
                held += 100
    assert held == 2


def test_sha256(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
