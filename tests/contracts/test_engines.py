"""What every engine must do: bake all tasks, do lost ones again, pass errors on as they are, leave nothing behind."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import psutil  # type: ignore[import-untyped]
import pytest

from tests.conftest import WriteSource, tiny_jpeg
from tests.support.reading import digests
from tests.support.sources import open_source
from wdsremux.conversion import environment, gather, portions
from wdsremux.conversion.bake import Bakery, bake
from wdsremux.conversion.engines import ENGINES, Done, make_engine, ray_worker
from wdsremux.conversion.engines import local as local_engine
from wdsremux.conversion.engines.attempts import MOST, Attempts, Stepped
from wdsremux.conversion.events import Progress, Warned
from wdsremux.conversion.plan import Extent, Task, make_plan
from wdsremux.conversion.portions import Portion
from wdsremux.conversion.recipes.base import Reject, Sample, Settings
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.record import Record, journal_names
from wdsremux.conversion.row_stream import RowStream
from wdsremux.conversion.source import Rows
from wdsremux.errors import BackendError, ConversionError, OptionError, RecipeError, SourceError, WorkerError
from wdsremux.format.rejects import RejectLine

ROWS = 120
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Job:
    """Twelve tasks of ten rows, each in five batches."""

    tasks: Sequence[Task]
    bakery: Bakery
    source: Path

    def cooking(self, recipe: Any) -> Bakery:
        return replace(self.bakery, recipe=recipe)


@dataclass(frozen=True)
class Odd:
    """A recipe that does as `copy` does, but for something in the fourth batch of one fragment, or of all."""

    happening: Callable[[], object]
    fragment: int | None = None
    batch_size: int = 2
    identity: dict[str, Any] = field(default_factory=dict)

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        if rows.first == 6 and self.fragment in (None, rows.fragment):
            self.happening()
        return make_recipe("copy", Settings()).bake(rows)


def defect() -> NoReturn:
    raise ZeroDivisionError("a defect")


def noted() -> NoReturn:
    error = RecipeError("recipe f failed on rows 0 to 1")
    error.add_note("line 7 of the user's")
    raise error


def death() -> None:
    """As the system's out-of-memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Once:
    """Dies so many times, over all processes."""

    folder: Path
    times: int = 1

    def __call__(self) -> None:
        for number in range(self.times):
            try:
                (self.folder / f"death {number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            death()


class Unopenable:
    """Comes apart when a worker unpickles it."""

    identity: dict[str, Any] = {}  # noqa: RUF012
    batch_size = 2

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Callable[[], NoReturn], tuple[()]]:
        return noted, ()


@pytest.fixture
def job(write_source: WriteSource, tmp_path: Path) -> Job:
    folder = write_source([tiny_jpeg(i) for i in range(ROWS)], range(ROWS), rows_a_group=10)
    source = open_source(str(folder), "train")
    out = tmp_path / "out" / "train"
    (out / ".wdsremux").mkdir(parents=True)
    plan = make_plan([Extent(f.rows, f.size_bytes) for f in source.fragments], 0, 5, 10)
    recipe = Odd(list)
    return Job(plan.tasks, Bakery(source, recipe, out, out / ".wdsremux", "train", 0, environment.describe()), folder)


@pytest.fixture
def far(job: Job) -> Job:
    """The same, as if a server had the source: workers read the first rows of their next task ahead."""
    source = job.bakery.source
    return replace(job, bakery=replace(job.bakery, source=replace(source, files=replace(source.files, remote=True))))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for all tests of this module, to which this process is connected."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # otherwise Ray asks for a token, in this process for ever after
        ray.init(
            "local",
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=80 * 2**20,
        )
        yield
        ray.shutdown()


#: Ray's cluster takes 20 s to start and end: those tests are run by `make test-system`.
SYSTEM = {"ray"}
PARAMS = [pytest.param(name, marks=pytest.mark.system) if name in SYSTEM else name for name in ENGINES]


