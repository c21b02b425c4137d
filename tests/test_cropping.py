"""Crops for a loader: the pixels of torch's resize, whatever a header says, and no threads but the caller's."""

from __future__ import annotations

import io
import os

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import jpeg
from wdsremux import codec
from wdsremux.codec import cropping

RNG = np.random.default_rng(5)
NOISE = RNG.integers(0, 256, (90, 70, 3), np.uint8)
SMOOTH = np.array(
    Image.fromarray(NOISE[:9, :7]).resize((70, 90), Image.Resampling.BICUBIC)
)  # a copy that can be written to


@given(
    x=st.integers(0, 60),
    y=st.integers(0, 80),
    width=st.integers(1, 70),
    height=st.integers(1, 90),
    size=st.integers(1, 96),
    picture=st.sampled_from([NOISE, SMOOTH]),
)
def test_pixels_are_those_of_torch(x: int, y: int, width: int, height: int, size: int, picture: codec.Pixels) -> None:
    width, height = min(width, 70 - x), min(height, 90 - y)
    out = np.empty((size, size, 3), np.uint8)
    cropping.resize_crop(picture, (x, y, width, height), out)
    crop = torch.from_numpy(picture[y : y + height, x : x + width].copy()).permute(2, 0, 1)[None]
    wanted = torch.nn.functional.interpolate(crop, size=(size, size), mode="bilinear", antialias=True)
    assert np.abs(out.astype(int) - wanted[0].permute(1, 2, 0).numpy().astype(int)).max() <= 1


def test_a_picture_lies_in_the_memory_that_it_was_given() -> None:
    memory = np.zeros(NOISE.size, np.uint8)
    pixels = cropping.decode_into(jpeg(NOISE), memory)
    assert np.shares_memory(pixels, memory)
    assert np.array_equal(pixels, codec.decode(jpeg(NOISE)))


def test_a_grey_picture() -> None:
    file = io.BytesIO()
    Image.fromarray(NOISE).convert("L").save(file, "JPEG")
    pixels = cropping.decode_into(file.getvalue(), np.empty(NOISE.size, np.uint8))
    assert np.array_equal(pixels, codec.decode(file.getvalue()))


def test_a_picture_that_is_larger_than_was_said() -> None:
    """It is seen by its size, and the memory behind it is not touched."""
    memory = np.zeros(NOISE.size + 1, np.uint8)
    out = np.zeros((3, 8, 8, 3), np.uint8)
    pictures = [jpeg(NOISE), jpeg(np.vstack([NOISE] * 2)), jpeg(NOISE)[:300]]
    boxes = [(0, 0, 70, 90)] * 3
    assert cropping.crop_all(pictures, [(90, 70)] * 3, boxes, [False] * 3, out, memory) == [1, 2]
    assert memory[-1] == 0
    assert out[0].any()


def test_flips_are_mirrored() -> None:
    out = np.empty((2, 16, 16, 3), np.uint8)
    pictures = [jpeg(NOISE)] * 2
    memory = np.empty(NOISE.size, np.uint8)
    assert cropping.crop_all(pictures, [(90, 70)] * 2, [(5, 5, 40, 40)] * 2, [False, True], out, memory) == []
    assert np.array_equal(out[0], out[1][:, ::-1])


def test_no_thread_is_begun() -> None:
    """Whoever trains has set threads as they should be; a decoder's own are as many as were asked for."""
    large = np.vstack([np.hstack([NOISE] * 5)] * 4)
    before = len(os.listdir("/proc/self/task"))
    for size in (32, 224, 256):
        out = np.empty((size, size, 3), np.uint8)
        for box in ((0, 0, 20, 30), (0, 0, 200, 200)):
            cropping.resize_crop(large, box, out)
        cropping.flip(out)
        cropping.split(out, np.empty((3, size, size), np.uint8))
    assert len(os.listdir("/proc/self/task")) == before


@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 80), st.integers(1, 70), st.integers(1, 90), st.booleans()),
        min_size=1,
        max_size=9,
    ),
    size=st.integers(1, cropping.SMALL),
    broken=st.sets(st.integers(0, 8)),
)
def test_many_at_once_are_as_one_by_one(
    boxes: list[tuple[int, int, int, int, bool]], size: int, broken: set[int]
) -> None:
    count = len(boxes)
    crops = [(x, y, min(width, 70 - x), min(height, 90 - y)) for x, y, width, height, _ in boxes]
    flips = [flipped for *_, flipped in boxes]
    pictures = [
        jpeg(NOISE)[:200] if place in broken else jpeg(SMOOTH if place % 2 else NOISE) for place in range(count)
    ]
    each, together = (np.zeros((count, size, size, 3), np.uint8) for _ in range(2))
    memory = np.empty(4 * NOISE.size, np.uint8)  # some have to do without
    bad = cropping.crop_all(pictures, [(90, 70)] * count, crops, flips, each, memory)
    bad_too = cropping.crop_small(pictures, [(90, 70)] * count, crops, flips, together, memory, np.empty_like(each))
    assert set(bad) == set(bad_too) == {place for place in broken if place < count}
    good = [place for place in range(count) if place not in broken]
    assert np.array_equal(each[good], together[good])
