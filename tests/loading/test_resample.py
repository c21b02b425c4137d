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
from wdsremux.loading.backends.resample import resample


def pictures(sizes: list[tuple[int, int]], seed: int = 0) -> list[NDArray[np.uint8]]:
    """uint8 [H, W, 3] noise of these widths and heights."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]


def planes(pictures: list[NDArray[np.uint8]]) -> list[torch.Tensor]:
    return [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]


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
    results = resample(planes(given_), np.array(boxes), np.array(flips), size)
    for picture, (x, y, w, h), flip, result in zip(given_, boxes, flips, results, strict=True):
        wanted = codec.resize(np.ascontiguousarray(picture[y : y + h, x : x + w]), size, size)
        wanted = wanted[:, ::-1] if flip else wanted
        # torch rounds to whole numbers between rows and columns, and its weights to 1/2^15.
        assert np.abs(result.numpy().astype(int) - wanted).max() <= 2
    assert results.shape == (len(sizes), size, size, 3)
    assert results.is_contiguous()


def test_large_pictures_are_worked_on_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(40, 30), (10, 10), (80, 20), (5, 60), (40, 30)]
    images = planes(pictures(sizes))
    boxes = np.array([[0, 0, width, height] for width, height in sizes])
    whole = resample(images, boxes, np.zeros(5, bool), 16)
    parts: list[int] = []
    inner = module._resample
    monkeypatch.setattr(module, "_TOGETHER", 2 * 40 * 30)

    def watched(part: list[torch.Tensor], *rest: Any) -> torch.Tensor:
        parts.append(len(part))
        return inner(part, *rest)

    monkeypatch.setattr(module, "_resample", watched)
    assert torch.equal(resample(images, boxes, np.zeros(5, bool), 16), whole)
    assert parts == [2, 1, 1, 1]


def test_a_batch_of_none() -> None:
    assert resample([], np.zeros((0, 4), np.int64), np.zeros(0, bool), 8).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_torchs_default_dtype_does_not_matter(dtype: torch.dtype) -> None:
    images, boxes, flips = planes(pictures([(40, 30)])), np.array([[3, 4, 30, 20]]), np.array([True])
    wanted = resample(images, boxes, flips, 16)
    try:
        torch.set_default_dtype(dtype)
        assert torch.equal(resample(images, boxes, flips, 16), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