@pytest.fixture(params=PARAMS, scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "ray":
        request.getfixturevalue("cluster")
    return name


def working() -> list[str]:
    """What works for us; what idles, or is kept by the libraries for later, does not count."""
    found = [process.name for process in multiprocessing.active_children()]
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
            found += [title for title in process.cmdline()[:1] if title.startswith("ray::bake")]
    return found


def wait_until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.01)


def check_whole(messages: Sequence[Progress | Done | Warned], job: Job) -> None:
    """Each task was done once, and what was told of it adds up."""
    assert Counter(m.task for m in messages if isinstance(m, Done)) == {task.number: 1 for task in job.tasks}
    progress = [message for message in messages if isinstance(message, Progress)]
    for task in job.tasks:
        told = [message for message in progress if message.task == task.number]
        assert sum(p.rows for p in told) == sum(p.samples for p in told) == 10
        [read] = task.reads
        images = range(10 * read.fragment, 10 * read.fragment + 10)
        assert sum(p.bytes_out for p in told) == sum(len(tiny_jpeg(number)) for number in images)
        assert sum(p.nrejects for p in told) == 0
    journal = {path.name for task in job.tasks for path in journal_names(job.bakery.work, task.number)}
    assert {path.name for path in job.bakery.work.iterdir()} == journal
    assert len(list(job.bakery.folder.glob("*.tar"))) == 24
    wait_until(lambda: not working())


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_all_tasks_are_done(engine: str, job: Job, workers: int) -> None:
    check_whole(list(make_engine(engine, workers).map(job.tasks, job.bakery)), job)
    for task in job.tasks:  # as this process itself would have done it
        record = journal_names(job.bakery.work, task.number)[1]
        found = Record.loads(record.read_bytes())
        bake(task, job.bakery, lambda _: None, RowStream())
        assert Record.loads(record.read_bytes()) == found


def test_no_tasks(engine: str, job: Job) -> None:
    assert list(make_engine(engine, 2).map([], job.bakery)) == []


def test_done_comes_after_the_record(engine: str, job: Job) -> None:
    for message in make_engine(engine, 2).map(job.tasks, job.bakery):
        if isinstance(message, Done):
            assert journal_names(job.bakery.work, message.task)[1].exists()


def test_progress_comes_as_it_is_made(engine: str, job: Job) -> None:
    """Not only when a task is done: three batches are told while the fourth waits."""
    waiting = job.bakery.work.parent.parent / "go"
    messages = make_engine(engine, 1).map(job.tasks, job.cooking(Odd(Gate(waiting), 0)))
    rows = 0
    for message in messages:
        rows += message.rows if isinstance(message, Progress) and message.task == task_of(job, 0) else 0
        if rows == 6:
            break
    assert not journal_names(job.bakery.work, task_of(job, 0))[1].exists()
    waiting.touch()
    assert [message for message in messages if isinstance(message, Done)][-1:]


@dataclass(frozen=True)
class Gate:
    """Waits until a file is there."""

    file: Path

    def __call__(self) -> None:
        wait_until(self.file.exists)


def task_of(job: Job, fragment: int) -> int:
    return next(task.number for task in job.tasks if task.reads[0].fragment == fragment)


# What a worker reports


def test_an_error_of_a_worker_comes_as_it_is(engine: str, job: Job) -> None:
    next((job.source / "data").iterdir()).unlink()
    with pytest.raises(SourceError, match=r"row group \d+ of .* could not be read"):
        list(make_engine(engine, 2).map(job.tasks, job.bakery))
    wait_until(lambda: not working())


def test_notes_come_with_it(engine: str, job: Job) -> None:
    with pytest.raises(RecipeError, match="recipe f failed on rows 0 to 1") as caught:
        list(make_engine(engine, 2).map(job.tasks, job.cooking(Odd(noted))))
    assert (type(caught.value), str(caught.value)) == (RecipeError, "recipe f failed on rows 0 to 1")
    assert caught.value.__notes__ == ["line 7 of the user's"]


