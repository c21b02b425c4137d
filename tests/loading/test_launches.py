"""What a GPU is asked to do for a batch: few kernels, in which devices never mix and the host never waits.

On tensors that are on `cuda:0` and have no values. Budgets are of kernels and copies for a batch of 256: each costs the
host some 5 us, most of them more than the GPU takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import needs
from tests.support.augments import SINGLE_KINDS
from tests.support.batches import MEAN, STD, read_batches
from tests.support.launches import GPU, Launches, on_the_host, pretended_gpu
from wdsremux.loading import backends
from wdsremux.loading.augment import PRESETS, Augment, Parameters
from wdsremux.loading.backends import Setup
from wdsremux.loading.backends.canary import Canary
from wdsremux.loading.backends.resample import joined, resample
from wdsremux.loading.device import Destination
from wdsremux.loading.output import DTYPES, LAYOUTS, Output
from wdsremux.loading.transforms import Transforms

SIMCLR = Augment(
    brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, jitter=0.8, grayscale=0.2, blur=0.5, blur_kernel=23
)
EVERYTHING = Augment(**SINGLE_KINDS["everything"])
FORMS = [(dtype, layout) for dtype in DTYPES for layout in LAYOUTS]


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with pretended_gpu():
        yield


def output(size: int, dtype: torch.dtype, layout: torch.memory_format) -> Output:
    return Output(size=size, dtype=dtype, memory_format=layout, mean=MEAN, std=STD)


def drawn(augment: Augment, count: int, size: int) -> tuple[list[torch.Tensor], Parameters]:
    """Pictures baked to 256 px, upright and lying in turns, as decoded; and what is to be done to them."""
    width = np.where(np.arange(count) % 2, 341, 256)
    height = 597 - width
    images = [
        torch.empty((3, h, w), dtype=torch.uint8, device=GPU)
        for w, h in zip(width.tolist(), height.tolist(), strict=True)
    ]
    return images, augment.parameters(np.arange(count), width, height, 0, 0, size)


def launched(
    augment: Augment, count: int, size: int, dtype: torch.dtype, layout: torch.memory_format
) -> tuple[torch.Tensor, Launches]:
    """A batch, from what nvJPEG gives to what is handed out."""
    transforms = Transforms(output(size, dtype, layout), GPU)
    images, parameters = drawn(augment, count, size)
    with Launches() as launches:
        parts = joined(images, parameters.boxes)
        result = transforms(resample(parts, parameters.boxes, parameters.flips, size), parameters)
    return result, launches


def assert_form(images: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> None:
    assert images.device == GPU
    assert images.shape == shape
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("kind", SINGLE_KINDS)
def test_each_augmentation_on_a_gpu(kind: str) -> None:
    """Plain batches and those with everything on in every dtype and layout."""
    for dtype, layout in FORMS if kind in ("crop", "everything") else FORMS[:4:3]:
        images, _ = launched(Augment(**SINGLE_KINDS[kind]), 9, 32, dtype, layout)
        assert_form(images, (9, 3, 32, 32), dtype, layout)


@pytest.mark.parametrize(
    ("augment", "budget"),
    [(PRESETS["train"], 40), (SIMCLR, 125), (EVERYTHING, 150)],
    ids=["crop, flip, normalise", "SimCLR", "everything"],
)
def test_a_batch_is_within_its_budget(augment: Augment, budget: int) -> None:
    """In halves, which are made of float32 by a kernel more than that itself."""
    for layout in LAYOUTS:
        _, launches = launched(augment, 256, 224, torch.float16, layout)
        assert launches.total <= budget, f"{layout}: {launches.total} launches: {launches.counts}"


class NoStreams(Destination):
    """The device that is pretended; nothing can be ordered on it."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.device = GPU

    def staging(self, shape: tuple[int, ...]) -> torch.Tensor:
        return on_the_host(lambda: torch.empty(shape, dtype=torch.uint8))


@pytest.mark.parametrize("decode", [backends.GPU, backends.CPU])
def test_the_whole_way_of_a_batch_to_a_gpu(decode: str, converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the torchvision backend, without its threads, in which nothing would be pretended."""
    needs("torchcodec.decoders", "TorchCodec")
    monkeypatch.setattr("wdsremux.loading.backends.torchvision._one_ahead", lambda items, _: (item for item in items))
    monkeypatch.setattr(Canary, "look", lambda *_: None)  # it looks at values
    batches = read_batches(converted / "train", [6, 6, 3], EVERYTHING)
    sizes = [size for batch in batches for size in zip(batch.encoded.height, batch.encoded.width, strict=True)]
    decoded = (torch.empty((3, int(h), int(w)), dtype=torch.uint8, device=GPU) for h, w in sizes)

    def decode_jpeg(files: list[torch.Tensor], **_: Any) -> list[torch.Tensor]:
        return [next(decoded) for _ in files]

    monkeypatch.setattr("torchcodec.decoders.decode_jpeg", decode_jpeg)
    form = (torch.float16, torch.channels_last)
    setup = Setup(
        output=output(64, *form), batch_size=6, num_threads=1, destination=NoStreams(), decode=decode, after_crop=True
    )
    backend = backends.find("torchvision", GPU)(setup)
    try:
        for (batch, images), wanted in zip(backend.run(iter(batches)), batches, strict=True):
            assert batch is wanted
            assert_form(images, (len(batch.encoded), 3, 64, 64), *form)
    finally:
        backend.close()


# The watch sees what it is for


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda x: x.amax().item(), "the host waits"),
        (lambda x: x[x > 0], "the host waits"),
        (lambda x: x.cpu(), "back to the host"),
        (lambda x: torch.zeros(3).copy_(x), "back to the host"),
        (lambda x: x + torch.ones(()), "mixes devices"),
        (lambda x: x[torch.tensor([0])], "mixes devices"),
        (lambda x: x + torch.ones(3).to(GPU), "wait until values are on the device"),
    ],
    ids=["item", "mask", "cpu", "copy_", "number", "index", "blocking"],
)
def test_what_must_not_be_is_seen(wrong: Any, sentence: str) -> None:
    values = torch.empty(3, device=GPU)
    with Launches(), pytest.raises((AssertionError, RuntimeError), match=sentence):
        wrong(values)


def test_kernels_are_counted_and_views_are_not() -> None:
    values = torch.empty((4, 6), device=GPU)
    with Launches() as launches:
        halves = values.t().reshape(6, 4)[2:].unbind(1)
        torch.cat([halves[0].unsqueeze(0).mul_(2)] * 129)
        torch.zeros(2).to(GPU, non_blocking=True)
    assert launches.counts == {"mul_": 1, "cat": 2, "_to_copy": 1}
