"""On a GPU, every use of memory is ordered after what fills it, and every new use after the last; seen without one.

Each wait that this rests on is taken out in turn, and is missed.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import needs
from tests.support.augments import SINGLE_KINDS
from tests.support.batches import MEAN, STD, read_batches
from tests.support.launches import GPU, on_the_host
from tests.support.streams import Order, Race, Stream, watched
from wdsremux.loading import backends, device
from wdsremux.loading.augment import Augment
from wdsremux.loading.backends import Backend, Batch, Setup, canary
from wdsremux.loading.device import Destination, Side
from wdsremux.loading.output import Output

WAYS = ("torchvision, gpu", "torchvision, cpu", "dali, gpu")
SIZE = 32


@pytest.fixture
def batches(converted: Path) -> list[Batch]:
    """Five, of which the canary looks at one image each."""
    found = read_batches(converted / "train", [6, 6, 6, 6, 3], Augment(**SINGLE_KINDS["everything"]), SIZE)
    return [replace(batch, encoded=replace(batch.encoded, split=None)) for batch in found]


class Dali:
    """A pipeline of DALI's as regards order: it works on a stream of its own, and hands over on the one it is given."""

    def __init__(self, order: Order) -> None:
        self._order, self._stream, self._sizes = order, Stream(GPU), deque[int]()
        self._pipe = self  # of C++ in DALI

    def hands_over_on(self, stream: Stream) -> Stream:
        return stream

    def feed_input(self, name: str, values: Any) -> None:
        if name == "images":
            self._sizes.append(len(values))

    def schedule_run(self) -> None:
        pass

    def outputs(self, stream: Stream) -> list[Dali]:
        self._given = stream
        return [self]

    def as_tensor(self) -> torch.Tensor:
        stream = self.hands_over_on(self._given)
        pixels = torch.empty((self._sizes.popleft(), SIZE, SIZE, 3), dtype=torch.uint8, device=GPU)
        self._order.launch("DALI", self._stream.name, [], [pixels])
        self._order.memory[pixels.untyped_storage()._cdata].recorded.add(self._stream.name)  # by DALI's own allocator
        self._order.join(stream.name, self._order.clock(self._stream.name))
        return pixels