def test_a_bakery_that_no_worker_can_open(engine: str, job: Job) -> None:
    with pytest.raises(RecipeError, match="recipe f failed on rows 0 to 1") as caught:
        list(make_engine(engine, 2).map(job.tasks, job.cooking(Unopenable())))
    assert caught.value.__notes__ == ["line 7 of the user's"]


def test_output_that_cannot_be_written(engine: str, job: Job) -> None:
    gone = replace(job.bakery, folder=job.bakery.folder / "gone")
    with pytest.raises(ConversionError, match=r"task \d+: .*Run the same command again to resume"):
        list(make_engine(engine, 2).map(job.tasks, gone))
    wait_until(lambda: not working())


@pytest.mark.parametrize(
    ("happening", "said"), [(defect, "ZeroDivisionError: a defect"), (sys.exit, "SystemExit: ")], ids=["raise", "exit"]
)
def test_a_defect_is_a_sentence_with_its_trace(
    engine: str, job: Job, happening: Callable[[], object], said: str
) -> None:
    with pytest.raises(WorkerError, match=rf"task \d+ failed: {said}") as caught:
        list(make_engine(engine, 2).map(job.tasks, job.cooking(Odd(happening))))
    assert "in bake" in "".join(caught.value.__notes__)
    wait_until(lambda: not working())


# What it cannot report


def test_a_worker_killed_is_no_loss(engine: str, job: Job, tmp_path: Path) -> None:
    """A task that loses two workers is whole with the third."""
    bakery = job.cooking(Odd(Once(tmp_path, MOST - 1), 7))
    messages = list(make_engine(engine, 2).map(job.tasks, bakery))
    check_whole(messages, job)
    how = {"local": "signal SIGKILL", "ray": "WorkerCrashedError"}[engine]
    died = f"a worker died with {how} while converting task {task_of(job, 7)}, which is retried (attempt "
    told = [message.text.partition(". It had reached ") for message in messages if isinstance(message, Warned)]
    assert [text for text, _, _ in told] == [f"{died}2 of 3)", f"{died}3 of 3)"]
    assert all(place.startswith("fragment ") for _, _, place in told)
    if engine == "local":  # whose pipe keeps what was told by one that is dead
        undone = [message for message in messages if isinstance(message, Progress) and message.rows < 0]
        assert [(message.rows, message.samples) for message in undone] == [(-6, -6)] * 2


@pytest.mark.parametrize("after_s", [0.0, 0.01])
def test_a_worker_that_dies_as_its_task_ends(engine: str, job: Job, tmp_path: Path, after_s: float) -> None:
    """Done or not, as far as is known: it is told once."""
    record = journal_names(job.bakery.work, task_of(job, 7))[1]
    bakery = job.cooking(Odd(Late(record, after_s, Once(tmp_path)), 7))
    check_whole(list(make_engine(engine, 2).map(job.tasks, bakery)), job)


@dataclass(frozen=True)
class Late:
    """Something that happens beside the task, so long after its record is written."""

    record: Path
    after_s: float
    happening: Callable[[], object]

    def __call__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        wait_until(self.record.exists)
        time.sleep(self.after_s)
        self.happening()


def test_workers_that_die_each_time(engine: str, job: Job) -> None:
    messages = make_engine(engine, 1).map(job.tasks, job.cooking(Odd(death, 7)))
    warned: list[Warned] = []
    task = task_of(job, 7)
    last = rf"^3 workers died while converting task {task}, the last one with (signal SIGKILL|WorkerCrashedError)\. "
    with pytest.raises(
        WorkerError,
        match=last + r"It had reached fragment .*Run the same command again.*use fewer workers \(--workers\)$",
    ):
        warned.extend(message for message in messages if isinstance(message, Warned))
    assert len(warned) == MOST - 1
    wait_until(lambda: not working())
    assert not list(job.bakery.work.glob("task-*-*")), "partial files of lost attempts"
    again = list(make_engine(engine, 2).map(job.tasks, job.bakery))
    check_whole(again, job)


