"""What comes after crop and flip, carried out: all of it together, in every form, on any device."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as F

from tests.support.augments import EVERYTHING
from tests.support.pictures import (
    ADJUST,
    CLOSE,
    CPU,
    MEAN,
    META,
    STD,
    drawn,
    jitter,
    levels,
    pictures,
    plain,
    shares,
    transforms,
)
from wdsremux.loading.augment import WHOLE, Parameters
from wdsremux.loading.output import DTYPES, LAYOUTS
from wdsremux.loading.transforms.steps import packed


def stacked(pixels: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Everything by torchvision's functions, up to but without normalising: float32 [N, 3, S, S], 0 to 1."""
    assert parameters.affine is not None
    assert parameters.colour is not None
    assert parameters.grey is not None
    assert parameters.blur is not None
    images, size = shares(pixels), pixels.shape[1]
    results = []
    for i, image in enumerate(images):
        theta = torch.from_numpy(parameters.affine[i : i + 1] * np.array([1, 1, 2 / size], np.float32))
        grid = torch.nn.functional.affine_grid(theta, [1, 3, size, size], align_corners=False)
        image = torch.nn.functional.grid_sample(image[None], grid, align_corners=False)[0]
        for operation in parameters.colour.order[i] if parameters.colour.applied[i] else []:
            image = ADJUST[operation](image, float(parameters.colour.factors[i, operation]))
        image = F.rgb_to_grayscale(image, 3) if parameters.grey[i] else image
        image = F.gaussian_blur(image, [9, 9], [float(parameters.blur[i])]) if parameters.blur[i] else image
        results.append(image)
    return torch.stack(results)


def erase(images: torch.Tensor, boxes: NDArray[np.int64] | None, value: torch.Tensor) -> torch.Tensor:
    assert boxes is not None
    for image, (x, y, w, h) in zip(images, boxes.tolist(), strict=True):
        image[:, y : y + h, x : x + w] = value[:, None, None]
    return images


@functools.cache
def reference() -> tuple[torch.Tensor, Parameters, torch.Tensor]:
    """Pictures, parameters, and what torchvision's functions make of them."""
    pixels, parameters = pictures(24, 32), drawn(EVERYTHING, 24, 32)
    return pixels, parameters, stacked(pixels, parameters)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [False, True], ids=["fresh", "given"])
def test_everything_in_every_dtype_and_layout(dtype: torch.dtype, layout: torch.memory_format, given: bool) -> None:
    pixels, parameters, wanted = reference()
    count, size, _, _ = pixels.shape
    make = transforms(size, dtype=dtype, memory_format=layout)
    out = torch.empty((count, 3, size, size), dtype=dtype, memory_format=layout) if given else None
    images = make(pixels, parameters, out)
    assert out is None or images is out
    assert images.shape == (count, 3, size, size)
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=layout)
    if dtype == torch.uint8:
        expected = erase((wanted * 255).round(), parameters.erased, torch.tensor([round(255 * mean) for mean in MEAN]))
        difference = (images.float() - expected).abs()
        assert difference.max() <= 1  # where rounding falls the other way
        assert (difference > 0).float().mean() < 1e-3
    else:
        expected = erase(F.normalize(wanted, list(MEAN), list(STD)), parameters.erased, torch.zeros(3))
        precision = {torch.float32: 0.0, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
        torch.testing.assert_close(images.float(), expected, rtol=precision, atol=CLOSE / 255 / min(STD))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_without_late_parameters_it_is_plain_normalisation(dtype: torch.dtype, layout: torch.memory_format) -> None:
    pixels = pictures(5)
    parameters = drawn(WHOLE, 5, 40)
    assert not parameters.after_crop
    images = transforms(dtype=dtype, memory_format=layout)(pixels, parameters)
    assert images.is_contiguous(memory_format=layout)
    if dtype == torch.uint8:
        assert torch.equal(images, pixels.permute(0, 3, 1, 2))
    else:
        expected = F.normalize(shares(pixels), list(MEAN), list(STD))
        precision = {torch.float32: 1e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
        torch.testing.assert_close(images.float(), expected, rtol=precision, atol=2e-6)


@pytest.mark.parametrize("level", [0.4, 0.6])
def test_bytes_are_rounded_to_nearest(level: float) -> None:
    factor = (100 + level) / 100
    pixels = torch.full((1, 40, 40, 3), 100, dtype=torch.uint8)
    images = transforms(dtype=torch.uint8)(pixels, replace(plain(1), colour=jitter([[factor, 1, 1, 0]], [0, 1, 2, 3])))
    assert (images == round(100 + level)).all()


@pytest.mark.parametrize("count", [1, 2, 37])
def test_a_batch_is_its_images_one_by_one(count: int) -> None:
    """37 images of 64 px are four pieces on a CPU, of up to 12."""
    pixels, parameters = pictures(count, 64), drawn(EVERYTHING, count, 64, epoch=count)
    whole = levels(pixels, parameters)
    for i in range(count):
        alone = levels(pixels[i : i + 1], parameters.take(slice(i, i + 1)))
        assert (whole[i : i + 1] - alone).abs().max() < 1e-3


def test_the_pixels_it_is_given_stay_as_they_are() -> None:
    pixels = pictures(3)
    before = pixels.clone()
    transforms()(pixels, drawn(EVERYTHING, 3, 40))
    transforms(memory_format=torch.channels_last)(pixels, plain(3))
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("late", [False, True])
def test_no_images_are_none(late: bool) -> None:
    parameters = drawn(EVERYTHING if late else WHOLE, 0, 40)
    assert transforms()(pictures(1)[:0], parameters).shape == (0, 3, 40, 40)
    assert transforms(device=META)(pictures(1)[:0].to(META), parameters).shape == (0, 3, 40, 40)


# A device that is no CPU


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_read_back_from_the_device(late: bool, dtype: torch.dtype) -> None:
    """On the meta device tensors have no values: whatever would make the host wait for one raises."""
    make = transforms(device=META, dtype=dtype, memory_format=torch.channels_last)
    images = make(pictures(50).to(META), drawn(EVERYTHING if late else WHOLE, 50, 40))
    assert images.device == META
    assert images.shape == (50, 3, 40, 40)


def test_parameters_travel_in_one_piece() -> None:
    arrays: list[NDArray[Any]] = [
        np.arange(3),
        np.array([[1.5], [2.5]], np.float32),
        np.empty((0, 4), np.float32),
        np.array([7, 8, 9, 10, 11], np.int8),
        np.array(2.25),
    ]
    tensors = packed(arrays, CPU)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert tensor.dtype == torch.from_numpy(array).dtype
        np.testing.assert_array_equal(tensor.numpy(), array)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