def made(way: str, destination: Destination, order: Order, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend as for a GPU; what a library decodes has no values."""
    name, _, decode = way.partition(", ")
    form = {"dtype": torch.float16, "memory_format": torch.channels_last}
    output = Output(size=SIZE, mean=MEAN, std=STD, **form)  # type: ignore[arg-type]
    setup = Setup(output=output, batch_size=6, num_threads=1, destination=destination, decode=decode, after_crop=True)
    if name == "dali":
        from wdsremux.loading.backends import dali
        from wdsremux.loading.backends.dali_pipelines import Graph, SharedPipeline, _Lent

        pipeline: Any = SharedPipeline.__new__(SharedPipeline)
        pipeline.graph = Graph(SIZE, 6, 1, device=0, gpu_decodes=True, normalise=None)
        pipeline._lock, pipeline._begun, pipeline._under_way = threading.Lock(), True, deque()
        pipeline._pipeline = Dali(order)
        pipeline._lent = _Lent(pipeline._pipeline)
        monkeypatch.setattr(dali, "shared", lambda _: pipeline)
        monkeypatch.setattr(torch.utils.dlpack, "from_dlpack", lambda tensor: tensor)
    return backends.find(name, GPU)(setup)


def decoder(order: Order) -> Callable[..., list[torch.Tensor]]:
    """TorchCodec's, of pictures of 300 x 256 px: it writes at once, and waits for what it does."""

    def decode_jpeg(files: list[torch.Tensor], **_: Any) -> list[torch.Tensor]:
        order.at_rest(order.on.name)
        images = [torch.empty((3, *SIDES.popleft()), dtype=torch.uint8, device=GPU) for _ in files]
        order.launch("nvJPEG", order.on.name, [], images)
        order.join(order.thread, order.clock(order.on.name))
        return images

    return decode_jpeg


SIDES: deque[tuple[int, int]] = deque()


def train(
    way: str, batches: list[Batch], order: Order, monkeypatch: pytest.MonkeyPatch, *, labels: bool = False
) -> None:
    """Batches through a backend, as the feed's thread has them made, and to a caller who works on another stream.

    With labels, as their copy is one more thing that the feed waits for.

    Raises:
        Race: where something is not waited for.
    """
    SIDES.clear()
    for batch in batches:
        SIDES.extend(zip(batch.encoded.height.tolist(), batch.encoded.width.tolist(), strict=True))
    monkeypatch.setattr("torchcodec.decoders.decode_jpeg", decoder(order))
    monkeypatch.setattr(canary, "PERIOD", 6)
    monkeypatch.setattr(canary, "by_the_cpu", lambda *_: None)  # values are not there
    monkeypatch.setattr(canary, "difference", lambda *_: 0.0)
    destination, callers = Destination(GPU), Stream(GPU)
    with destination.working():
        backend = made(way, destination, order, monkeypatch)
    try:
        with destination.working():
            for batch, images in backend.run(iter(batches)):
                destination.finish()
                given = [images]
                if labels:
                    given.append(destination.send(np.zeros(len(batch.encoded), np.int64)))
                with handed_over(order, callers):
                    destination.receive(*given)
                    order.launch("training", callers.name, given, [images])
    finally:
        backend.close()
    order.check_freed()


@contextlib.contextmanager
def handed_over(order: Order, stream: Stream) -> Iterator[None]:
    """In the caller's thread, which has seen what the feed's had when it gave the batch away."""
    order.join("caller", order.clock("feed"))
    feed = order.thread, order.on
    order.thread, order.on = "caller", stream
    yield
    order.thread, order.on = feed


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_races(way: str, labels: bool, batches: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    needs("nvidia.dali", "DALI")
    needs("torchcodec.decoders", "TorchCodec")
    with watched() as order:
        train(way, batches, order, monkeypatch, labels=labels)
        lines = {access.line for memory in order.memory.values() for access in memory.accesses}
    assert len(lines) >= (3 if way.endswith("gpu") else 2)
    assert len(order.memory) > 50


# What it rests on, taken out


@contextlib.contextmanager
def not_at_rest(side: Side) -> Iterator[None]:
    """`Side.working` but for its wait."""
    stream: Any = side._stream
    with torch.cuda.stream(stream):
        yield


def unclaimed(side: Side, tensors: Iterable[torch.Tensor]) -> None:
    """`Side.hand_over` but for `record_stream`."""
    readers, stream = side._readers, side._stream
    assert readers is not None
    assert stream is not None
    readers.wait_event(device._begun(stream))


def reused(destination: Destination, shape: tuple[int, ...]) -> torch.Tensor:
    """`Destination.staging` with one piece of memory for all batches."""
    pinned = vars(destination).setdefault("pinned", torch.empty((6, *shape[1:]), dtype=torch.uint8, pin_memory=True))
    kept: torch.Tensor = on_the_host(lambda: pinned[: shape[0]])
    return kept


def at_once(destination: Destination, tensor: torch.Tensor) -> Callable[[], Any]:
    """`Destination.fetch` but for its wait."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    return host.numpy


def nothing(*_: Any) -> float:
    return 0.0


def elsewhere(pipeline: Dali, _: Stream) -> Stream:
    """DALI hands over on the stream of another loader."""
    return Stream(GPU)


#: Each with a way on which it matters, what is put in its place, and what then races.
TAKEN_OUT: dict[str, tuple[str, type, str, Any, str]] = {
    "the feed's wait": ("torchvision, cpu", Destination, "finish", nothing, "^training on .* does not wait for"),
    "the feed's wait, nvJPEG": (
        "torchvision, gpu",
        Destination,
        "finish",
        nothing,
        "^training on .* does not wait for",
    ),
    "the feed's wait, DALI": ("dali, gpu", Destination, "finish", nothing, "^training on .* does not wait for"),
    "the caller's claim": ("torchvision, cpu", Destination, "receive", nothing, "given out again before training"),
    "nvJPEG's rest": ("torchvision, gpu", Side, "working", not_at_rest, "under way where nvJPEG writes at once$"),
    "the wait for nvJPEG": ("torchvision, gpu", Stream, "wait_event", nothing, "does not wait for cat on"),
    "the claim on nvJPEG's": ("torchvision, gpu", Side, "hand_over", unclaimed, "given out again before"),
    "the canary's wait": ("dali, gpu", Destination, "fetch", at_once, "^wdsremux-canary reads what is being copied"),
    "what pins anew": ("torchvision, cpu", Destination, "staging", reused, "^pinned memory is used again"),
    "DALI's own wait": ("dali, gpu", Dali, "hands_over_on", elsewhere, "does not wait for DALI on"),
}


@pytest.mark.parametrize("what", TAKEN_OUT)
def test_each_wait_is_missed(what: str, batches: list[Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    needs("nvidia.dali", "DALI")
    needs("torchcodec.decoders", "TorchCodec")
    way, owner, name, instead, sentence = TAKEN_OUT[what]
    monkeypatch.setattr(owner, name, instead)
    with watched() as order, pytest.raises(Race, match=sentence):
        train(way, batches, order, monkeypatch)
