"""DALI's pipelines are shared by graph: a train and a test loader have one decoder between them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.contracts.batches import images_of, made, read_batches, spoil
from wdsremux.errors import ImageError
from wdsremux.loading.augment import PRESETS
from wdsremux.loading.backends import Batch

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from wdsremux.loading.backends.pipelines import Graph, Lost, SharedPipeline, shared

GRAPH = Graph(size=64, batch_size=8, num_threads=1, device=None, gpu_decodes=False, normalise=None)


def test_equal_graphs_share_a_pipeline() -> None:
    one = shared(GRAPH)
    assert shared(Graph(size=64, batch_size=8, num_threads=1, device=None, gpu_decodes=False, normalise=None)) is one
    assert (
        shared(Graph(size=65, batch_size=8, num_threads=1, device=None, gpu_decodes=False, normalise=None)) is not one
    )


def test_the_last_to_close_frees_it() -> None:
    with made("dali") as one:
        kept = weakref.ref(one._pipeline)  # type: ignore[attr-defined]
        with made("dali") as other:
            assert other._pipeline is kept()  # type: ignore[attr-defined]
        gc.collect()
        assert kept() is not None
    gc.collect()
    assert kept() is None


def test_train_and_test_in_turns(converted: Path) -> None:
    """The train loader has batches under way when the test loader begins, as at the end of an epoch."""
    train, test = (
        read_batches(converted / "train", [16] * 6),
        read_batches(converted / "test", [16] * 3, PRESETS["eval"]),
    )
    with made("dali") as one, made("dali") as other:
        wanted_train, wanted_test = images_of(one, train), images_of(other, test)
        run = one.run(iter(train))
        first = [next(run)[1] for _ in range(2)]
        found_test = images_of(other, test)
        found_train = [*first, *(images for _, images in run)]
    assert all(torch.equal(a, b) for a, b in zip(found_train, wanted_train, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(found_test, wanted_test, strict=True))


@pytest.mark.parametrize("skip", [False, True])
def test_a_bad_image_of_one_loses_nothing_of_the_other(converted: Path, skip: bool) -> None:
    batches = read_batches(converted / "train", [8] * 12)
    with made("dali") as one, made("dali", skip=skip) as other:
        wanted = images_of(one, batches)
        run = one.run(iter(batches))
        found = [next(run)[1]]
        damaged = [batches[0], spoil(batches[1], 2), *batches[2:4]]
        if skip:
            assert [batch.encoded.skipped for batch, _ in other.run(iter(damaged))] == [0, 1, 0, 0]
        else:
            with pytest.raises(ImageError, match=r"^sample 10, "):
                list(other.run(iter(damaged)))
        found += [images for _, images in run]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_two_threads_at_once(converted: Path) -> None:
    """Each has bad images now and then, for which the pipeline is made anew under the other."""
    folder = converted / "train"
    sound = read_batches(folder, [8] * 30)
    with made("dali", skip=True) as one, made("dali", skip=True) as other:
        wanted = images_of(one, sound)
        faults: list[BaseException] = []

        def damaged(period: int) -> Iterator[Batch]:
            for number, batch in enumerate(sound):
                yield spoil(batch, 3) if number % period == period - 1 else batch

        def work(backend: object, period: int) -> None:
            try:
                for (_, images), right in zip(backend.run(damaged(period)), wanted, strict=True):  # type: ignore[attr-defined]
                    assert torch.equal(images[[0, 1, 2, 4, 5, 6, 7]], right[[0, 1, 2, 4, 5, 6, 7]])
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=pair) for pair in ((one, 5), (other, 7))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        found = [str(fault) for fault in faults]
        faults.clear()
    assert found == []
    assert not any(thread.is_alive() for thread in threads)


def test_what_was_in_a_pipeline_that_failed_is_lost_to_all(converted: Path) -> None:
    (batch,) = read_batches(converted / "train", [4])
    pipeline = SharedPipeline(GRAPH)
    box = np.tile(np.array([0, 0, 64, 64, 0], np.int32), (4, 1))
    files = [batch.encoded.image(i) for i in range(4)]
    good = pipeline.submit(files, box)
    bad = pipeline.submit([*files[:3], np.frombuffer(b"<html>", np.uint8)], box)
    after = pipeline.submit(files, box)
    assert pipeline.result(good) is not None
    for ticket, culprit in ((after, False), (bad, True)):
        with pytest.raises(Lost) as told:
            pipeline.result(ticket)
        assert told.value.culprit is culprit
        del told
    assert pipeline.failed
    assert pipeline.submit(files, box).lost is not None
