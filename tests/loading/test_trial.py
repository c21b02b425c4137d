"""Which way images take: a decoder that does not work here is replaced, with one warning that says what and why."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wdsremux
from tests.conftest import needs
from tests.support.batches import MEAN, STD, WAYS, made, read_batches
from wdsremux.errors import BackendError
from wdsremux.loading.backends import CPU, GPU, Backend, Batch, Plug, Setup, find, trial
from wdsremux.loading.backends.trial import Route, begin, judge, routes
from wdsremux.loading.device import Destination
from wdsremux.loading.output import Output
from wdsremux.loading.reader.encoded import Encoded

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said where there is no CUDA device")
CUDA = torch.device("cuda", 0)
HERE = torch.device("cpu")


class PretendsCuda(Destination):
    """A destination on a CPU that says it is CUDA device 0: what is built for it fails where it meets the driver."""

    def __init__(self) -> None:
        super().__init__(HERE)
        self.device = CUDA


class Nothing:
    """A backend that gives nothing."""

    rows = False

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        return iter(())

    def close(self) -> None:
        pass


def setup_for(destination: Destination, size: int = 32) -> Setup:
    output = Output(size=size, dtype=torch.float32, memory_format=torch.contiguous_format, mean=MEAN, std=STD)
    return Setup(output=output, batch_size=4, num_threads=1, destination=destination)


def two(first: Plug, second: Plug = lambda _: Nothing()) -> list[Route]:
    return [Route("dali", GPU, first), Route("dali", CPU, second)]


@pytest.fixture
def one(converted: Path) -> Encoded:
    """A sound image, without the sample table, which it would keep open."""
    (batch,) = read_batches(converted / "train", [1])
    encoded = batch.encoded
    sides = encoded.width.copy(), encoded.height.copy()
    return Encoded(encoded.ids, *sides, encoded.buffer, encoded.starts, encoded.sizes)


@NO_GPU
@pytest.mark.parametrize("name", ["dali", "torchvision"])
def test_a_decoder_that_fails_is_replaced_with_one_warning(
    one: Encoded, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real libraries meet a real lack of a driver; the plug that is made next is told that the CPU decodes."""
    monkeypatch.setattr("wdsremux.loading.transforms.Transforms.__init__", lambda *_: None)  # places tensors there
    made_: list[Setup] = []
    real = find(name, HERE)

    def plug(given: Setup) -> Backend:
        made_.append(given)
        return real(given) if given.decode == GPU else Nothing()

    sentence = r"^decoding on the GPU does not work on this machine, so images are decoded on the CPU: .*CUDA"
    with pytest.warns(UserWarning, match=sentence) as told:
        begun = begin([Route(name, GPU, plug), Route(name, CPU, plug)], setup_for(PretendsCuda()), lambda: one)
    assert len(told) == 1
    assert [given.decode for given in made_] == [GPU, CPU]
    assert begun.decoder == f"{name}, cpu"


@pytest.mark.parametrize("way", [way for way, (_, decode) in WAYS.items() if decode == GPU])
def test_a_decoder_that_works_is_kept_without_a_word(one: Encoded, way: str) -> None:
    with warnings.catch_warnings(), made(way) as backend:
        warnings.simplefilter("error")
        assert begin(two(lambda _: backend), setup_for(Destination(HERE), 64), lambda: one).backend is backend


@pytest.mark.parametrize("size", [96, 300])
def test_what_is_compared_is_the_middle_of_the_picture(one: Encoded, size: int) -> None:
    """As it lies, so that DALI's pixels on a CPU are libjpeg's to the last bit; resized where it is too small."""
    needs("nvidia.dali", "DALI")
    judged: list[bool] = []

    def note(pixels: Any, wanted: Any, *, exact: bool) -> None:
        judged.append(np.array_equal(pixels, wanted))
        judge(pixels, wanted, exact=exact)

    with pytest.MonkeyPatch.context() as patch, made("dali, as for a GPU", size=size) as backend:
        patch.setattr(trial, "judge", note)
        begin(two(lambda _: backend), setup_for(Destination(HERE), size), lambda: one)
    assert judged == [size < 256]


def test_a_decoder_that_is_the_cpus_in_silence_is_found_out(one: Encoded) -> None:
    needs("nvidia.dali", "DALI")
    with made("dali, as for a GPU", size=96) as backend:
        sentence = (
            r"decoded on the CPU: the pixels are exactly those of the CPU's decoder, so they were decoded on the CPU\. "
        )
        with pytest.warns(UserWarning, match=sentence):
            begun = begin(two(lambda _: backend), setup_for(PretendsCuda(), 96), lambda: one)
    assert begun.decoder == "dali, cpu"


