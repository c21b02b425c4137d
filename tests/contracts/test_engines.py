"""What every engine must do: bake all tasks, pass on errors as they are, and leave nothing behind."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WriteSource, tiny_jpeg
from wdsremux.conversion.bake import Bakery, Record, bake, journal_names
from wdsremux.conversion.engines import ENGINES, Done, make_engine
from wdsremux.conversion.engines import local as local_engine
from wdsremux.conversion.events import Progress
from wdsremux.conversion.plan import Task, make_plan
from wdsremux.conversion.recipe import Reject, Sample, make_recipe
from wdsremux.conversion.source import Rows, open_source
from wdsremux.errors import ConversionError, OptionError, SourceError, WorkerError

Job = tuple[tuple[Task, ...], Bakery]


class BrokenRecipe:
    """Fails in a way that nobody foresaw."""

    identity: dict[str, Any] = {}  # noqa: RUF012  # a Protocol's property

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        raise ZeroDivisionError("a defect")


class DeadlyRecipe:
    """Ends its process, as the system's out-of-memory killer would."""

    identity: dict[str, Any] = {}  # noqa: RUF012

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemError("unreachable")


@pytest.fixture
def job(write_source: WriteSource, tmp_path: Path) -> Job:
    """Twelve tasks of ten rows."""
    source = open_source(str(write_source([tiny_jpeg(i) for i in range(120)], range(120), rows_a_group=10)), "train")
    folder = tmp_path / "out" / "train"
    (folder / ".wdsremux").mkdir(parents=True)
    plan = make_plan([f.rows for f in source.fragments], 0, 5, 10)
    recipe = make_recipe("copy", 90, "420")
    return plan.tasks, Bakery(source, recipe, folder, folder / ".wdsremux", "train", 0)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def no_processes() -> bool:
    """None of ours that works; those that other libraries keep for later do not count."""
    return not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_all_tasks_are_done(engine: str, job: Job, workers: int, tmp_path: Path) -> None:
    tasks, bakery = job
    messages = list(make_engine(engine, workers).map(tasks, bakery))
    done = [message.task for message in messages if isinstance(message, Done)]
    assert sorted(done) == [task.number for task in tasks]
    progress = [message for message in messages if isinstance(message, Progress)]
    assert sum(p.rows for p in progress) == sum(p.samples for p in progress) == 120
    assert no_processes()
    for task in tasks:  # as this process itself would have done it
        record = journal_names(bakery.work, task.number)[1]
        found = Record.loads(record.read_bytes())
        bake(task, bakery, lambda _: None)
        assert Record.loads(record.read_bytes()) == found


def test_no_tasks(engine: str, job: Job) -> None:
    assert list(make_engine(engine, 2).map([], job[1])) == []


def test_done_comes_after_the_record(engine: str, job: Job) -> None:
    tasks, bakery = job
    seen = 0
    for message in make_engine(engine, 2).map(tasks, bakery):
        if isinstance(message, Done):
            assert journal_names(bakery.work, message.task)[1].exists()
            seen += 1
    assert seen == len(tasks)


def test_an_error_of_a_worker_comes_as_it_is(engine: str, job: Job) -> None:
    tasks, bakery = job
    Path(bakery.source.files[0]).unlink()
    with pytest.raises(SourceError, match=r"row group \d+ of .* cannot be read"):
        list(make_engine(engine, 2).map(tasks, bakery))
    assert no_processes()


def test_output_that_cannot_be_written(engine: str, job: Job) -> None:
    tasks, bakery = job
    gone = dataclasses.replace(bakery, folder=bakery.folder / "gone")
    with pytest.raises(ConversionError, match=r"task \d+: .*Run the same command again to go on"):
        list(make_engine(engine, 2).map(tasks, gone))
    assert no_processes()


def test_a_defect_is_a_sentence_with_its_trace(engine: str, job: Job) -> None:
    tasks, bakery = job
    broken = dataclasses.replace(bakery, recipe=BrokenRecipe())
    with pytest.raises(WorkerError, match=r"task \d+ failed: ZeroDivisionError: a defect") as caught:
        list(make_engine(engine, 2).map(tasks, broken))
    assert "in bake" in "".join(caught.value.__notes__)
    assert no_processes()


def test_closing_early_leaves_no_process(engine: str, job: Job) -> None:
    tasks, bakery = job
    messages = make_engine(engine, 2).map(tasks, bakery)
    assert isinstance(next(messages), Progress | Done)
    assert not no_processes()
    messages.close()
    assert no_processes()


def test_a_worker_that_is_killed(engine: str, job: Job) -> None:
    tasks, bakery = job
    deadly = dataclasses.replace(bakery, recipe=DeadlyRecipe())
    with pytest.raises(
        WorkerError, match=r"a worker died at task \d+ with signal SIGKILL\. Run the same command again"
    ):
        list(make_engine(engine, 2).map(tasks, deadly))
    assert no_processes()
    assert sum(isinstance(message, Done) for message in make_engine(engine, 2).map(tasks, bakery)) == len(tasks)


def test_the_callers_script_is_never_imported(engine: str, job: Job, tmp_path: Path) -> None:
    """A script without a `__main__` guard, as people write them."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        import wdsremux
        with open({str(tmp_path / "runs")!r}, "a") as file:
            file.write("run ")
        source = {str(Path(job[1].source.files[0]).parents[1])!r}
        sizes = dict(samples_per_shard=5, samples_per_task=10)
        wdsremux.convert(source, {str(tmp_path / "new")!r}, recipe="copy", workers=2, engine={engine!r}, **sizes)
        """)
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run(
        [sys.executable, script], check=True, cwd=tmp_path, env=environment, capture_output=True, timeout=120
    )
    assert (tmp_path / "runs").read_text() == "run "
    assert len(list((tmp_path / "new" / "train").glob("*.tar"))) == 24


def test_unknown_engine() -> None:
    with pytest.raises(OptionError, match=r"Invalid engine \(got 'spark'\)\. Supported: local"):
        make_engine("spark", 1)


def test_local_worker_killed_with_a_task_unread(job: Job) -> None:
    """Then the pipe is reset, which is another error than its end."""
    worker = local_engine._start(job[1])
    assert worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGSTOP)
    worker.task = job[0][3]
    worker.pipe.send(worker.task)
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.join()
    try:
        with pytest.raises(WorkerError, match="a worker died at task 3 with signal SIGKILL"):
            local_engine._receive(worker)
    finally:
        worker.pipe.close()
