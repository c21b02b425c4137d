"""DALI's pipelines are shared by graph: a train and a test loader have one decoder between them."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.batches import images_of, in_rows, made, read_batches, spoil
from wdsremux.errors import ImageError
from wdsremux.loading.augment import PRESETS
from wdsremux.loading.backends import Batch
from wdsremux.loading.reader.encoded import Encoded

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

import nvidia.dali.backend
from nvidia.dali import fn
from nvidia.dali.pipeline import Pipeline

from wdsremux.loading.backends.dali_pipelines import Graph, Lost, SharedPipeline, Ticket, shared

DALI: Any = nvidia.dali.backend
GRAPH = Graph(size=64, batch_size=8, num_threads=1, device=None, gpu_decodes=False, normalise=None)


def whole(sizes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Parameters of files of so many bytes: a corner of 64 px, not flipped."""
    return np.array([[0, 0, 64, 64, 0, size] for size in sizes.tolist()], np.int32)


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
            with pytest.raises(ImageError, match=r"^sample 10 at "):
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
    box = whole(batch.encoded.sizes)
    files = [batch.encoded.image(i) for i in range(4)]
    good = pipeline.submit(files, box)
    bad = pipeline.submit([*files[:3], np.frombuffer(b"<html>", np.uint8)], whole(np.array([*map(len, files[:3]), 6])))
    after = pipeline.submit(files, box)
    assert pipeline.result(good) is not None
    for ticket, culprit in ((after, False), (bad, True)):
        with pytest.raises(Lost) as told:
            pipeline.result(ticket)
        assert told.value.culprit is culprit
        del told
    assert pipeline.failed
    assert pipeline.submit(files, box).lost is not None


