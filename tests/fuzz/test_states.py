"""What is kept between two runs, a loader's state and a conversion's plan and journal: a value or one sentence."""

from __future__ import annotations

import gc
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import wdsremux
from tests.support.mutations import HOSTILE, Tally, changed, many, rewritten, some, survives
from tests.support.sources import write_dozen
from tests.support.splits import write_split
from wdsremux.conversion import environment, journal
from wdsremux.conversion.journal import Journal
from wdsremux.conversion.plan import Extent, Plan, make_plan
from wdsremux.conversion.request import Request
from wdsremux.errors import StateError
from wdsremux.loading.state import LoaderState, load

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # when one fails
#: What no serialiser of plain values gives, and a broken checkpoint may.
OBJECTS = (
    *HOSTILE,
    b"x",
    (1, 2),
    np.arange(3),
    np.int64(5),
    torch.tensor(2),
    torch.zeros(2),
    object(),
    range(9),
)


ORDER: dict[str, Any] = {"samples": 18, "shards": "ab", "seed": 0, "shuffle": True, "window": 64, "lanes": 1}
STATE = LoaderState(2, 8).dump(ORDER)


@many
@given(saved=rewritten(STATE, OBJECTS))
def test_states(saved: Any, tally: Tally) -> None:
    state = survives(lambda: load(saved, ORDER), tally)
    if not isinstance(state, StateError):
        assert state.loaded
        assert 0 <= state.epoch < 2**32
        assert state.position >= 0
        assert survives(lambda: load(state.dump(ORDER), ORDER)) == state


def test_a_loader_goes_on_from_any_state_or_says_why_not(tmp_path: Path, tally: Tally) -> None:
    write_split(tmp_path, shards=(6, 5, 7))
    with wdsremux.DataLoader(tmp_path, 4, fields=("id",), backend="torchvision", num_threads=1) as loader:
        _try_states(loader, tally)
    del loader
    gc.collect()  # the last state that was refused holds the loader, by its traceback


def _try_states(loader: wdsremux.DataLoader, tally: Tally) -> None:
    def go_on(saved: Any) -> int:
        loader.load_state_dict(saved)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of samples that are repeated at the end
            return sum(1 for _ in zip(loader, range(3), strict=False))

    sound = loader.state_dict()

    @some
    @given(saved=rewritten(sound, OBJECTS))
    def try_one(saved: Any) -> None:
        assert survives(lambda: go_on(saved), tally) is not None
        loader.load_state_dict(sound)

    try_one()


# A conversion that was stopped


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Request, Plan]:
    """A conversion of two tasks, all done but for the manifest; and what the next run asks for."""
    folder = tmp_path_factory.mktemp("stopped")
    write_dozen(folder / "source")
    sizes: dict[str, Any] = {"samples_per_shard": 3, "samples_per_task": 6}
    made = wdsremux.convert(folder / "source", folder / "out", recipe="copy", workers=1, **sizes)
    request = Request(made.source, made.recipe, made.options, made.seed)
    (folder / "out" / "train" / "index.json").unlink()
    return folder / "out" / "train", request, make_plan([Extent(3, 2_000)] * 4, 0, 3, 6)


def take_up(folder: Path, request: Request, plan: Plan) -> None:
    """What a conversion does with a journal."""
    work = folder / ".wdsremux"
    journal.begun(work)
    begun = journal.begin(work, request, plan, environment.describe())
    done = [task for task in begun.plan.tasks if begun.has(task, folder)]
    assert all(isinstance(task.number, int) and task.shards for task in begun.plan.tasks)
    for task in done:
        begun.record(task.number)
    if len(done) == len(begun.plan.tasks):
        _assembled(begun)


def _assembled(begun: Journal) -> None:
    for record in begun.records():
        assert all(shard.url.startswith("train-") and "/" not in shard.url for shard in record.shards)
        record.rejected()
    sum(len(rows) for rows in begun.tables())


def test_an_untouched_journal_is_taken_up(stopped: tuple[Path, Request, Plan]) -> None:
    assert len(stopped[2].tasks) == 2
    assert survives(lambda: take_up(*stopped)) is None


FILES = ["plan.json", "task-000000.json", "task-000001.json", "task-000000.npy"]


@some
@given(data=st.data(), name=st.sampled_from(FILES))
def test_journals(stopped: tuple[Path, Request, Plan], data: st.DataObject, name: str, tally: Tally) -> None:
    work = stopped[0] / ".wdsremux"
    saved = {path.name: path.read_bytes() for path in work.iterdir()}
    strategy: st.SearchStrategy[bytes] = changed([saved[name]], [b"[" * 3_000, b"null", b"1e999", b"-1", b'"'])
    if name.endswith(".json"):
        strategy |= rewritten(json.loads(saved[name])).map(lambda values: json.dumps(values).encode())
    content = data.draw(strategy)
    (work / name).write_bytes(content)
    try:
        survives(lambda: take_up(*stopped), tally)
    finally:
        for path in work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for file, before in saved.items():
            (work / file).write_bytes(before)


def test_what_replaces_a_value_is_hostile(stopped: tuple[Path, Request, Plan]) -> None:
    """Each file is looked at: without it, or with nothing in it, the conversion says so or begins that task anew."""
    work = stopped[0] / ".wdsremux"
    ways: list[Callable[[Path], object]] = [lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"{}")]
    for name in FILES:
        saved = (work / name).read_bytes()
        for way in ways:
            way(work / name)
            assert survives(lambda: take_up(*stopped)) is not None, name
            (work / name).write_bytes(saved)