def test_a_worker_killed_at_a_shared_task(engine: str, write_source: WriteSource, tmp_path: Path) -> None:
    """The others' portions stay; and the files are those of one worker."""
    source = open_source(str(write_source([tiny_jpeg(i) for i in range(512)], rows_a_group=128)), "train")
    work = tmp_path / "shared" / "train" / ".wdsremux"
    work.mkdir(parents=True)
    [task] = make_plan([Extent(f.rows, f.size_bytes) for f in source.fragments], 0, 50).tasks
    bakery = Bakery(source, Odd(Once(tmp_path), 2), work.parent, work, "train", 0, environment.describe())
    messages = list(make_engine(engine, 2).map([task], bakery))
    assert [message for message in messages if isinstance(message, Done)] == [Done(0)]
    assert len([message for message in messages if isinstance(message, Warned)]) == 1
    assert sum(message.rows for message in messages if isinstance(message, Progress)) == 512
    assert {path.name for path in work.iterdir()} == {path.name for path in journal_names(work, 0)}
    whole, record = digests(tmp_path / "shared"), journal_names(work, 0)[1].read_bytes()
    bake(task, bakery, lambda _: None, RowStream())
    assert (digests(tmp_path / "shared"), journal_names(work, 0)[1].read_bytes()) == (whole, record)
    wait_until(lambda: not working())


def test_an_error_at_a_shared_task_leaves_nothing(engine: str, write_source: WriteSource, tmp_path: Path) -> None:
    source = open_source(str(write_source([tiny_jpeg(i) for i in range(512)], rows_a_group=128)), "train")
    work = tmp_path / "shared" / "train" / ".wdsremux"
    work.mkdir(parents=True)
    tasks = make_plan([Extent(f.rows, f.size_bytes) for f in source.fragments], 0, 50).tasks
    bakery = Bakery(source, Odd(noted, 3), work.parent, work, "train", 0, environment.describe())
    with pytest.raises(RecipeError, match="recipe f failed on rows 0 to 1"):
        list(make_engine(engine, 2).map(tasks, bakery))
    assert list(work.iterdir()) == []
    wait_until(lambda: not working())


def test_closing_early_ends_the_work(engine: str, job: Job, tmp_path: Path) -> None:
    endless = make_engine(engine, 2).map(job.tasks, job.cooking(Odd(Gate(tmp_path / "never"))))
    assert isinstance(next(endless), Progress)
    assert working()
    began_s = time.monotonic()
    endless.close()
    assert time.monotonic() - began_s < 5
    wait_until(lambda: not working())


def test_the_callers_script_is_never_imported(engine: str, job: Job, tmp_path: Path) -> None:
    """A script without a `__main__` guard, as people write them."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import signal
        import wdsremux
        with open({str(tmp_path / "runs")!r}, "a") as file:
            file.write("run ")
        sizes = dict(samples_per_shard=5, samples_per_task=10)
        out = {str(tmp_path / "new")!r}
        wdsremux.convert({str(job.source)!r}, out, recipe="copy", workers=2, engine={engine!r}, **sizes)
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            raise SystemExit("a handler is left behind")
        """)
    )
    environment_ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment_.pop("RAY_ADDRESS", None)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment_, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "runs").read_text() == "run "
    assert len(list((tmp_path / "new" / "train").glob("*.tar"))) == 24


# Which there are


def test_unknown_engine() -> None:
    with pytest.raises(OptionError, match=r"Invalid engine \(got 'spark'\)\. Supported: local, ray"):
        make_engine("spark", 1)


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("wdsremux.conversion.engines.ray")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # what Python itself does to say that there is none
    with pytest.raises(
        BackendError, match=r'needs ray, which is not installed\. Install it with `pip install "\.\[ray\]"`'
    ):
        make_engine("ray", 1)


# The parts


