"""Parts 3 to 5: tests of tests/gpu, marked `gpu`; on a CPU some of their rehearsals, marked `system`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench_machine import ROOT, environment
from gpu_report_part import FAILED, Finding, LeftOut, Settings, left_out, needed, tried

MODULES = ("pytest", "pytest_timeout", "hypothesis", "datasets", "skimage")  #: what the tests cannot do without
_NAMED = 6  #: failed tests whose reasons are kept


@dataclass(frozen=True, slots=True)
class Case:
    """What became of one test."""

    name: str
    state: str  #: "passed", "failed" or "skipped"
    reason: str = ""
    properties: dict[str, float] = field(default_factory=dict)  #: that it recorded


def streams(settings: Settings) -> Iterator[Finding]:
    """Part 3."""
    if not settings.real:
        raise LeftOut("no card, and a CPU has no streams; `make test-system` rehearses these tests")
    yield from tests(settings, "test_streams", "", session_s=75)


def parity(settings: Settings) -> Iterator[Finding]:
    """Part 4: 4:2:0 and 4:4:4 against Pillow; every kind of JPEG, of mixed chroma, in one batch."""
    yield from tests(settings, "test_parity", "every_kind and dali-gpu", session_s=45)


def faults(settings: Settings) -> Iterator[Finding]:
    """Part 5: a truncated scan, damaged files, a decoder that fails."""
    yield from tests(settings, "test_faults", "truncated and torchvision-gpu", session_s=45)


def tests(settings: Settings, module: str, rehearsed: str, session_s: int) -> Iterator[Finding]:
    """A module of tests/gpu; on a CPU, those of its tests whose names have `rehearsed` in them."""
    if not settings.real:
        yield left_out("on a card", f"no card; on the CPU, the tests of this name: {rehearsed}")
    chosen = ["-m", "gpu"] if settings.real else ["-m", "system", "-k", rehearsed]
    finding = tried("tests", partial(run, f"tests/gpu/{module}.py", chosen, settings.patience * session_s))
    yield replace(finding, state=FAILED) if finding.figures.get("failed") else finding


def run(path: str, chosen: list[str], session_s: int) -> tuple[str, dict[str, Any]]:
    """Run pytest and read its report."""
    needed(*MODULES)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", path, *chosen, "-o", "addopts=", "-p", "no:cacheprovider", "-q"]
        command += ["--strict-markers", f"--timeout={session_s}", f"--session-timeout={session_s}"]
        command += [f"--junitxml={report}", "-o", "junit_family=xunit1"]  # which has room for recorded figures
        clean = {name: value for name, value in environment().items() if not name.startswith("PYTEST_")}
        done = subprocess.run(command, cwd=ROOT, env=clean, check=False, capture_output=True, text=True)
        if not report.exists():
            raise RuntimeError(f"pytest wrote no report: {(done.stdout + done.stderr).strip()[-500:]}")
        cases = read_report(report.read_text())
    return summed(cases, done.stdout)


def read_report(text: str) -> list[Case]:
    """The tests in a report of pytest's --junitxml."""
    return [_case(element) for element in ElementTree.fromstring(text).iter("testcase")]


def _case(element: ElementTree.Element) -> Case:
    properties = {one.get("name", ""): float(one.get("value", "nan")) for one in element.iter("property")}
    for tag, state in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (found := element.find(tag)) is not None:
            return Case(element.get("name", "?"), state, found.get("message", ""), properties)
    return Case(element.get("name", "?"), "passed", properties=properties)


def summed(cases: list[Case], printed: str) -> tuple[str, dict[str, Any]]:
    """Counts, the figures that tests recorded, and why some failed or were skipped.

    Raises:
        LeftOut: if every test was skipped.
    """
    counts = Counter(case.state for case in cases)
    skipped = sorted({case.reason for case in cases if case.state == "skipped"})
    if not cases:
        raise RuntimeError(f"pytest ran no test: {printed.strip()[-500:]}")
    if counts["skipped"] == len(cases):
        raise LeftOut("; ".join(skipped))
    recorded = {case.name: case.properties for case in cases if case.properties}
    texts = [", ".join(f"{count} {state}" for state, count in sorted(counts.items()))]
    for name in sorted({name for properties in recorded.values() for name in properties}):
        values = [properties[name] for properties in recorded.values() if name in properties]
        texts.append(f"{name} at most {max(values):.2f}")
    failed = {case.name: case.reason for case in cases if case.state == "failed"}
    texts += [f"{name}: {(reason.splitlines() or ['?'])[0]}" for name, reason in list(failed.items())[:_NAMED]]
    figures = {"counts": dict(counts), "recorded": recorded, "failed": failed, "skipped": skipped}
    return "; ".join(texts), figures
