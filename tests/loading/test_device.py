"""Where batches are to go, and what is said where that cannot be."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wdsremux
from tests.conftest import needs
from wdsremux.errors import BackendError, OptionError
from wdsremux.loading import device
from wdsremux.loading.backends import CPU, GPU
from wdsremux.loading.device import Destination
from wdsremux.loading.options import Options
from wdsremux.loading.output import Output

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said where there is no CUDA device")


@NO_GPU
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_a_device_that_is_not_there(converted: Path, name: str) -> None:
    sentence = rf'^device \'{name}\' does not exist: torch .* finds no CUDA device\. Choose device="cpu"$'
    with pytest.raises(BackendError, match=sentence):
        wdsremux.DataLoader(converted, device=name)


@NO_GPU
def test_without_a_gpu_the_default_is_the_cpu(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 32, size=32) as loader:
        images, labels = next(iter(loader))
    assert (images.device.type, labels.device.type) == ("cpu", "cpu")


@pytest.mark.parametrize("wrong", ["gpu", "cuda:x", 1.5, "mps", "meta"])
def test_what_is_no_device(converted: Path, wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"^Invalid device \(got .*\)\. Supported: "):
        wdsremux.DataLoader(converted, device=wrong)


def test_a_gpu_cannot_decode_for_a_cpu(converted: Path) -> None:
    with pytest.raises(OptionError, match=r'^decode="gpu" needs a CUDA device \(got \'cpu\'\)\. Choose '):
        wdsremux.DataLoader(converted, device="cpu", decode="gpu")


class _Cuda:
    """What `torch.cuda` would say on a machine with some devices."""

    def __init__(self, count: int, current: int) -> None:
        self._count, self._current = count, current

    def is_available(self) -> bool:
        return self._count > 0

    def device_count(self) -> int:
        return self._count

    def is_initialized(self) -> bool:
        return True

    def current_device(self) -> int:
        return self._current


@pytest.mark.parametrize(
    ("count", "current", "local_rank", "asked", "wanted"),
    [
        (8, 0, None, None, "cuda:0"),
        (8, 0, "3", None, "cuda:3"),  # torchrun, and nobody called set_device
        (8, 5, "3", None, "cuda:5"),  # somebody did
        (1, 0, "3", None, "cuda:0"),  # CUDA_VISIBLE_DEVICES shows each rank its own
        (8, 0, "3", "cuda", "cuda:3"),
        (8, 0, "3", "cuda:1", "cuda:1"),
        (8, 0, "3", "cpu", "cpu"),
        (0, 0, "3", None, "cpu"),
        (8, 0, "x", None, "cuda:0"),
    ],
)
def test_which_device_is_meant(
    monkeypatch: pytest.MonkeyPatch, count: int, current: int, local_rank: str | None, asked: str | None, wanted: str
) -> None:
    monkeypatch.setattr(torch, "cuda", _Cuda(count, current))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert device.resolve(asked) == torch.device(wanted)


def test_a_number_that_is_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", _Cuda(2, 0))
    with pytest.raises(BackendError, match=r"^device 'cuda:2' does not exist\. Supported: 'cuda:0' to 'cuda:1'$"):
        device.resolve("cuda:2")


@pytest.mark.parametrize("asked", [None, "cuda", "cuda:1"])
@pytest.mark.parametrize("backend", ["auto", "dali", "torchvision"])
def test_a_loader_that_is_made_has_not_begun_cuda(
    converted: Path, asked: str | None, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has begun CUDA cannot fork: `notebook_launcher`, and workers that are forked."""
    needs("nvidia.dali", "DALI")

    def begun(*_: Any) -> Any:
        raise AssertionError("CUDA was begun")

    for name in ("is_available", "init", "_lazy_init", "current_device", "get_device_capability"):
        monkeypatch.setattr(torch.cuda, name, begun)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with wdsremux.DataLoader(converted, 8, size=32, device=asked, backend=backend) as loader:
        assert len(loader) > 0
        loader.load_state_dict(loader.state_dict())
        loader.set_epoch(1)