def test_attempts(job: Job, tmp_path: Path) -> None:
    attempts = Attempts(job.tasks[:2], replace(job.bakery, work=tmp_path), 1)
    first, second = attempts.take(), attempts.take()
    assert (first, second, attempts.take()) == (*job.tasks[:2], None)
    assert first is not None
    assert second is not None
    attempts.put_back(first)
    assert attempts.take() == first
    empty = RejectLine(0, 1, None, None, None, "empty")
    for step, progress in (
        (first, Progress(0, 5, 3, 2, 70, 40, (empty,))),
        (first, Progress(0, 5, 5, 0, 80, 50)),
        (second, Progress(1, 9, 9, 0, 9, 9)),
    ):
        assert attempts.tally(step, progress) == [progress]
    (tmp_path / "task-000000-abc").mkdir()
    (tmp_path / "task-000001-abc").mkdir()
    undone, warned = attempts.lost(first, "signal SIGKILL")
    assert undone == Progress(0, -10, -8, -2, -150, -90, (empty,))
    died = "a worker died with signal SIGKILL while converting task 0, which is retried (attempt 2 of 3). "
    assert warned == Warned(f"{died}It had reached the end, after converting all rows")
    assert [path.name for path in tmp_path.glob("task-*")] == ["task-000001-abc"]
    assert attempts.take() == first
    assert [type(message) for message in attempts.lost(first, "signal SIGKILL")] == [Warned]
    assert attempts.tally(second, Done(1)) == [Done(1)]
    assert attempts.take() == first
    with pytest.raises(WorkerError, match=r"3 workers died while converting task 0, the last one with exit code 1\."):
        attempts.lost(first, "exit code 1")


@pytest.mark.parametrize("served", [True, False])
def test_local_worker_killed_with_a_task_unread(job: Job, served: bool) -> None:
    """Then the pipe is reset, which is another error than its end. One that never served counts, or it might go on."""
    worker = local_engine._start(b"")
    worker.served = served
    assert worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGSTOP)
    worker.step = job.tasks[3]
    local_engine._send(worker, job.tasks[3])
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.join()
    assert local_engine._receive(worker) == local_engine._Death("signal SIGKILL", idle=served)


@pytest.mark.parametrize("after", ["step", "step before"])
def test_local_worker_killed_with_the_next_task_unread(job: Job, after: str) -> None:
    """What it was at counts as an attempt, and the next one does not."""
    worker = local_engine._start(b"")
    worker.served = True
    assert worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGSTOP)
    attempts = Attempts(job.tasks[:3], job.bakery, 1)
    worker.step = attempts.take()
    local_engine._give_more(worker, attempts)
    assert worker.coming == job.tasks[1]
    if after == "step before":  # its last word was that it is done
        worker.step, worker.coming = worker.coming, None
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.join()
    death = local_engine._receive(worker)
    assert death == local_engine._Death("signal SIGKILL", idle=after == "step before")
    told = local_engine._requeue(worker, death, attempts)
    assert [type(message) for message in told] == [Warned] * (after == "step")
    waiting = job.tasks[:3] if after == "step" else job.tasks[1:3]
    assert [attempts.take() for _ in range(4)] == [*waiting, *[None] * (4 - len(waiting))]


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_local_workers_that_read_ahead(far: Job, workers: int, tmp_path: Path) -> None:
    """One is killed while it is at two tasks."""
    bakery = far.cooking(Odd(Once(tmp_path), 7))
    messages = list(make_engine("local", workers).map(far.tasks, bakery))
    check_whole(messages, far)
    [warned] = [message for message in messages if isinstance(message, Warned)]
    assert f"while converting task {task_of(far, 7)}, which is retried (attempt 2 of 3)" in warned.text
    for task in far.tasks:
        record = journal_names(bakery.work, task.number)[1]
        found = Record.loads(record.read_bytes())
        bake(task, bakery, lambda _: None, RowStream())
        assert Record.loads(record.read_bytes()) == found


