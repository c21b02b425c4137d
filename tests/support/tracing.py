"""Loaded into every Python process of a run: notes what that makes, syncs and renames, and can kill it there.

    environment = tracing.environment(out, log, Strike("before", "rename", 7))
    subprocess.run(command, env=os.environ | environment)
    tracing.events(log)

Nothing of ours is replaced: Python itself imports `sitecustomize` at its start, workers, fork server and torchrun's
ranks not left out, and that wraps the calls of `os` before anything else is loaded.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_FOLDER, _LOG, _STRIKE, _TESTER = "TRACE_FOLDER", "TRACE_LOG", "TRACE_STRIKE", "TRACE_TESTER"


@dataclass(frozen=True, slots=True)
class Strike:
    """SIGKILL for all processes of the run, around one call: nobody of them does anything more."""

    when: str  #: "before" or "after"
    call: str  #: "fsync", "rename" or "unlink"
    number: int  #: of those calls, over all processes, from 1


@dataclass(frozen=True, slots=True)
class Event:
    """A call that has returned."""

    process: int
    call: str  #: "mkdir", "fsync" or "rename"
    path: str  #: of what was made or synced, or the new name
    source: str  #: the old name
    inode: int
    size: int
    mtime_ns: int
    folder: bool


def environment(folder: Path, log: Path, strike: Strike | None = None) -> dict[str, str]:
    """What a process must find in its environment.

    Args:
        folder: calls are noted and counted where they touch something in it, or the folder itself.
        log: a folder that is made, for the notes.
        strike: when to kill; by a process that descends from the one that calls this.
    """
    log.mkdir(parents=True)
    (log / "sitecustomize.py").write_text("from tests.support import tracing\n\ntracing.install()\n")
    return {
        "PYTHONPATH": os.pathsep.join([str(log), str(ROOT)]),
        _FOLDER: str(folder),
        _LOG: str(log),
        _STRIKE: f"{strike.when} {strike.call} {strike.number}" if strike else "",
        _TESTER: str(os.getpid()),
    }


def events(log: Path) -> list[Event]:
    """All that was noted, in the order in which the calls returned."""
    path = log / "events.jsonl"
    return [Event(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def struck(log: Path) -> tuple[str, str]:
    """Where the run was killed, if it was: the path of the call, and its old name if that was a rename."""
    path, source = json.loads((log / "struck.json").read_text())
    return path, source


def install() -> None:
    """Wrap the calls, in this process."""
    for name in ("fsync", "mkdir", "rename", "replace", "unlink"):
        setattr(os, name, _wrapped(name, getattr(os, name)))


def _wrapped(name: str, call: Callable[..., None]) -> Callable[..., None]:
    kind = "rename" if name == "replace" else name

    def wrapper(*arguments: Any, **options: Any) -> None:
        target = arguments[-1] if kind == "rename" else arguments[0]
        path = os.readlink(f"/proc/self/fd/{target}") if kind == "fsync" else os.path.abspath(target)
        if not f"{path}/".startswith(f"{os.environ[_FOLDER]}/"):
            return call(*arguments, **options)
        source = os.path.abspath(arguments[0]) if kind == "rename" else ""
        number = _count(kind)
        _perhaps_kill("before", kind, number, path, source)
        call(*arguments, **options)
        if kind != "unlink":  # of which nothing is left to be noted
            _note(kind, path, source)
        return _perhaps_kill("after", kind, number, path, source)

    return wrapper


def _append(name: str, content: bytes) -> int:
    """Append to a file of the log; returns where it then ends. Processes do not write over one another."""
    file = os.open(f"{os.environ[_LOG]}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, content)
        return os.lseek(file, 0, os.SEEK_CUR)
    finally:
        os.close(file)


def _count(kind: str) -> int:
    return _append(f"count.{kind}", b".")


def _note(call: str, path: str, source: str) -> None:
    about = os.stat(path)
    folder = stat.S_ISDIR(about.st_mode)
    event = Event(os.getpid(), call, path, source, about.st_ino, about.st_size, about.st_mtime_ns, folder)
    _append("events.jsonl", json.dumps(asdict(event)).encode() + b"\n")


def _perhaps_kill(when: str, call: str, number: int, path: str, source: str) -> None:
    if os.environ[_STRIKE] != f"{when} {call} {number}":
        return
    import psutil  # type: ignore[import-untyped]

    _append("struck.json", json.dumps([path, source]).encode())
    root = psutil.Process()
    while root.ppid() != int(os.environ[_TESTER]):
        root = root.parent()
    family = [root, *root.children(recursive=True)]
    for process in family:
        if process.pid != os.getpid():
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)
