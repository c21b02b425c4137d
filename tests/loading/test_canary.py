"""Images that a GPU decoded are compared with the CPU's now and then; here, the decoders of a GPU's ways on a CPU."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import jpeg, needs
from tests.support.batches import LIBRARIES, WAYS, images_of, made, read_batches, spoil
from wdsremux.errors import BackendError, FormatError, ImageError
from wdsremux.loading.augment import Augment
from wdsremux.loading.backends import GPU, Batch, canary
from wdsremux.loading.backends.canary import FAR, PERIOD, Canary, by_the_cpu, difference
from wdsremux.loading.device import Destination
from wdsremux.loading.reader import skip_log

GPUS = [way for way, (_, decode) in WAYS.items() if decode == GPU]


@pytest.fixture(params=GPUS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way of a GPU; skips the test where its library cannot be loaded."""
    found: str = request.param
    needs(*LIBRARIES[WAYS[found]])
    return found


def blacken(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on that decoder gives black pictures, as decoders have done on new cards."""
    if WAYS[way][0] == "dali":
        real = torch.utils.dlpack.from_dlpack
        monkeypatch.setattr(torch.utils.dlpack, "from_dlpack", lambda images: torch.zeros_like(real(images)))
        return
    import torchcodec.decoders

    decode = torchcodec.decoders.decode_jpeg

    def black(*arguments: Any, **options: Any) -> Any:
        return [torch.zeros_like(image) for image in decode(*arguments, **options)]

    monkeypatch.setattr("torchcodec.decoders.decode_jpeg", black)


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the ids of the samples that are compared."""
    real, seen = canary.by_the_cpu, list[int]()

    def noted(batch: Batch, i: int, size: int) -> Any:
        seen.append(int(batch.encoded.ids[i]))
        return real(batch, i, size)

    monkeypatch.setattr(canary, "by_the_cpu", noted)
    return seen


def numbered(batches: list[Batch], first: int) -> list[Batch]:
    """The same batches as samples `first`, `first + 1`, …, of no split."""
    found = [replace(batch.encoded, ids=batch.encoded.ids + first, split=None) for batch in batches]
    return [replace(batch, encoded=encoded) for batch, encoded in zip(batches, found, strict=True)]


def test_sound_pictures_are_passed(way: str, converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops, flips and all; and every one in `PERIOD` is looked at, whatever batch it is in."""
    batches = numbered(read_batches(converted / "train", [16] * 6, Augment(flip=0.5)), PERIOD - 40)
    seen = looked_at(monkeypatch)
    with made(way) as tested:
        images_of(tested, batches)
        finish(tested)
    assert seen == [PERIOD]
    monkeypatch.setattr(canary, "PERIOD", 5)
    with made(way) as tested:
        images_of(tested, batches)
        finish(tested)
    assert len(seen) == 1 + 19


def finish(tested: Any) -> None:
    """Have the canary of a backend wait for what it took."""
    way = getattr(tested, "_way", tested)
    way._canary.finish()


def test_a_black_picture_is_one_error(way: str, converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the decoder, the driver (on a GPU) and the sample, no more than some batches later."""
    batches = numbered(read_batches(converted / "train", [16] * 6), PERIOD - 20)
    blacken(way, monkeypatch)
    decoder = {"dali": "DALI", "torchvision": "TorchCodec"}[WAYS[way][0]]
    sentence = rf"^sample {PERIOD} was decoded wrongly by {decoder} \d\S+ on the CPU: it differs .* by \d+ of 255\."
    with made(way) as tested, pytest.raises(BackendError, match=sentence):
        taken(tested, batches)


def taken(tested: Any, batches: list[Batch]) -> None:
    for _ in tested.run(iter(batches)):
        pass
    finish(tested)


def looked(bird: Canary, batch: Batch, pixels: torch.Tensor) -> None:
    bird.look(batch, pixels)
    bird.finish()


@pytest.mark.parametrize("skip", [False, True])
def test_what_only_the_gpu_can_decode(
    skip: bool, converted: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that the CPU refuses is refused, as `on_error` has it."""
    monkeypatch.setattr(skip_log, "LOG", skip_log.SkipLog())
    (batch,) = read_batches(converted / "train", [4])
    pixels = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
    for damaged, kind in ((False, ImageError), (True, FormatError)):
        raised = contextlib.nullcontext() if skip else pytest.raises(kind, match=r"^sample 0 at ")
        with contextlib.closing(Canary("Some 1.0", Destination(torch.device("cpu")), skip=skip)) as bird, raised:
            looked(bird, spoil(batch, 0, damaged=damaged), pixels)
        del raised  # its traceback holds this frame
    assert len(caplog.records) == (2 if skip else 0)


def test_what_counts_as_another_picture(converted: Path) -> None:
    """Not the nearest chroma value in place of an interpolated one; but no picture, or a channel that is another's."""
    import simplejpeg

    (batch,) = read_batches(converted / "train", [60])
    for i in range(60):
        data = batch.encoded.image(i).tobytes()
        fancy, nearest = (simplejpeg.decode_jpeg(data, fastupsample=fast) for fast in (False, True))
        assert difference(nearest, fancy) < FAR / 4
        wanted, other = by_the_cpu(batch, i, 64), by_the_cpu(batch, (i + 30) % 60, 64)
        assert difference(np.zeros_like(wanted), wanted) > FAR
        assert difference(other, wanted) > FAR
        assert difference(fancy[..., ::-1], fancy) > FAR or fancy.std(2).mean() < FAR  # a picture without colours
    blocks = np.random.default_rng(0).integers(0, 2, (128, 128, 3)).astype(np.uint8).repeat(2, 0).repeat(2, 1) * 255
    worst = jpeg(blocks, quality=95, subsampling=2)
    fancy, nearest = (simplejpeg.decode_jpeg(worst, fastupsample=fast) for fast in (False, True))
    assert np.abs(fancy.astype(int) - nearest).mean() > 30
    assert difference(nearest, fancy) < FAR / 2
