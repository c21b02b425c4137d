"""Decoding on the GPU is a batch ahead of what is done to the pictures, on a stream of its own, and no further."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import needs
from tests.support.batches import images_of, made, read_batches
from wdsremux.errors import BackendError
from wdsremux.loading.backends import Batch
from wdsremux.loading.backends.resample import resample
from wdsremux.loading.device import Destination, Side

WAY = "torchvision, as for a GPU"
MODULE = "wdsremux.loading.backends.torchvision"
WAIT_S = 20.0  #: for another thread, on a machine that has much else to do


class Decoder:
    """TorchCodec's, watched."""

    def __init__(self) -> None:
        from torchcodec.decoders import decode_jpeg

        self._real = decode_jpeg
        self.begun = [threading.Event() for _ in range(20)]  #: set when so many batches before were begun
        self.gate = threading.Event()  #: no batch is done before
        self.gate.set()
        self.threads: list[str] = []
        self.fails_at: int | None = None  #: the batch at which it fails, as nvJPEG may with pictures that are sound

    def __call__(self, files: list[torch.Tensor], **options: Any) -> Any:
        number = len(self.threads)
        self.threads.append(threading.current_thread().name)
        self.begun[number].set()
        assert self.gate.wait(WAIT_S)
        if number == self.fails_at:
            raise RuntimeError("nvjpegDecode failed: 6")
        return self._real(files, **options)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    needs("torchcodec.decoders", "TorchCodec")
    found = Decoder()
    monkeypatch.setattr("torchcodec.decoders.decode_jpeg", found)
    return found


def test_the_next_batch_is_decoded_while_kernels_of_this_one_are_launched(
    converted: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = read_batches(converted / "train", [4] * 4)
    launched: list[str] = []

    def late(*arguments: Any) -> torch.Tensor:
        assert decoder.begun[min(len(launched) + 1, len(batches) - 1)].wait(WAIT_S), "the next is not decoded yet"
        launched.append(threading.current_thread().name)
        return resample(*arguments)

    monkeypatch.setattr(f"{MODULE}.resample", late)
    with made(WAY) as backend:
        images_of(backend, batches)
    assert launched == [threading.current_thread().name] * 4
    assert {name.rpartition("_")[0] for name in decoder.threads} == {"wdsremux-nvjpeg"}


def test_one_batch_is_decoded_ahead_and_one_read(converted: Path, decoder: Decoder) -> None:
    taken: list[int] = []

    def read() -> Iterator[Batch]:
        for number, batch in enumerate(read_batches(converted / "train", [4] * 9)):
            taken.append(number)
            yield batch

    with made(WAY) as backend:
        run = backend.run(read())
        for number in range(3):
            next(run)
            assert decoder.begun[number + 1].wait(WAIT_S)
            assert not decoder.begun[number + 2].wait(0.1)
            assert number + 2 <= len(taken) <= number + 3
        run.close()  # type: ignore[attr-defined]  # a generator


def test_a_run_that_is_closed_waits_for_the_decoder_and_begins_no_other_batch(
    converted: Path, decoder: Decoder
) -> None:
    with made(WAY) as backend:
        run = backend.run(iter(read_batches(converted / "train", [4] * 6)))
        next(run)
        assert decoder.begun[1].wait(WAIT_S)
        decoder.gate.clear()
        threading.Timer(0.2, decoder.gate.set).start()
        run.close()  # type: ignore[attr-defined]  # a generator
        assert len(decoder.threads) == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wdsremux")]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_decoder_that_fails_ahead_fails_with_its_own_batch(converted: Path, decoder: Decoder, place: int) -> None:
    batches, found = read_batches(converted / "train", [4] * 5), list[Batch]()
    decoder.fails_at = place
    with made(WAY) as backend, pytest.raises(BackendError, match=r"^TorchCodec failed: nvjpegDecode failed: 6$"):
        found.extend(batch for batch, _ in backend.run(iter(batches)))  # extend keeps what came before the error
    assert found == batches[:place]
    assert len(decoder.threads) == place + 1


class Watched(Side):
    """A side stream that notes what happens on it, in order, and what is given to it."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(None, None)
        self._log = log

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self._log.append("begin")
        yield
        self._log.append("end")

    def hand_over(self, tensors: Iterable[torch.Tensor]) -> None:
        self._log.append(f"hand over {[len(tensor) > 0 for tensor in tensors]}")


def test_pictures_are_made_on_the_side_stream_and_handed_over_before_it_is_left(
    converted: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the order matters: what is not handed over may be overwritten, or read before it is written."""
    log: list[str] = []
    monkeypatch.setattr(Destination, "side", lambda _: Watched(log))
    with made(WAY) as backend:
        monkeypatch.setattr(backend._way, "_decode", lambda *a, **k: log.append("decode") or decoder(*a, **k))  # type: ignore[attr-defined, func-returns-value]
        images_of(backend, read_batches(converted / "train", [4] * 2))
    assert log == ["begin", "decode", "hand over [True]", "end"] * 2
