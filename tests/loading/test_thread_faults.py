"""No error in any of a loader's threads hangs its caller: it is raised where the batch was asked for."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import wdsremux
from tests.conftest import needs
from tests.support.batches import LIBRARIES
from wdsremux.codec import cropping
from wdsremux.errors import BackendError, StateError, WdsremuxError
from wdsremux.loading import feed
from wdsremux.loading.augment import Augment
from wdsremux.loading.backends import cpu_decoders, placement
from wdsremux.loading.backends import torchvision as torchvision_backend
from wdsremux.loading.backends.dali_pipelines import SharedPipeline
from wdsremux.loading.device import Destination
from wdsremux.loading.order import Epoch, Order
from wdsremux.loading.reader import Reader
from wdsremux.loading.reader.readahead import ReadAhead

pytestmark = pytest.mark.timeout(60)
#: Every stage of the way of a batch, as whose work an error may come.
STAGES: dict[str, tuple[Any, str]] = {
    "epoch": (Order, "epoch"),
    "permutation": (Epoch, "__getitem__"),
    "steps": (feed, "steps"),
    "read ahead": (ReadAhead, "at"),
    "read": (Reader, "read"),
    "augment": (Augment, "parameters"),
    "labels": (Reader, "labels"),
    "send": (Destination, "send"),
    "finish": (Destination, "finish"),
    "json": (Reader, "json"),
    "hand over": (queue.Queue, "put"),
}
OF_TORCHVISION: dict[str, tuple[Any, str]] = {
    "decode": (cropping, "decode_into"),
    "resize": (cropping, "resize_crop"),
    "store": (placement.Normalised, "__call__"),
    "begin": (cpu_decoders.Decoders, "begin"),
    "memory": (torchvision_backend._Cpu, "_places"),
}
OF_DALI: dict[str, tuple[Any, str]] = {
    "submit": (SharedPipeline, "submit"),
}
KINDS = [ValueError, MemoryError, KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit]


@pytest.fixture(scope="module")
def with_json(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose samples have JSON."""
    import datasets

    folder = tmp_path_factory.mktemp("json")
    with wdsremux.DataLoader(converted, 4) as loader:
        rows = [loader.dataset[i] for i in range(24)]
    table = {"image": [image for image, _ in rows], "label": [label for _, label in rows], "n": list(range(24))}
    datasets.Dataset.from_dict(table).cast_column("image", datasets.Image()).save_to_disk(str(folder / "source"))
    wdsremux.convert(folder / "source", folder / "out", keep="n", recipe="copy", workers=1)
    return folder / "out"


@pytest.mark.usefixtures("with_json")  # made before it is looked what a test leaves open
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("backend", "stage"),
    [
        *(("torchvision", stage) for stage in STAGES | OF_TORCHVISION),
        *(("dali", stage) for stage in STAGES | OF_DALI),
    ],
)
def test_an_error_at_any_stage_reaches_the_caller(
    with_json: Path, monkeypatch: pytest.MonkeyPatch, backend: str, stage: str, kind: type[BaseException]
) -> None:
    """As it is, or as one of ours that was made of it; at the second call, when all is at work."""
    needs(*LIBRARIES[backend, "cpu"])
    owner, name = (STAGES | OF_TORCHVISION | OF_DALI)[stage]
    work, calls = getattr(owner, name), itertools.count()

    def failing(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() and next(calls) == 1:
            raise kind("injected")
        return work(*arguments, **options)

    fields = ("image", "label", "json")
    options: dict[str, Any] = {"augment": "train", "size": 16, "num_threads": 2, "prefetch": 1, "fields": fields}
    with wdsremux.DataLoader(with_json, 4, backend=backend, **options) as loader:
        monkeypatch.setattr(owner, name, failing)
        with pytest.raises((kind, WdsremuxError, RuntimeError)):
            _take_all(loader)
        monkeypatch.undo()
        loader.set_epoch(0)
        assert sum(len(labels) for _, labels, _ in loader) == 24  # and it can be used again


def _take_all(loader: wdsremux.DataLoader) -> None:
    for _ in range(3):
        for _ in loader:
            pass


def test_a_thread_that_ends_and_says_nothing(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_run", lambda *arguments: None)
    with (
        wdsremux.DataLoader(converted, 4, fields=("id",)) as loader,
        pytest.raises(BackendError, match="ended without an error"),
    ):
        next(iter(loader))


def test_threads_that_cannot_be_started(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of processes is reached: those that were started wait for nobody."""
    start, count = threading.Thread.start, iter(range(1_000))

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("wdsremux-decode") and next(count) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    before = torch.get_num_threads()
    monkeypatch.setattr(threading.Thread, "start", limited)
    with (
        wdsremux.DataLoader(converted, 4, backend="torchvision", num_threads=4, size=16) as loader,
        pytest.raises(
            BackendError, match=r"^the threads that decode cannot be started \(num_threads=4\): can't start new"
        ),
    ):
        next(iter(loader))
    assert torch.get_num_threads() == before


class Slow:
    """Has the second batch wait until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits, self.go_on = threading.Event(), threading.Event()
        work = Reader.labels

        def labels(reader: Reader, ids: Any) -> Any:
            if self.waits.is_set() and not self.go_on.is_set():
                self.go_on.wait(30)
            return work(reader, ids)

        monkeypatch.setattr(Reader, "labels", labels)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    made = Slow(monkeypatch)
    yield made
    made.go_on.set()


@pytest.mark.parametrize("how", ["another iterator", "close"])
def test_a_thread_that_waits_for_a_batch_while_another_ends_it(converted: Path, slow: Slow, how: str) -> None:
    """It gets an error in place of a batch that nobody makes any more."""
    told: queue.Queue[BaseException | None] = queue.Queue()

    def wait(batches: Iterator[Any]) -> None:
        try:
            for _ in batches:
                pass
            told.put(None)
        except BaseException as error:
            told.put(error)
        finally:
            batches.close()  # type: ignore[attr-defined]  # a generator

    with wdsremux.DataLoader(converted, 4, fields=("label",), prefetch=1) as loader:
        older = iter(loader)
        next(older)
        slow.waits.set()
        waiting = threading.Thread(target=wait, args=(older,))
        waiting.start()
        threading.Timer(0.5, slow.go_on.set).start()
        if how == "close":
            loader.close()
        else:
            loader.set_epoch(3)
            next(iter(loader))
        error = told.get(timeout=20)
        waiting.join(20)
        assert isinstance(error, StateError)
        del error, older
