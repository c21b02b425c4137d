"""A run as a session of its own: started, found, killed whole or in part."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 100.0  #: for what takes seconds; past it the test fails


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A command at work, its stderr at hand; nothing of it lives on when the block ends.

    Args:
        command: what to run.
        environment: beside this process's own.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run behind an `&`
    )
    try:
        yield process
    finally:
        if group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def group(session: int) -> list[psutil.Process]:
    """The processes of a session that still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def servers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The server from which a conversion's workers are forked, once it has forked one."""
    return [child for child in _children(process.pid) if _children(child.pid)]


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [worker for server in servers(process) for worker in _children(server.pid)]


def naming(path: Path) -> list[psutil.Process]:
    """The processes, of any session, with a path in their command."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(path) in argument for argument in process.info["cmdline"] or []):
            found.append(process)
    return found


def _children(pid: int) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []
    return found


def wait_until(condition: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    """Look until it holds; it must before the process ends."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, "it ended before"
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.002)


def until_it_ends(condition: Callable[[], object], process: subprocess.Popen[str]) -> bool:
    """Look until it holds, or the process has ended; returns whether it held."""
    wait_until(lambda: process.poll() is not None or condition())
    return process.returncode is None


def killed(process: subprocess.Popen[str], *, whole: bool = True) -> None:
    """SIGKILL for the whole group, or for the process that was started alone; wait until nothing of it lives.

    Fails if that takes longer than patience: what outlives its parent would write beside the run that follows.
    """
    (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
    gone(process)


def check_words(said: str) -> None:
    """See that what a run said is sentences."""
    assert "Traceback" not in said, f"all that it said:\n{said}"


def gone(process: subprocess.Popen[str]) -> None:
    """Wait for the process to end, and for all of its session."""
    process.wait(timeout=PATIENCE_S)
    wait_until(lambda: not group(process.pid))
