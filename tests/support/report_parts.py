"""Parts for gpu_report.py that fail in every way there is; each is a `Measure`."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from gpu_report_part import Finding, LeftOut, Settings, needed, tried


def measured(settings: Settings) -> Iterator[Finding]:
    yield Finding(name="speed", text="1 image/s")
    yield Finding(name="speed", text=f"2 images/s on {settings.device}", figures={"images_per_s": 2.0})


def fails(_: Settings) -> Iterator[Finding]:
    """In one of its measurements; the next is still there."""
    yield tried("bad", _bad)
    yield Finding(name="good", text="fine")


def _bad() -> tuple[str, dict[str, Any]]:
    raise ValueError("no such luck\nsecond line")


def raises(_: Settings) -> Iterator[Finding]:
    yield Finding(name="before", text="kept")
    raise RuntimeError("not foreseen")


def crashes(_: Settings) -> Iterator[Finding]:
    yield Finding(name="before", text="kept")
    os.kill(os.getpid(), signal.SIGSEGV)


def sleeps(settings: Settings) -> Iterator[Finding]:
    """With a child that sleeps too; its process id is written to the set's folder."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (settings.folder / "child").write_text(str(child.pid))
    yield Finding(name="before", text="kept")
    time.sleep(600)


def lacks_a_library(_: Settings) -> Iterator[Finding]:
    yield tried("inside", lambda: ("", vars(importlib.import_module("none_such"))))
    needed("json", "no_such_library")
    yield Finding(name="never", text="")


def lacks_the_set(settings: Settings) -> Iterator[Finding]:
    yield tried("speed", lambda: (str(settings.folder), {}))


def finds_nothing(_: Settings) -> Iterator[Finding]:
    if not LeftOut.__doc__:
        yield Finding(name="never", text="")
