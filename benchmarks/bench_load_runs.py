"""Runs of bench_load.py: each starts one contender as a process tree of its own, and reads what it found."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from bench_contenders import CONTENDERS
from bench_load_child import Timing
from bench_load_report import Run
from bench_loaders import Data
from bench_machine import PEERS_PYTHON, ROOT
from bench_tree import RunError, Usage, descendants, run_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a run reads, and where it may write."""

    data: Data
    work: Path  #: for results and logs
    images: int  #: timed, at least


def python_of(name: str) -> str:
    """The interpreter that a contender runs in: peers in their own, if it is installed."""
    peers = CONTENDERS[name].peer and PEERS_PYTHON.exists()
    return str(PEERS_PYTHON) if peers else sys.executable


def run(name: str, place: Place, *, first_only: bool = False, store: bool = False) -> Run | str:
    """One contender in a fresh process, or a line that says what went wrong."""
    result = place.work / "result.json"
    result.unlink(missing_ok=True)
    usage = _tree(_command(name, place, result, first_only, store), place.work / f"{name}.log")
    if isinstance(usage, str):
        return usage
    timing = Timing(**json.loads(result.read_text()))
    return Run(timing=timing, others=usage.others_cpu_s / usage.wall_s)


def peak_bytes(name: str, place: Place) -> int | str:
    """The most memory (PSS) that all processes of a contender took together, or what went wrong."""
    command = _command(name, place, place.work / "result.json", first_only=True, store=False)
    usage = _tree(command, place.work / f"{name}.log", sample_memory=True)
    return usage if isinstance(usage, str) else usage.peak_pss_bytes or 0


def evict(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    os.sync()  # a page that is not written yet cannot be dropped
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def read_all(folder: Path) -> int:
    """Bring a folder's files into the page cache, so that no contender pays for the disk; their bytes."""
    return sum(len(path.read_bytes()) for path in folder.rglob("*") if path.is_file())


def _command(name: str, place: Place, result: Path, first_only: bool, store: bool) -> list[str]:
    data = place.data
    python = python_of(name)
    command = [python, str(ROOT / "benchmarks/bench_load_child.py"), name, str(result), str(place.images)]
    command += ["--out", str(data.out), "--sets", str(data.sets), "--source", str(data.source)]
    command += ["--first-only"] if first_only else []
    if store:
        # The server is a process of the same tree: whoever waits for a tree may have no other children.
        script = str(ROOT / "benchmarks/bench_store.py")
        serving = [sys.executable, script, f"out={data.out}", f"sets={data.sets}", "--"]
        command = [*serving, *command, "--store", "{store}"]
    return command


def _tree(command: list[str], log: Path, sample_memory: bool = False) -> Usage | str:
    """What a command and all that it starts took; or the error that its log ends with."""
    try:
        return run_tree(command, log, sample_memory)
    except RunError as failure:
        _end_descendants()
        return last_error(log.read_text(errors="replace")) or str(failure)


def _end_descendants() -> None:
    """What a failed run left must not count in the next."""
    for process in descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    wait_for_orphans()


def wait_for_orphans() -> None:
    """Until what earlier commands left behind has ended: this process is its parent, and would count it in a run."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait4(-1, 0)


def last_error(text: str) -> str:
    """The last line that names an error, else the last line; cut short."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b|Timeout", line)]
    return (named or lines or [""])[-1][:200]
