"""Kill a conversion at any moment, run it again: the same files as if nothing had been."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import wdsremux
from tests.support.containers import check_table
from tests.support.killing import PATIENCE_S, ROOT, group, killed, running, wait_until, workers
from tests.support.reading import check_split, digests
from tests.support.small import some_wait

pytestmark = pytest.mark.system
SIZES = ("--samples-per-shard", "10", "--samples-per-task", "50", "--workers", "2")


def command(source: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "wdsremux", "convert", str(source), str(out), *SIZES, *options]


def converting(source: Path, out: Path, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(command(source, out, *options))


def run_again(source: Path, out: Path, *options: str) -> str:
    asked = command(source, out, *options)
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stderr


def shards(out: Path, suffix: str = ".tar") -> int:
    return len(list(out.glob(f"train/*{suffix}")))


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
    with converting(sample, out) as process:
        wait_until(reached[moment], process)
        killed(process)
    assert not (out / "train/index.json").exists(), "too late: it was finished"
    records = list(out.glob("train/.wdsremux/task-*.json"))
    assert ("converted by an earlier run" in run_again(sample, out)) == bool(records)
    assert digests(out) == digests(undisturbed)
    assert files_of(out) == files_of(undisturbed)
    assert wdsremux.manifest(out) == wdsremux.manifest(undisturbed)


def test_killed_five_times_on_its_way(sample: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Each run goes on from where the one before was killed."""
    out = tmp_path / "out"
    for moment in (1, 6, 11, 16, 21):
        with converting(sample, out) as process:
            wait_until(lambda moment=moment: shards(out) >= moment, process)  # type: ignore[misc]
            killed(process)
    assert "converted by an earlier run" in run_again(sample, out)
    assert digests(out) == digests(undisturbed)
    assert files_of(out) == files_of(undisturbed)


def test_parquet_killed_five_times_on_its_way(sample: Path, tmp_path: Path) -> None:
    """The same promise; and the last run reads the shards of all the others."""
    options, out = ("--container", "parquet"), tmp_path / "out"
    run_again(sample, tmp_path / "undisturbed", *options)
    with converting(sample, out, *options) as process:
        wait_until(lambda: some_wait(out), process)  # so that some are half-written
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: not group(process.pid))
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    for moment in (1, 6, 11, 16, 21):
        with converting(sample, out, *options) as process:
            wait_until(lambda moment=moment: shards(out, ".parquet") >= moment, process)  # type: ignore[misc]
            killed(process)
    assert "converted by an earlier run" in run_again(sample, out, *options)
    assert digests(out) == digests(tmp_path / "undisturbed")
    assert files_of(out) == files_of(tmp_path / "undisturbed")
    assert shards(out, ".parquet") == 30
    assert check_table(out / "train") == 300
    assert wdsremux.verify(out, decode=True) == []


def test_a_worker_is_killed(sample: Path, undisturbed: Path, tmp_path: Path) -> None:
    """By the system, for its memory: it is said, its task is done again, and the run goes on."""
    out = tmp_path / "out"
    with converting(sample, out) as process:
        wait_until(lambda: some_wait(out), process)
        workers(process)[0].kill()
        _, said = process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: not group(process.pid))
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert sum("SIGKILL" in line for line in said.splitlines()) == 1
    assert digests(out) == digests(undisturbed)
    assert files_of(out) == files_of(undisturbed)


def test_the_parent_alone_is_killed(sample: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Its workers end by themselves: they must not write beside the run that follows."""
    out = tmp_path / "out"
    with converting(sample, out) as process:
        wait_until(lambda: some_wait(out), process)
        killed(process, whole=False)
    run_again(sample, out)
    assert digests(out) == digests(undisturbed)
    assert files_of(out) == files_of(undisturbed)


@pytest.mark.parametrize(("asked", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop(sample: Path, undisturbed: Path, tmp_path: Path, asked: signal.Signals, code: int) -> None:
    """Ctrl-C reaches the whole group, SIGTERM the process alone; either ends it within seconds, to be gone on with."""
    out = tmp_path / "out"
    with converting(sample, out) as process:
        wait_until(lambda: some_wait(out), process)
        (os.killpg if asked == signal.SIGINT else os.kill)(process.pid, asked)
        began_s = time.monotonic()
        _, said = process.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - began_s < 10
        wait_until(lambda: not group(process.pid))
    assert process.returncode == code
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert re.fullmatch(r"wdsremux: Stopped.* Run the same command again to (resume|start over)\.", last)
    run_again(sample, out)
    assert digests(out) == digests(undisturbed)
    assert files_of(out) == files_of(undisturbed)


def test_a_second_run_is_refused_and_another_split_is_not(sample: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with converting(sample, out) as process:
        wait_until(lambda: any((out / "train/.wdsremux").glob("task-*")), process)  # OUT's own lock is free again
        os.kill(process.pid, signal.SIGSTOP)  # it holds its lock however long the others take
        second = subprocess.run(command(sample, out), cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
        assert second.returncode == 1
        assert "another process is converting into" in second.stderr.splitlines()[-1]
        other = [*command(sample, out), "--split", "test"]
        assert subprocess.run(other, cwd=ROOT, capture_output=True, timeout=PATIENCE_S).returncode == 0
        os.kill(process.pid, signal.SIGCONT)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
    train = {name: digest for name, digest in digests(out).items() if name.startswith("train/")}
    assert train == digests(undisturbed)