def test_local_workers_that_read_ahead_and_die_each_time(far: Job) -> None:
    with pytest.raises(WorkerError, match=rf"^3 workers died while converting task {task_of(far, 7)}, the last one"):
        list(make_engine("local", 1).map(far.tasks, far.cooking(Odd(death, 7))))
    wait_until(lambda: not working())
    check_whole(list(make_engine("local", 2).map(far.tasks, far.bakery)), far)


def test_local_worker_killed_between_two_tasks(job: Job) -> None:
    messages = make_engine("local", 1).map(job.tasks, job.bakery)
    heard: list[Progress | Done | Warned] = [next(messages)]
    first = job.tasks[0].number
    wait_until(journal_names(job.bakery.work, first)[1].exists)
    time.sleep(0.2)  # for the word that it is done
    [process] = multiprocessing.active_children()
    process.kill()
    process.join()
    heard += messages
    check_whole(heard, job)
    assert not [message for message in heard if isinstance(message, Warned)]


def test_local_worker_killed_within_a_message(job: Job) -> None:
    worker = local_engine._start(b"")
    worker.step = job.tasks[3]
    theirs, ours = worker.pipe, multiprocessing.Pipe()
    worker.pipe = ours[0]
    os.write(ours[1].fileno(), b"\0\0\0\xff{half of")
    ours[1].close()
    theirs.close()
    assert re.match("exit code|signal", (local_engine._receive(worker)).how)  # type: ignore[union-attr]


def test_ray_worker_in_another_environment(job: Job) -> None:
    """A node that came after the others were looked at bakes nothing."""
    cargo = ray_worker.pack(replace(job.bakery, environment=environment.describe() | {"torch": "99.0"}))
    [error] = ray_worker.bake(job.tasks[0], cargo)
    assert isinstance(error, WorkerError)
    assert re.search(r"would not write the same bytes as this process: torch 99\.0 -> ", str(error))
    assert not list(job.bakery.work.iterdir())
    token = job.bakery.work / "token"
    assert ray_worker.look(cargo, token)[0] is None
    token.write_text("seen")
    found, changed = ray_worker.look(cargo, token)
    assert found == "seen"
    assert changed.startswith("torch 99.0 -> ")
    assert ray_worker.look(ray_worker.pack(job.bakery), token) == ("seen", "")


def test_ray_worker_tells_what_its_task_does(job: Job) -> None:
    *progress, done = ray_worker.bake(job.tasks[0], ray_worker.pack(job.bakery))
    assert [type(message) for message in progress] == [Progress] * 5
    assert done == Done(0)


def test_ray_worker_of_one_run_after_another(write_source: WriteSource, tmp_path: Path) -> None:
    """Its process may serve both: where it stopped reading for the first says nothing of the second's source."""

    def shared(run: str, first: int) -> tuple[Bakery, tuple[Portion, ...]]:
        images = [tiny_jpeg(first + i) for i in range(300)]
        source = open_source(str(write_source(images, rows_a_group=300, name=f"source {first}")), "train")
        work = tmp_path / run / "train" / ".wdsremux"
        work.mkdir(parents=True)
        [task] = make_plan([Extent(f.rows, f.size_bytes) for f in source.fragments], 0, 50).tasks
        gather.shared_folder(work, task).mkdir()
        bakery = Bakery(source, Odd(list), work.parent, work, "train", 0, environment.describe())
        return bakery, portions.cut(task, 100, 2)

    for run, first, number in (("first", 0, 0), ("second", 500, 1)):
        bakery, parts = shared(run, first)
        assert list(ray_worker.bake(parts[number], ray_worker.pack(bakery)))[-1] == Stepped()
    bakery, parts = shared("alone", 500)
    gather.bake_portion(parts[1], bakery, lambda _: None, RowStream())
    contents = [
        tmp_path / run / "train/.wdsremux/task-000000-shared/portion-0001/contents" for run in ("second", "alone")
    ]
    assert contents[0].read_bytes() == contents[1].read_bytes()
    ray_worker._stream.cache_clear()  # where the second stopped, its fragment is open