def sizes_of_batches(pipeline: SharedPipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with how many images go into DALI, batch by batch."""
    sizes: list[int] = []
    real = pipeline._pipeline.feed_input

    def feed_input(name: str, data: Any) -> None:
        if name == "images":
            sizes.append(len(data))
        real(name, data)

    monkeypatch.setattr(pipeline._pipeline, "feed_input", feed_input)
    return sizes


def test_the_first_batch_for_a_gpu_is_as_large_as_any(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvImageCodec gives the JPEG engine a share by it; what comes out is the batch that went in."""
    with made("dali") as backend:
        wanted = images_of(backend, batches := read_batches(converted / "train", [3, 16, 5]))
    with made("dali, as for a GPU") as backend:
        sizes = sizes_of_batches(backend._pipeline, monkeypatch)  # type: ignore[attr-defined]
        found = images_of(backend, batches)
    assert sizes == [16, 16, 5]
    assert [len(images) for images in found] == [3, 16, 5]
    assert all(torch.allclose(a, b, atol=0.01) for a, b in zip(found, wanted, strict=True))


def test_after_a_fault_the_first_batch_is_as_large_again(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = SharedPipeline._feed

    def feed(pipeline: SharedPipeline, images: list[Any], parameters: Any) -> None:
        sizes.append(len(images))
        real(pipeline, images, parameters)

    monkeypatch.setattr(SharedPipeline, "_feed", feed)
    batches = read_batches(converted / "train", [16, 8, 8])
    with made("dali, as for a GPU", skip=True) as backend:
        list(backend.run(iter([batches[0], spoil(batches[1], 2), batches[2]])))
    assert sizes == [16, 8, 8, 16, 8]


def test_only_a_loader_of_no_larger_batches_shares_a_gpus_pipeline() -> None:
    gpu = replace(GRAPH, gpu_decodes=True)
    one = shared(gpu)
    assert shared(replace(gpu, batch_size=5)) is one
    larger = shared(replace(gpu, batch_size=9))
    assert larger is not one
    assert shared(gpu) is one
    assert shared(replace(gpu, batch_size=9)) is larger
    assert shared(replace(gpu, num_threads=2)) is not one
    on_the_cpu = shared(GRAPH)
    assert shared(replace(GRAPH, batch_size=900)) is on_the_cpu


@pytest.mark.parametrize(("threads", "wanted"), [(4, 4), (16, 16), (192, 16)])
def test_nvjpegs_memory_does_not_grow_with_the_cores(
    threads: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of device and pinned memory it holds buffers for each thread, as large as the padding."""
    made_with: dict[str, Any] = {}
    real = fn.decoders.image

    def image(*inputs: Any, **options: Any) -> Any:
        made_with.update(options)
        return real(*inputs, **options)

    monkeypatch.setattr(fn.decoders, "image", image)
    pipeline = replace(GRAPH, num_threads=threads, device=0, gpu_decodes=True).make()
    assert pipeline.num_threads == wanted
    each = made_with["device_memory_padding"] + 2 * made_with["host_memory_padding"]
    assert wanted * each <= 64 << 20
    assert made_with["hw_decoder_load"] == 1.0
    assert replace(GRAPH, num_threads=threads, device=0).make().num_threads == threads


def test_what_dali_says_of_npp_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a process, where it is not installed: nothing here needs it. All else that DALI says is heard."""
    monkeypatch.setattr(DALI, "cuda_checked", False)
    monkeypatch.setattr(DALI, "GetCudaVersion", lambda: 13_000)
    monkeypatch.setattr(DALI, "GetCufftVersion", lambda: 12_000)
    monkeypatch.setattr(DALI, "GetNppVersion", lambda: -1)
    build = Pipeline.build
    monkeypatch.setattr(Pipeline, "build", lambda pipeline: (DALI.check_cuda_runtime(), build(pipeline)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SharedPipeline(GRAPH)
        monkeypatch.setattr(DALI, "cuda_checked", False)
        monkeypatch.setattr(DALI, "GetCudaVersion", lambda: -1)
        with pytest.raises(Warning, match="GPU is not available"):
            SharedPipeline(GRAPH)


def test_outputs_are_taken_on_the_stream_of_the_loader_that_fed_them(
    converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes them: of two loaders, one may wait for what the other fed before. And nobody spins for a GPU."""
    (batch,) = read_batches(converted / "train", [4])
    files, box = [batch.encoded.image(i) for i in range(4)], np.tile(np.array([0, 0, 64, 64, 0], np.int32), (4, 1))
    pipeline = SharedPipeline(GRAPH)
    taken_on: list[Any] = []
    real = pipeline._pipeline.outputs

    def outputs(stream: Any = None) -> Any:
        taken_on.append(stream)
        return real()

    monkeypatch.setattr(pipeline._pipeline, "outputs", outputs)
    streams = ["of one", "of the other"]
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: streams.pop(0))
    pipeline.graph = replace(GRAPH, device=0)
    one, other = pipeline.submit(files, box), pipeline.submit(files, box)
    pipeline.result(other)
    pipeline.result(one)
    assert taken_on == ["of one", "of the other"]


def test_files_of_any_sizes_side_by_side(converted: Path) -> None:
    """As rows of one array, or apart."""
    (batch,) = read_batches(converted / "train", [8])
    encoded = batch.encoded
    assert isinstance(encoded.rows(), list)
    assert isinstance(in_rows(encoded).rows(), np.ndarray)
    pipeline = SharedPipeline(GRAPH)

    def pixels(ticket: Ticket) -> list[Any]:
        tensors = pipeline.result(ticket)
        return [np.array(tensors.at(i)) for i in range(len(tensors))]

    def submitted(encoded: Encoded) -> Ticket:
        return pipeline.submit(encoded.rows(), whole(encoded.sizes))

    each = [pixels(pipeline.submit([encoded.image(i)], whole(encoded.sizes[i : i + 1])))[0] for i in range(8)]
    turned, index = encoded.without([0, 3])
    for first, second in pairwise([encoded, in_rows(encoded), in_rows(turned), turned, encoded]):
        tickets = [submitted(one) for one in (first, second)]  # both under way at once
        for one, ticket in zip((first, second), tickets, strict=True):
            wanted = [each[i] for i in (index if one.ids is not encoded.ids else range(8))]
            assert all(np.array_equal(a, b) for a, b in zip(pixels(ticket), wanted, strict=True))


class Watched(np.ndarray[Any, Any]):
    """An array that can be asked whether it is still there."""


def lent(pipeline: SharedPipeline, encoded: Encoded) -> tuple[Ticket, weakref.ref[Watched]]:
    files = in_rows(encoded).rows()
    assert isinstance(files, np.ndarray)
    watched = files.copy().view(Watched)
    return pipeline.submit(watched, whole(encoded.sizes)), weakref.ref(watched)


def test_memory_that_dali_reads_stays_until_it_has_read_it(converted: Path) -> None:
    """Also where the pipeline has failed, and nobody holds a batch or the pipeline any more but DALI's own object."""
    (batch,) = read_batches(converted / "train", [8])
    pipeline: SharedPipeline | None = SharedPipeline(GRAPH)
    assert pipeline is not None
    first, memory = lent(pipeline, batch.encoded)
    pipeline.result(first)
    second, later = lent(pipeline, batch.encoded)
    assert memory() is None
    assert later() is not None
    pipeline.submit([np.frombuffer(b"<html>", np.uint8)], whole(np.array([6])))
    _, last = lent(pipeline, batch.encoded)
    pipeline.result(second)
    assert later() is None
    held = pipeline._pipeline._pipe
    with pytest.raises(Lost):
        pipeline.result(_)
    del pipeline, first, second, _
    gc.collect()
    assert last() is not None
    del held
    gc.collect()
    assert last() is None
