"""Runs the parts of gpu_report.py, each in a process of its own with a time limit, and gathers what they found.

python benchmarks/gpu_report_run.py MODULE:FUNCTION SETTINGS FILE     # what such a process is: findings go to FILE
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_machine import environment
from gpu_report_part import FAILED, LEFT_OUT, MEASURED, Finding, LeftOut, Settings, left_out, one_line

_TAIL_LINES = 15  #: of what a failed part printed, kept in the JSON


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement of the report."""

    name: str
    title: str  #: for the table
    measure: str  #: "MODULE:FUNCTION", a `Measure`; imported in the part's own process
    limit_s: float  #: on a card


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a part."""

    title: str
    state: str  #: "failed" if anything failed; "left out" if all was left out; else "measured"
    reason: str  #: why the part as a whole failed; empty if it came to its end
    seconds: float
    limit_s: float
    findings: dict[str, Finding]  #: by name
    log: list[str]  #: the last lines that it printed, if it failed

    @property
    def lines(self) -> list[str]:
        """For the table: what was measured, what was left out, what failed."""
        heads = {MEASURED: "", LEFT_OUT: "left out: ", FAILED: "failed: "}
        found = [f"{heads[one.state]}{one.name}: {one.text}" for one in self.findings.values()]
        return found + ([f"failed: {self.reason}"] if self.reason else [])

    def dump(self) -> dict[str, Any]:
        """As it goes into the JSON."""
        return asdict(self) | {"lines": self.lines}


def run(part: Part, settings: Settings) -> Outcome:
    """One part, to its end or to its time limit; nothing that it started lives on."""
    with tempfile.TemporaryDirectory() as folder:
        found, printed = Path(folder) / "findings.jsonl", Path(folder) / "printed"
        command = [sys.executable, __file__, part.measure, settings.dump(), str(found)]
        start, limit_s = time.perf_counter(), part.limit_s * settings.patience
        with open(printed, "wb") as output:
            reason = _limited(command, output, limit_s)
        seconds = time.perf_counter() - start
        findings = {one.name: one for one in _read(found)}
        lines = printed.read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    if reason and reason.startswith("exit code") and lines:
        reason = f"{reason}: {lines[-1]}"
    states = {one.state for one in findings.values()}
    state = FAILED if reason or FAILED in states or not states else MEASURED if MEASURED in states else LEFT_OUT
    if not findings and not reason:
        reason = "it found nothing"
    return Outcome(
        title=part.title,
        state=state,
        reason=reason,
        seconds=seconds,
        limit_s=limit_s,
        findings=findings,
        log=lines if state == FAILED else [],
    )


def _limited(command: list[str], output: Any, limit_s: float) -> str:
    """Run a command as the head of a process group, which is killed at the end; why it failed, or an empty text."""
    process = subprocess.Popen(command, stdout=output, stderr=output, env=environment(), start_new_session=True)
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"not done within its {limit_s:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}" if code else ""


def _read(path: Path) -> Iterator[Finding]:
    """The findings that a part wrote down; the last line may be half a one, of a part that was killed."""
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            yield Finding(**json.loads(line))


def main() -> None:
    """The process of one part."""
    where, settings, path = sys.argv[1:]
    module, _, function = where.partition(":")
    with open(path, "w", buffering=1) as file:  # line by line: each finding is there at once
        try:
            for finding in getattr(importlib.import_module(module), function)(Settings.load(settings)):
                file.write(json.dumps(asdict(finding)) + "\n")
        except LeftOut as reason:
            file.write(json.dumps(asdict(left_out("all of it", one_line(reason)))) + "\n")


if __name__ == "__main__":
    main()
