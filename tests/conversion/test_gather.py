"""A task that is cut gives the files of one that is not, whatever the order of its steps and whoever is lost at one."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WriteSource, tiny_jpeg
from tests.support.kinds import KINDS, Photos
from tests.support.kitchen import Kitchen
from tests.support.reading import digests
from tests.support.shared_tasks import CASES, Case
from tests.support.sources import open_source
from wdsremux.conversion import gather, portions
from wdsremux.conversion.bake import Bakery, bake
from wdsremux.conversion.engines import attempts as attempts_
from wdsremux.conversion.engines.attempts import Attempts, Message, carry_out
from wdsremux.conversion.engines.base import Done
from wdsremux.conversion.events import Progress, Warned
from wdsremux.conversion.plan import Task
from wdsremux.conversion.portions import Closing, Gathering, Portion, Step
from wdsremux.conversion.recipes.base import Settings
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.record import Record, journal_names
from wdsremux.conversion.row_stream import RowStream
from wdsremux.conversion.spool import CONTENTS, Form
from wdsremux.errors import SourceError
from wdsremux.format.containers import SampleColumns

SIZES = ("samples_per_shard", "samples_per_task", "limit", "shuffle")


def kitchen_of(case: Case, write_source: WriteSource, tmp_path: Path, out: str) -> Kitchen:
    source, options = case.write(write_source, tmp_path / "case")
    keep = tuple(options["keep"].split(",")) if "keep" in options else ()
    opened = open_source(str(source), "train", keep=keep)
    sizes = {name: options[name] for name in SIZES if name in options}
    kitchen = Kitchen(opened, tmp_path / out, **sizes)
    settings = Settings(keep=keep, batch_size=options.get("batch_size", 64))
    columns = SampleColumns(kept=opened.columns.stored(keep) if keep else None)
    form = Form(options.get("container", "tar"), columns)
    kitchen.bakery = replace(kitchen.bakery, recipe=make_recipe(options["recipe"], settings), form=form)
    return kitchen


def step_by_step(
    tasks: Sequence[Task], bakery: Bakery, workers: int, draw: random.Random
) -> list[Progress | Done | Warned]:
    """All steps in this process, as so many workers might take and end them; some are lost when they have ended."""
    attempts, cargo = Attempts(tasks, bakery, workers), pickle.dumps(bakery)
    told: list[Progress | Done | Warned] = []
    running: list[Step] = []
    stream = RowStream()
    while True:
        while len(running) < workers and (step := attempts.take()) is not None:
            running.append(step)
        if not running:
            return told
        step = running.pop(draw.randrange(len(running)))
        messages: list[Message] = []
        carry_out(step, cargo, messages.append, stream)
        for message in messages[:-1]:
            told += attempts.tally(step, message)
        if draw.random() < 0.2 and attempts._losses[step] + 1 < attempts_.MOST:
            told += attempts.lost(step, "a test")
        else:
            told += attempts.tally(step, messages[-1])


@pytest.mark.parametrize("name", CASES)
def test_the_same_files_however_it_is_cut(name: str, write_source: WriteSource, tmp_path: Path) -> None:
    alone = kitchen_of(CASES[name], write_source, tmp_path, "alone")
    for task in alone.plan.tasks:
        alone.bake(task.number)
    told = alone.progress
    assert len(alone.plan.tasks) == 1
    for workers in (2, 3, 8):
        shared = kitchen_of(CASES[name], write_source, tmp_path, str(workers))
        messages = step_by_step(shared.plan.tasks, shared.bakery, workers, random.Random(workers))
        assert [message for message in messages if isinstance(message, Done)] == [Done(0)]
        assert digests(tmp_path / str(workers)) == digests(tmp_path / "alone")
        for ours, theirs in zip(journal_names(shared.work, 0), journal_names(alone.work, 0), strict=True):
            assert ours.read_bytes() == theirs.read_bytes()
        assert not list(shared.work.glob("task-*-*"))
        for count in ("rows", "samples", "nrejects", "bytes_in", "bytes_out"):
            sums = [sum(getattr(p, count) for p in ps if isinstance(p, Progress)) for ps in (messages, told)]
            assert sums[0] == sums[1], count


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_is_cut_alike(kind: str, tmp_path: Path) -> None:
    images = tuple(tiny_jpeg(i) for i in range(300))
    KINDS[kind].write(tmp_path / "photos", {"train": Photos(images, tuple(i % 3 for i in range(300)))})
    opened = open_source(KINDS[kind].source(tmp_path / "photos", "train"), "train")
    alone, shared = (Kitchen(opened, tmp_path / out, samples_per_shard=20) for out in ("alone", "shared"))
    for task in alone.plan.tasks:
        alone.bake(task.number)
    assert any(len(parts) > 1 for parts in portions.divide(shared.plan.tasks, 4, 64))
    step_by_step(shared.plan.tasks, shared.bakery, 4, random.Random(0))
    assert digests(tmp_path / "alone") == digests(tmp_path / "shared")


def test_spools_go_with_their_block(write_source: WriteSource, tmp_path: Path) -> None:
    """The disk holds a few blocks twice, however large the fragment is."""
    source = write_source([tiny_jpeg(i % 500) for i in range(3_000)], rows_a_group=3_000)
    kitchen = Kitchen(source, tmp_path / "out", samples_per_shard=100, samples_per_task=300)
    attempts, cargo = Attempts(kitchen.plan.tasks, kitchen.bakery, 2), pickle.dumps(kitchen.bakery)
    most, steps, stream = 0, [], RowStream()
    while (step := attempts.take()) is not None:
        steps.append(step)
        messages: list[Message] = []
        carry_out(step, cargo, messages.append, stream)
        for message in messages:
            attempts.tally(step, message)
        most = max(most, len(list(kitchen.work.glob(f"task-*-shared/portion-*/{CONTENTS}"))))
    assert [len([s for s in steps if isinstance(s, kind)]) for kind in (Gathering, Closing)] == [10, 1]
    assert len([step for step in steps if isinstance(step, Portion)]) > 20
    assert most <= 6
    assert not attempts.more


def test_a_fragment_is_read_once_by_a_worker(write_source: WriteSource, tmp_path: Path) -> None:
    """Not from its beginning for each portion: there may be a hundred."""
    source = open_source(str(write_source([tiny_jpeg(i) for i in range(1_000)], rows_a_group=1_000)), "train")
    begun: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(source.reader, name)

        def pieces(self, *arguments: Any) -> Any:
            begun.append(1)
            return source.reader.pieces(*arguments)

    kitchen = Kitchen(source, tmp_path / "out", samples_per_shard=50)
    bakery = replace(kitchen.bakery, source=replace(source, reader=Counting()))
    gather.shared_folder(kitchen.work, kitchen.plan.tasks[0]).mkdir()
    parts = portions.cut(kitchen.plan.tasks[0], 100, 64)
    assert len(parts) == 6
    stream = RowStream()
    for part in parts[::3] + parts[1::3]:
        gather.bake_portion(part, bakery, lambda _: None, stream)
    assert len(begun) == 2


def test_a_source_that_is_short_of_rows(write_source: WriteSource, tmp_path: Path) -> None:
    """Whoever reads where nothing is any more says how many rows there are."""
    opened = open_source(str(write_source([tiny_jpeg(i) for i in range(300)], rows_a_group=300)), "train")
    longer = replace(opened, fragments=(replace(opened.fragments[0], rows=1_000),))
    for first in (0, 64, 256, 320, 640):
        for stop in (None, 900):
            with pytest.raises(SourceError, match=r"contains 300 rows, not 1,000 as recorded"):
                list(longer.rows(0, 64, stop, first))
    with pytest.raises(SourceError, match="is not read 64 rows at a time"):
        list(opened.rows(0, 64, None, 100))


def test_where_a_lost_portion_had_come_to(write_source: WriteSource, tmp_path: Path) -> None:
    kitchen = Kitchen(write_source([tiny_jpeg(0)] * 512, rows_a_group=512), tmp_path / "out", samples_per_shard=50)
    attempts = Attempts(kitchen.plan.tasks, kitchen.bakery, 2)
    first, second = attempts.take(), attempts.take()
    assert isinstance(first, Portion)
    assert isinstance(second, Portion)
    progress = Progress(0, 64, 64, 0, 10, 10)
    attempts.tally(first, progress)
    attempts.tally(second, progress)
    undone, warned = attempts.lost(second, "signal SIGKILL")
    assert isinstance(warned, Warned)
    assert "while converting task 0, which is retried (attempt 2 of 3). It had reached" in warned.text
    assert warned.text.endswith("fragment 0, after 192 rows")
    assert undone == Progress(0, -64, -64, 0, -10, -10)  # what the first told stays
    assert attempts.take() == second


def test_a_late_attempt_changes_nothing(write_source: WriteSource, tmp_path: Path) -> None:
    """One that was given up as lost may end after the other, or when the task is done."""
    kitchen = Kitchen(write_source([tiny_jpeg(i) for i in range(300)]), tmp_path / "out", samples_per_shard=50)
    [task] = kitchen.plan.tasks
    folder = gather.shared_folder(kitchen.work, task)
    parts = portions.cut(task, 100, 64)
    folder.mkdir()
    for part in (*parts, *parts):
        gather.bake_portion(part, kitchen.bakery, lambda _: None, RowStream())
    for step in (*portions.gatherings(parts), *portions.gatherings(parts)):
        gather.gather(step, kitchen.bakery)
    for _ in range(2):
        gather.close(Closing(task, len(parts)), kitchen.bakery)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError):
        gather.bake_portion(parts[0], kitchen.bakery, lambda _: None, RowStream())
    assert not folder.exists()
    record, shards = journal_names(kitchen.work, 0)[1].read_bytes(), digests(tmp_path / "out")
    bake(task, kitchen.bakery, lambda _: None, RowStream())
    assert (journal_names(kitchen.work, 0)[1].read_bytes(), digests(tmp_path / "out")) == (record, shards)
    assert Record.loads(record).rows == 300