def test_a_decoder_of_black_pictures_is_found_out(one: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("torchcodec.decoders", "TorchCodec")
    from torchcodec.decoders import decode_jpeg

    def black(*arguments: Any, **options: Any) -> Any:
        return [torch.zeros_like(image) for image in decode_jpeg(*arguments, **options)]

    monkeypatch.setattr("torchcodec.decoders.decode_jpeg", black)
    sentence = r"decoded on the CPU: the decoded images differ from the CPU's by \d+ of 255"
    with made("torchvision, as for a GPU") as backend, pytest.warns(UserWarning, match=sentence):
        begin(two(lambda _: backend), setup_for(Destination(HERE), 64), lambda: one)


def test_what_is_judged() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    flat = np.full((64, 64, 3), 128, np.uint8)
    rounded: np.ndarray[Any, np.dtype[np.uint8]] = np.bitwise_xor(photo, np.uint8(1))
    for pixels, wanted in ((photo, rounded), (flat, flat)):  # one colour comes out the same of every decoder
        judge(pixels, wanted, exact=True)
    judge(photo, photo, exact=False)
    for pixels in (np.zeros_like(photo), photo[::-1], photo[..., ::-1] // 2):
        with pytest.raises(BackendError, match="the decoded images differ from the CPU's by"):
            judge(pixels, photo, exact=True)
    with pytest.raises(BackendError, match="exactly those of the CPU's decoder"):
        judge(photo, photo.copy(), exact=True)


def test_a_fault_that_comes_up_late_is_met(one: Encoded) -> None:
    """CUDA says what went wrong when it is waited for."""
    needs("nvidia.dali", "DALI")

    class Late(Destination):
        def finish(self) -> float:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    setup, plug = setup_for(Late(HERE)), find("dali", HERE)
    with (
        pytest.warns(UserWarning, match=r"decoded on the CPU: CUDA error: an illegal memory access"),
        contextlib.closing(begin(two(plug, plug), setup, lambda: one).backend),
    ):
        pass


def test_a_decoder_for_the_cpu_is_not_tried(one: Encoded) -> None:
    tried: list[Encoded] = []

    class Watched(Nothing):
        def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
            tried.extend(batch.encoded for batch in batches)
            return iter(())

    setup = setup_for(Destination(HERE))
    begin(two(lambda _: Watched())[:1], setup, lambda: one)
    assert not tried
    begin(two(lambda _: Watched()), setup, lambda: one)
    assert [encoded is one for encoded in tried] == [True]
    tried.clear()  # a class is a cycle, and would keep the one table open


def test_where_neither_works_it_is_one_error(one: Encoded) -> None:
    """As with a driver that DALI's build of CUDA cannot use: its way over the CPU ends on that GPU, too."""

    def broken(setup: Setup) -> Backend:
        raise BackendError("DALI cannot build its pipeline: CUDA driver version is insufficient")

    with pytest.raises(BackendError, match=r'insufficient\. Choose backend="torchvision"'):
        begin(two(broken, broken), setup_for(Destination(HERE)), lambda: one)


@pytest.mark.parametrize(
    ("name", "device", "decode", "wanted"),
    [
        ("auto", CUDA, GPU, ["dali, gpu", "torchvision, cpu"]),
        ("dali", CUDA, GPU, ["dali, gpu", "dali, cpu"]),
        ("torchvision", CUDA, GPU, ["torchvision, gpu", "torchvision, cpu"]),
        ("auto", CUDA, CPU, ["dali, cpu"]),
        ("auto", HERE, CPU, ["torchvision, cpu"]),
        ("dali", HERE, CPU, ["dali, cpu"]),
    ],
)
def test_what_stands_in_for_what(name: str, device: torch.device, decode: str, wanted: list[str]) -> None:
    needs("nvidia.dali", "DALI")
    assert list(map(str, routes(name, device, decode))) == wanted


def test_torchvision_stands_in_for_dali_with_one_warning(one: Encoded) -> None:
    """With backend="auto", where DALI cannot use the CUDA at hand."""

    def broken(setup: Setup) -> Backend:
        raise BackendError("DALI cannot build its pipeline: CUDA driver version is insufficient")

    ways = [Route("dali", GPU, broken), Route("torchvision", CPU, find("torchvision", HERE))]
    sentence = r"^decoding on the GPU does not work on this machine, .* on the CPU with torchvision: DALI cannot build"
    with pytest.warns(UserWarning, match=sentence) as told:
        begun = begin(ways, setup_for(Destination(HERE)), lambda: one)
    begun.backend.close()
    assert (len(told), begun.decoder) == (1, "torchvision, cpu")


@pytest.mark.parametrize(
    ("capability", "libraries", "told"),
    [((9, 0), "libnvjpeg.so.13", True), ((9, 0), "libnvcuvid.so.1", False), ((7, 5), "libnvjpeg.so.13", False)],
)
def test_a_jpeg_engine_that_is_not_used_is_told_of(
    one: Encoded,
    capability: tuple[int, int],
    libraries: str,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Containers come without the driver's part for video, and with it nvJPEG loses the engine without a word."""
    maps = tmp_path / "maps"
    maps.write_text(f"7f00-7f01 r-xp 00000000 00:00 1 /usr/lib/{libraries}\n")
    monkeypatch.setattr(trial, "_MAPS", maps)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    caught = pytest.warns(
        UserWarning, match=r"^the hardware JPEG decoder of this GPU is not used, because the driver's libnvcuvid"
    )
    with caught if told else warnings.catch_warnings():
        begun = begin(two(lambda _: Nothing()), setup_for(PretendsCuda()), lambda: one)
    assert begun.decoder == ("dali, gpu without its JPEG engine" if told else "dali, gpu")


def test_stats_say_what_decodes(converted: Path, backend: str) -> None:
    with wdsremux.DataLoader(converted, 8, size=32, backend=backend) as loader:
        assert loader.stats().decoder is None
        next(iter(loader))
        assert loader.stats().decoder == f"{backend}, cpu"
        assert str(loader.stats()).endswith(f" Decoder: {backend}, cpu.")
    with wdsremux.DataLoader(converted, 8, fields=("label",)) as loader:
        next(iter(loader))
        assert loader.stats().decoder is None
