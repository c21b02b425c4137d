"""Several workers share a task: the same files as one alone makes, whoever is killed at whatever."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import wdsremux
from tests.conftest import WriteSource
from tests.support.killing import PATIENCE_S, ROOT, group, killed, running, wait_until, workers
from tests.support.reading import check_split, digests
from tests.support.shared_tasks import CASES, ROWS
from wdsremux.conversion.events import Event, Warned

pytestmark = pytest.mark.system
PAUSE = """
import time

def bake(batch):
    time.sleep(0.03)  # so that a test can come between
    return {"image": [image.resize((64, 64)) for image in batch["image"]]}
"""
SIZES = ("--samples-per-shard", "25", "--samples-per-task", "200", "--batch-size", "8", "--max-rejects", "10")
PORTION, BLOCK = "task-*-shared/portion-*-*/contents", "task-*-shared/block-*-*"
STOPS = ("task-*-shared/portion-0002", BLOCK, "task-*-shared/block-0001.json")


@pytest.mark.parametrize("name", CASES)
def test_any_number_of_workers(name: str, write_source: WriteSource, tmp_path: Path) -> None:
    source, options = CASES[name].write(write_source, tmp_path / "case")
    for count in (1, 2, 3, 4):
        wdsremux.convert(source, tmp_path / str(count), workers=count, **options)
        assert digests(tmp_path / str(count)) == digests(tmp_path / "1")
        assert not list((tmp_path / str(count)).glob("train/.wdsremux/task-*-*"))
    assert wdsremux.verify(tmp_path / "4") == []


@pytest.mark.parametrize("name", ["small fragments", "blocks in parquet", "a recipe and blocks"])
def test_mended_by_two_workers(name: str, write_source: WriteSource, tmp_path: Path) -> None:
    source, options = CASES[name].write(write_source, tmp_path / "case")
    out = tmp_path / "out"
    wdsremux.convert(source, out, workers=1, **options)
    whole = digests(out)
    for lost in (
        sorted(out.glob("train/train-*"))[:1],
        [*sorted(out.glob("train/train-*"))[-3:], out / "train/samples.npy"],
    ):
        for path in lost:
            path.unlink()
        events: list[Event] = []
        wdsremux.convert(source, out, workers=2, tell=events.append, **options)
        assert any("will be rebuilt" in event.text for event in events if isinstance(event, Warned))
        assert digests(out) == whole
        assert not list(out.glob("train/.wdsremux/task-*-*"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "shared_recipe.py"
    path.write_text(PAUSE)
    return path


@pytest.fixture
def source(write_source: WriteSource, tmp_path: Path) -> Path:
    """One row group, three blocks, some rejects."""
    return CASES["blocks"].write(write_source, tmp_path)[0]


def command(source: Path, out: Path, recipe: Path, count: int = 2) -> Sequence[str]:
    convert = [sys.executable, "-m", "wdsremux", "convert", str(source), str(out)]
    return [*convert, *SIZES, "--workers", str(count), "--recipe", f"{recipe}:bake"]


def converting(source: Path, out: Path, recipe: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(command(source, out, recipe))


def run_again(source: Path, out: Path, recipe: Path, count: int = 2) -> str:
    asked = command(source, out, recipe, count)
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stderr


def check_same(source: Path, out: Path, recipe: Path, alone: Path) -> None:
    """Its files are those of one worker, and nothing else is there."""
    run_again(source, alone, recipe, 1)
    check_split(alone / "train", ROWS)
    assert digests(out) == digests(alone)
    found = [{str(path.relative_to(folder)) for path in folder.rglob("*")} for folder in (out, alone)]
    assert found[0] == found[1]


def seen(out: Path, pattern: str) -> bool:
    return any(out.glob(f"train/.wdsremux/{pattern}"))


@pytest.mark.parametrize("pattern", [PORTION, BLOCK], ids=["portion", "gathering"])
def test_a_worker_is_killed(source: Path, recipe: Path, tmp_path: Path, pattern: str) -> None:
    """Only what it was at is done again."""
    out = tmp_path / "out"
    with converting(source, out, recipe) as process:
        wait_until(lambda: seen(out, pattern), process)
        for worker in workers(process):  # the one that gathers among them
            worker.kill()
        _, said = process.communicate(timeout=PATIENCE_S)
        wait_until(lambda: not group(process.pid))
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert 1 <= sum("SIGKILL" in line for line in said.splitlines()) <= 2
    assert "attempt 3" not in said
    check_same(source, out, recipe, tmp_path / "alone")


@pytest.mark.parametrize("count", [1, 3])
def test_killed_and_resumed_by_others(source: Path, recipe: Path, tmp_path: Path, count: int) -> None:
    """At each of its stations; and what was half-done is gone, whoever comes next."""
    out = tmp_path / "out"
    for pattern in STOPS:
        with converting(source, out, recipe) as process:
            wait_until(lambda pattern=pattern: seen(out, pattern), process)  # type: ignore[misc]
            killed(process)
        assert seen(out, "task-*-shared")
        assert not (out / "train/index.json").exists()
    run_again(source, out, recipe, count)
    check_same(source, out, recipe, tmp_path / "alone")


def test_the_parent_alone_is_killed(source: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with converting(source, out, recipe) as process:
        wait_until(lambda: seen(out, BLOCK), process)
        killed(process, whole=False)
    run_again(source, out, recipe)
    check_same(source, out, recipe, tmp_path / "alone")
