"""Crop, resize and flip as matrix products give what torch's own antialiased resize gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wdsremux import codec
from wdsremux.loading.backends import resample as module
from wdsremux.loading.backends.resample import joined, resample


def pictures(sizes: list[tuple[int, int]], seed: int = 0) -> list[NDArray[np.uint8]]:
    """uint8 [H, W, 3] noise of these widths and heights."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]


def planes(pictures: list[NDArray[np.uint8]]) -> list[torch.Tensor]:
    return [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]


def resampled(images: list[torch.Tensor], boxes: Any, flips: Any, size: int) -> torch.Tensor:
    boxes = np.array(boxes)
    return resample(joined([*images], boxes), boxes, np.array(flips), size)


@st.composite
def cropped(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[list[int]], list[bool]]:
    sizes = draw(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=5))
    boxes = []
    for width, height in sizes:
        w, h = draw(st.integers(1, width)), draw(st.integers(1, height))
        boxes.append([draw(st.integers(0, width - w)), draw(st.integers(0, height - h)), w, h])
    return sizes, boxes, draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))


@given(cropped(), st.sampled_from([1, 7, 32]))
def test_as_the_threads_do_it(case: Any, size: int) -> None:
    sizes, boxes, flips = case
    given_ = pictures(sizes)
    results = resampled(planes(given_), boxes, flips, size)
    for picture, (x, y, w, h), flip, result in zip(given_, boxes, flips, results, strict=True):
        wanted = codec.resize(np.ascontiguousarray(picture[y : y + h, x : x + w]), size, size)
        wanted = wanted[:, ::-1] if flip else wanted
        # torch rounds to whole numbers between rows and columns, and its weights to 1/2^15.
        assert np.abs(result.numpy().astype(int) - wanted).max() <= 2
    assert results.shape == (len(sizes), size, size, 3)
    assert results.is_contiguous()


@pytest.mark.parametrize(("together", "parts"), [(2 * 40 * 30, [2, 1, 1, 1]), (7_200, [3, 2]), (1, [1] * 5)])
def test_large_pictures_are_worked_on_one_by_one(
    monkeypatch: pytest.MonkeyPatch, together: int, parts: list[int]
) -> None:
    sizes = [(40, 30), (10, 10), (80, 20), (5, 60), (40, 30)]
    images = planes(pictures(sizes))
    boxes = [[0, 0, width, height] for width, height in sizes]
    whole = resampled(images, boxes, [False] * 5, 16)
    monkeypatch.setattr(module, "_TOGETHER", together)
    assert [len(part.widths) for part in joined([*images], np.array(boxes))] == parts
    assert torch.equal(resampled(images, boxes, [False] * 5, 16), whole)


def test_small_crops_of_large_pictures_are_not_joined_by_the_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is together in memory is whole pictures, however little of them is wanted."""
    monkeypatch.setattr(module, "_TOGETHER", 3 * 40 * 30)
    images, boxes = planes(pictures([(40, 30)] * 7)), np.array([[20, 20, 2, 2]] * 7)
    parts = joined(images, boxes)
    assert [len(part.widths) for part in parts] == [3, 3, 1]
    assert images == []  # let go of, part by part
    assert resample(parts, boxes, np.zeros(7, bool), 4).shape == (7, 4, 4, 3)


def test_what_lies_beside_a_crop_does_not_matter() -> None:
    """Neither its own picture's, nor its neighbour's, nor what was in memory behind the last one."""
    sizes = [(50, 20), (9, 44), (30, 30)]
    boxes, flips = np.array([[10, 5, 31, 7], [2, 3, 4, 41], [3, 20, 11, 10]]), np.array([False, True, False])
    found = []
    for beside in (0, 255):
        images = [torch.full_like(image, beside) for image in planes(pictures(sizes))]
        for image, source, (x, y, w, h) in zip(images, planes(pictures(sizes)), boxes.tolist(), strict=True):
            image[:, y : y + h, x : x + w] = source[:, y : y + h, x : x + w]
        (part,) = joined(images, boxes)
        part.values[sum(3 * width * height for width, height in sizes) :] = beside
        found.append(resample([part], boxes, flips, 16))
    assert torch.equal(*found)


def test_a_batch_of_none() -> None:
    assert resampled([], np.zeros((0, 4), np.int64), np.zeros(0, bool), 8).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_torchs_default_dtype_does_not_matter(dtype: torch.dtype) -> None:
    images, boxes, flips = planes(pictures([(40, 30)])), [[3, 4, 30, 20]], [True]
    wanted = resampled(images, boxes, flips, 16)
    try:
        torch.set_default_dtype(dtype)
        assert torch.equal(resampled(images, boxes, flips, 16), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
