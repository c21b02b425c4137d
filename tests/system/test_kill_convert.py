"""Kill a conversion at any moment, run it again: the same files as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

import wdsremux
from tests.reading import check_split, digests

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
SIZES = ("--samples-per-shard", "10", "--samples-per-task", "50", "--workers", "2")
PATIENCE_S = 60.0  #: for what takes a second; past it the test fails


def command(source: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "wdsremux", "convert", str(source), str(out), *SIZES]


@contextmanager
def running(source: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """The conversion as a process group of its own."""
    process = subprocess.Popen(
        command(source, out), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run_again(source: Path, out: Path) -> str:
    done = subprocess.run(command(source, out), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stderr


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


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Children of the server from which they are forked."""
    return [worker for child in psutil.Process(process.pid).children() for worker in child.children()]


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, "it ended before"
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.002)


def shards(out: Path) -> int:
    return len(list(out.glob("train/*.tar")))


def files_of(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*")}


@pytest.fixture(scope="module")
def undisturbed(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run_again(sample, out)
    return out


def test_the_undisturbed_run_is_whole(undisturbed: Path) -> None:
    check_split(undisturbed / "train", 300)
    assert shards(undisturbed) == 30


@pytest.mark.parametrize("moment", ["planned", "a third", "two thirds"])
def test_killed_and_run_again(sample: Path, undisturbed: Path, tmp_path: Path, moment: str) -> None:
    out = tmp_path / "out"
    reached: dict[str, Callable[[], bool]] = {
        "planned": (out / "train/.wdsremux/plan.json").exists,
        "a third": lambda: shards(out) >= 10,
        "two thirds": lambda: shards(out) >= 20,
    }
    with running(sample, out) as process:
        wait_until(reached[moment], process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not group(process.pid))
    assert not (out / "train/index.json").exists(), "too late: it was finished"
    records = list(out.glob("train/.wdsremux/task-*.json"))
    assert ("done by an earlier run" in run_again(sample, out)) == bool(records)
    assert digests(out) == digests(undisturbed)
    assert files_of(out) == files_of(undisturbed)
    assert wdsremux.manifest(out) == wdsremux.manifest(undisturbed)


def test_a_worker_is_killed(sample: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(sample, out) as process:
        wait_until(lambda: any(out.glob("train/.wdsremux/*.tar")), process)
        workers(process)[0].kill()
        _, said = process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: not group(process.pid))
    assert process.returncode == 1
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if "worker" in line] == said.splitlines()[-1:]
    assert "with signal SIGKILL. Run the same command again to go on" in said
    run_again(sample, out)
    assert digests(out) == digests(undisturbed)
    assert files_of(out) == files_of(undisturbed)


def test_the_parent_alone_is_killed(sample: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Its workers end by themselves: they must not write beside the run that follows."""
    out = tmp_path / "out"
    with running(sample, out) as process:
        wait_until(lambda: any(out.glob("train/.wdsremux/*.tar")), process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not group(process.pid))
    run_again(sample, out)
    assert digests(out) == digests(undisturbed)
    assert files_of(out) == files_of(undisturbed)


def test_ctrl_c(sample: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(sample, out) as process:
        wait_until(lambda: any(out.glob("train/.wdsremux/*.tar")), process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: not group(process.pid))
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "wdsremux: stopped; run the same command again to go on"
    run_again(sample, out)
    assert digests(out) == digests(undisturbed)