def test_a_device_that_does_not_work_is_none(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML counts cards that the driver or this build of torch cannot use; that comes out at the first batch."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with wdsremux.DataLoader(converted, 8, size=32) as loader:
        images, _ = next(iter(loader))
    assert images.device.type == "cpu"
    with (
        wdsremux.DataLoader(converted, 8, size=32, device="cuda") as loader,
        pytest.raises(BackendError, match=r"^device 'cuda' does not exist: torch .* finds no CUDA device"),
    ):
        next(iter(loader))


@pytest.mark.parametrize(
    ("asked", "where", "wanted"), [(None, "cuda", GPU), (None, "cpu", CPU), ("cpu", "cuda", CPU), ("gpu", "cuda", GPU)]
)
def test_what_decodes(asked: str | None, where: str, wanted: str) -> None:
    assert options(decode=asked).decoder(torch.device(where)) == wanted


def options(**given: Any) -> Options:
    from wdsremux.loading.augment import WHOLE

    output = Output(
        size=32,
        dtype=torch.float32,
        memory_format=torch.contiguous_format,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    values: dict[str, Any] = {
        "batch_size": 4,
        "tail": "even",
        "fields": ("label",),
        "augment": WHOLE,
        "output": output,
        "backend": "auto",
        "device": None,
        "decode": None,
        "rank": None,
        "world_size": None,
        "num_threads": None,
        "prefetch": 2,
        "on_error": "raise",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "cuda", _Cuda(1, 0))
        return Options(**values | given)


@pytest.mark.parametrize("gpu_decodes", [True, False])
def test_dalis_graph_for_a_gpu_can_be_drawn_without_one(gpu_decodes: bool) -> None:
    """Operators check arguments and where inputs lie when the graph is made; only building needs a driver."""
    needs("nvidia.dali", "DALI")
    from wdsremux.loading.backends.dali_pipelines import Graph, SharedPipeline

    graph = Graph(size=64, batch_size=8, num_threads=1, device=0, gpu_decodes=gpu_decodes, normalise=None)
    assert graph.make() is not None
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match=r"^DALI cannot build its pipeline: .*CUDA"):
            SharedPipeline(graph)


class Dead(Destination):
    """A device that fails whatever is asked of it, as CUDA does after a fault in a kernel of the caller's."""

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self.finish()
        yield

    def finish(self) -> float:
        raise RuntimeError("CUDA error: device-side assert triggered")


def test_a_device_that_failed_is_told_and_not_waited_for(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wdsremux.DataLoader(converted, 8, size=32, fields=("label",)) as loader:
        monkeypatch.setattr("wdsremux.loading.session.Destination", Dead)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"^CUDA error: device-side assert triggered$"):
                next(iter(loader))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wdsremux")]


def test_dalis_reason_is_in_the_error() -> None:
    needs("nvidia.dali", "DALI")
    from wdsremux.loading.backends.dali_pipelines import Graph, Lost, SharedPipeline

    pipeline = SharedPipeline(
        Graph(size=64, batch_size=8, num_threads=1, device=None, gpu_decodes=False, normalise=None)
    )
    ticket = pipeline.submit([np.frombuffer(b"no image", np.uint8)], np.zeros((1, 6), np.int32))
    with pytest.raises(Lost, match=r"^nvImageCodec failure"):
        pipeline.result(ticket)


# Streams, of a CUDA that is not there


class _Streams:
    """Stands for `torch.cuda`'s streams and events, and notes what waits for what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.made = 0
        streams = self

        class Stream:
            def __init__(self, device: torch.device, priority: int) -> None:
                streams.made += 1
                self.name, self.device = f"stream {streams.made}", device

            def wait_event(self, event: Event) -> None:
                streams.log.append(f"{self.name} waits for {event.after}")

        class Event:
            def __init__(self, **_: Any) -> None:
                self.after = "nothing"

            def record(self, stream: Stream) -> None:
                self.after = stream.name

            def synchronize(self) -> None:
                streams.log.append(f"host waits for {self.after}")

        @contextlib.contextmanager
        def current(stream: Stream) -> Iterator[None]:
            streams.log.append(f"on {stream.name}")
            yield
            streams.log.append(f"off {stream.name}")

        for name, double in {
            "Stream": Stream,
            "Event": Event,
            "stream": current,
            "device": contextlib.nullcontext,
        }.items():
            monkeypatch.setattr(torch.cuda, name, double)
        monkeypatch.setattr(device, "_idle", {})


class _Tensor:
    def __init__(self, log: list[str]) -> None:
        self._log = log

    def record_stream(self, stream: Any) -> None:
        self._log.append(f"kept for {stream.name}")


def test_a_side_streams_work_is_at_rest_before_more_and_waited_for_by_its_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = _Streams(monkeypatch)
    side = Destination(torch.device("cuda", 0)).side()
    tensors: list[Any] = [_Tensor(streams.log), _Tensor(streams.log)]
    with side.working():
        streams.log.append("decode")
        side.hand_over(tensors)
    assert streams.log == [
        "host waits for stream 2",
        "on stream 2",
        "decode",
        "stream 1 waits for stream 2",
        "kept for stream 1",
        "kept for stream 1",
        "off stream 2",
    ]


def test_streams_are_left_to_the_next_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind: torch keeps memory for each, and has few of them."""
    streams = _Streams(monkeypatch)
    for _ in range(5):
        destination = Destination(torch.device("cuda", 0))
        destination.side()
        destination.close()
    assert streams.made == 2


def test_a_cpu_has_no_side_stream() -> None:
    side, values = Destination(torch.device("cpu")).side(), torch.ones(3)
    with side.working():
        side.hand_over([values])
    assert (side._stream, side._readers) == (None, None)
