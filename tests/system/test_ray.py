"""Whole conversions over Ray: the same files as with processes, whatever dies on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from tests.reading import check_split, digests

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
SIZES = ("--samples-per-shard", "10", "--samples-per-task", "50", "--workers", "2", "--batch-size", "10")
PATIENCE_S = 90.0
RECIPE = """
import time

def bake(batch):
    time.sleep(0.05)  # so that a test can come between
    return {"image": [image.resize((64, 64)) for image in batch["image"]]}
"""


@dataclass(frozen=True)
class Conversion:
    """A command line, run from a folder of its own."""

    source: Path
    out: Path
    recipe: Path

    def command(self, engine: str) -> Sequence[str]:
        recipe = ("--recipe", f"{self.recipe}:bake")
        convert = (sys.executable, "-m", "wdsremux", "convert", str(self.source), str(self.out))
        return [*convert, "--engine", engine, *SIZES, *recipe]

    @contextlib.contextmanager
    def running(self, engine: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """As a session of its own, of which nothing is left in the end."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        process = subprocess.Popen(
            self.command(engine),
            cwd=self.recipe.parent,
            env=environment | {"PYTHONPATH": str(ROOT)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            for left in session(process.pid):
                left.kill()
            process.communicate()

    def finish(self, engine: str, **variables: str) -> str:
        """What it says on stderr."""
        with self.running(engine, **variables) as process:
            return finished(process)

    def shards(self) -> int:
        return len(list(self.out.glob("train/*.tar")))

    def files(self) -> set[str]:
        return {str(path.relative_to(self.out)) for path in self.out.rglob("*")}


def finished(process: subprocess.Popen[str], returncode: int = 0) -> str:
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == returncode, said
    assert all(line.startswith("wdsremux: ") for line in said.splitlines()), said
    return said


def session(number: int) -> list[psutil.Process]:
    """The processes of a session that still live."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def bakers(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those of Ray's workers that are at a task."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(title.startswith("ray::bake") for title in process.cmdline()[:1]):
                found.append(process)
    return found


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, "it ended before"
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.005)


@pytest.fixture
def conversion(sample: Path, tmp_path: Path) -> Conversion:
    return made(sample, tmp_path)


def made(sample: Path, folder: Path) -> Conversion:
    (folder / "recipe.py").write_text(RECIPE)
    return Conversion(sample, folder / "out", folder / "recipe.py")


@pytest.fixture(scope="module")
def undisturbed(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """Done with processes."""
    conversion = made(sample, tmp_path_factory.mktemp("undisturbed"))
    conversion.finish("local")
    check_split(conversion.out / "train", 300)
    return conversion


def check_same(one: Conversion, other: Conversion) -> None:
    assert digests(one.out) == digests(other.out)
    assert one.files() == other.files()


def test_over_a_cluster_of_its_own(conversion: Conversion, undisturbed: Conversion) -> None:
    with conversion.running("ray") as process:
        finished(process)
        assert process.stdout is not None
        wait_until(lambda: not session(process.pid))
    check_same(conversion, undisturbed)


def test_a_worker_is_killed(conversion: Conversion, undisturbed: Conversion) -> None:
    with conversion.running("ray") as process:
        wait_until(lambda: conversion.shards() >= 5 and bakers(session(process.pid)), process)
        bakers(session(process.pid))[0].kill()
        said = finished(process)
        wait_until(lambda: not session(process.pid))
    assert said.count("with WorkerCrashedError; attempt 2 of 3 follows") == 1
    check_same(conversion, undisturbed)


def test_begun_with_one_engine_and_ended_with_another(conversion: Conversion, undisturbed: Conversion) -> None:
    """Each time the process that maps is killed, and its workers end by themselves."""
    for number, engine in enumerate(("local", "ray"), 1):
        with conversion.running(engine) as process:
            wait_until(lambda least=10 * number: conversion.shards() >= least, process)  # type: ignore[misc]
            process.kill()
            process.wait()
            began_s = time.monotonic()
            wait_until(lambda: not bakers(session(process.pid)))
            assert time.monotonic() - began_s < 5
        assert not (conversion.out / "train" / "index.json").exists(), "too late: it was finished"
    assert "done by an earlier run" in conversion.finish("local")
    check_same(conversion, undisturbed)


def test_ctrl_c(conversion: Conversion, undisturbed: Conversion) -> None:
    with conversion.running("ray") as process:
        wait_until(lambda: conversion.shards() >= 5, process)
        os.killpg(process.pid, signal.SIGINT)
        began_s = time.monotonic()
        said = finished(process, 130)
        assert time.monotonic() - began_s < 10
        wait_until(lambda: not session(process.pid))
    assert said.splitlines()[-1] == "wdsremux: stopped; run the same command again to go on"
    conversion.finish("ray")
    check_same(conversion, undisturbed)
