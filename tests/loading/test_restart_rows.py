"""Rows that are cut out of JPEGs: the same pixels, of less bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import wdsremux
from tests.support.batches import UINT8, images_of, in_rows, made, make_batch, spoil
from tests.support.reading import read_tar
from wdsremux import codec
from wdsremux.codec import cropping
from wdsremux.errors import ImageError
from wdsremux.loading.backends.restart_rows import Strips, cut
from wdsremux.loading.reader.encoded import Encoded, packed

Box = tuple[int, int, int, int]

#: How a JPEG's rows of units come to be as high as they are.
FORMS: dict[str, dict[str, Any]] = {"420": {"subsampling": 2}, "422": {"subsampling": 1}, "444": {"subsampling": 0}}


def picture(width: int, height: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Something with colour edges everywhere, so that a chroma sample of a wrong row shows."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.maximum.accumulate(pixels, axis=1)[:, ::-1].copy()


def encoded(pixels: np.ndarray[Any, Any], mode: str = "RGB", rows: int = 1, **options: Any) -> bytes:
    """A JPEG with a restart marker after every so many rows of units; 0 for none."""
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", restart_marker_rows=rows, **({"quality": 90} | options))
    return file.getvalue()


def cut_of(images: Sequence[bytes], boxes: Sequence[Box]) -> tuple[Encoded, Strips]:
    batch = make_batch(images, boxes, [False] * len(images))
    return batch.encoded, cut(batch.encoded, batch.parameters.boxes)


def assert_same_pixels(encoded: Encoded, strips: Strips, boxes: Sequence[Box]) -> None:
    for i, (x, y, width, height) in enumerate(boxes):
        pixels = codec.decode(strips.jpeg(i))
        top = int(strips.tops[i])
        assert pixels.shape[:2] == (strips.heights[i], encoded.width[i])
        assert 0 <= top <= y < y + height <= top + len(pixels)
        wanted = codec.decode(encoded.image(i).data)[y : y + height, x : x + width]
        assert np.array_equal(pixels[y - top : y - top + height, x : x + width], wanted)


@st.composite
def crops(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[Box]]:
    """Sizes of some pictures, and a box in each."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 300)), min_size=1, max_size=6))
    boxes = []
    for width, height in sizes:
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y))))
    return sizes, boxes


def test_files_in_rows_are_cut_as_files_side_by_side() -> None:
    """Markers between them count for none."""
    box = (3, 40, 30, 20)
    batch = make_batch([SOUND, SOUND[:-300], SOUND + bytes(200), OTHERS["progressive"]], [box] * 4, [False] * 4)
    strips, wanted = (cut(one, batch.parameters.boxes) for one in (in_rows(batch.encoded), batch.encoded))
    assert [bytes(strips.jpeg(i)) for i in range(4)] == [bytes(wanted.jpeg(i)) for i in range(4)]
    assert len(strips.jpeg(0)) < len(SOUND)


@pytest.mark.parametrize("form", FORMS)
@given(drawn=crops())
def test_the_same_pixels_of_the_fewest_rows(form: str, drawn: tuple[list[tuple[int, int]], list[Box]]) -> None:
    sizes, boxes = drawn
    images = [encoded(picture(*size, seed=i), **FORMS[form]) for i, size in enumerate(sizes)]
    batch, strips = cut_of(images, boxes)
    assert_same_pixels(batch, strips, boxes)
    unit = 16 if form == "420" else 8
    for (_, height), (_, y, _, crop), rows in zip(sizes, boxes, strips.heights.tolist(), strict=True):
        first, last = max(0, y - 1) // unit, min(height - 1, y + crop) // unit
        assert rows == min(height, (last + 1) * unit) - first * unit


@given(drawn=crops())
def test_grey(drawn: tuple[list[tuple[int, int]], list[Box]]) -> None:
    sizes, boxes = drawn
    batch, strips = cut_of([encoded(picture(*size, seed=i), "L") for i, size in enumerate(sizes)], boxes)
    assert_same_pixels(batch, strips, boxes)
    assert all(rows <= crop + 2 + 14 for rows, (_, _, _, crop) in zip(strips.heights.tolist(), boxes, strict=True))


def test_numbers_begin_anew_after_eight() -> None:
    tall = encoded(picture(20, 1000))
    boxes = [(0, top, 20, 500) for top in (0, 1, 100, 333, 499, 500)]
    batch, strips = cut_of([tall] * len(boxes), boxes)
    assert_same_pixels(batch, strips, boxes)
    assert strips.heights.max() <= 500 + 2 + 30
    assert len(strips.buffer) < 0.6 * len(batch.buffer)


def test_whole_crops_are_not_copied() -> None:
    batch, strips = cut_of([encoded(picture(40, 60))] * 2, [(0, 0, 40, 60), (5, 10, 20, 45)])
    assert strips.buffer is batch.buffer
    assert np.array_equal(strips.heights, batch.height)


SOUND = encoded(picture(40, 100))


def renumbered(content: bytes) -> bytes:
    return content.replace(b"\xff\xd1", b"\xff\xd4", 1)


def with_a_marker_less(content: bytes) -> bytes:
    return content.replace(b"\xff\xd1", b"", 1)


#: JPEGs that cannot be cut.
OTHERS = {
    "without markers": encoded(picture(40, 100), rows=0),
    "a marker every second row": encoded(picture(40, 100), rows=2),
    "progressive": encoded(picture(40, 100), progressive=True),
    "of other tables": encoded(picture(40, 100), quality=80),
    "cut short": SOUND[: len(SOUND) // 2],
    "numbers out of turn": renumbered(SOUND),
    "a marker lost": with_a_marker_less(SOUND),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_cut_is_left_whole(name: str) -> None:
    _, strips = cut_of([SOUND, OTHERS[name], SOUND], [(3, 40, 30, 20)] * 3)
    assert bytes(strips.jpeg(1)) == OTHERS[name]
    assert strips.tops.tolist() == [32, 0, 32]
    assert strips.heights.tolist() == [32, 100, 32]


@pytest.mark.parametrize("name", ["without markers", "a marker every second row", "progressive", "of other tables"])
def test_a_batch_that_begins_with_such_a_file(name: str) -> None:
    boxes = [(3, 40, 30, 20)] * 3
    assert_same_pixels(*cut_of([OTHERS[name], SOUND, OTHERS["of other tables"]], boxes), boxes)


def test_a_batch_that_begins_with_no_jpeg() -> None:
    batch = spoil(make_batch([SOUND] * 2, [(0, 40, 40, 20)] * 2, [False] * 2), 0)
    strips = cut(batch.encoded, batch.parameters.boxes)
    assert strips.buffer is batch.encoded.buffer


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("size", [0, 1, 200, 700])
def test_another_file_that_is_no_jpeg(place: int, size: int) -> None:
    """However short it is: nothing of its neighbours is touched."""
    boxes = [(3, 40, 30, 20)] * 3
    sound = make_batch([SOUND] * 3, boxes, [False] * 3).encoded
    images = [SOUND] * 3
    images[place] = b"\xff\xd0" * (size // 2) + b"x" * (size % 2)
    sizes = np.array([len(image) for image in images])
    batch = replace(sound, buffer=np.frombuffer(b"".join(images), np.uint8).copy(), starts=packed(sizes), sizes=sizes)
    strips = cut(batch, np.array(boxes))
    assert bytes(strips.jpeg(place)) == images[place]
    wanted = cut(sound, np.array(boxes))
    assert [bytes(strips.jpeg(i)) for i in {0, 1, 2} - {place}] == [bytes(wanted.jpeg(0))] * 2


def test_a_batch_that_begins_with_a_file_cut_short_anywhere() -> None:
    boxes = [(3, 40, 30, 20)] * 2
    sound = make_batch([SOUND] * 2, boxes, [False] * 2).encoded
    for size in range(len(SOUND)):
        buffer = np.frombuffer(SOUND[:size] + SOUND, np.uint8)
        batch = replace(sound, buffer=buffer, starts=np.array([0, size]), sizes=np.array([size, len(SOUND)]))
        strips = cut(batch, np.array(boxes))
        if size < SOUND.index(b"\xff\xd3"):  # the rows of the crop end there
            assert bytes(strips.jpeg(0)) == SOUND[:size]
        assert len(strips.jpeg(1)) in (len(SOUND), len(cut(sound, np.array(boxes)).jpeg(1)))


def test_a_long_header_is_not_compared() -> None:
    """256 of a megabyte each would be."""
    long = encoded(picture(40, 100), icc_profile=b"x" * 1_000_000)
    _, strips = cut_of([long, SOUND], [(3, 40, 30, 20)] * 2)
    assert strips.heights.tolist() == [100, 100]


def test_another_size_than_the_table_says() -> None:
    batch = make_batch([SOUND] * 4, [(0, 40, 40, 20)] * 4, [False] * 4)
    batch.encoded.height[1] += 1
    batch.encoded.width[2] += 300
    strips = cut(batch.encoded, batch.parameters.boxes)
    assert strips.heights.tolist() == [32, 101, 100, 32]
    assert [bytes(strips.jpeg(i)) == SOUND for i in range(4)] == [False, True, True, False]


# backend, loader, conversion


@pytest.fixture
def bytes_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all that is decoded from now on."""
    sizes: list[int] = []
    decode = cropping.decode_into

    def counted(data: codec.Data, *args: Any) -> codec.Pixels:
        sizes.append(len(data))
        return decode(data, *args)

    monkeypatch.setattr(cropping, "decode_into", counted)
    return sizes


def test_the_backend_cuts(bytes_decoded: list[int]) -> None:
    batch = make_batch([SOUND] * 8, [(3, 40, 30, 20)] * 8, [True, False] * 4)
    results = []
    for restart_rows in (False, True):
        with made("torchvision", **UINT8, restart_rows=restart_rows) as backend:
            results += images_of(backend, [batch])
    assert torch.equal(*results)
    assert bytes_decoded[:8] == [len(SOUND)] * 8
    assert max(bytes_decoded[8:]) < 0.6 * len(SOUND)


def test_a_damaged_row_is_told_where_it_is_of_the_crop() -> None:
    """Elsewhere it is not decoded. Rows 32 to 47 have lost bytes."""
    before, damaged, after = re.split(rb"(?<=\xff\xd1)|(?=\xff\xd2)", SOUND)
    picture = before + damaged[100:] + after
    batch = make_batch([SOUND, picture], [(3, 40, 30, 20)] * 2, [False] * 2)
    with made("torchvision", **UINT8, restart_rows=True) as backend:
        with pytest.raises(ImageError, match="sample 1"):
            images_of(backend, [batch])
        batch.parameters.boxes[1] = (3, 60, 30, 20)
        (images,) = images_of(backend, [batch])
    with made("torchvision", **UINT8) as backend:
        (wanted,) = images_of(backend, [make_batch([SOUND], [(3, 60, 30, 20)], [False])])
    assert torch.equal(images[1:], wanted)


@pytest.fixture(scope="module")
def two_sets(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs converted without the option and with it."""
    out = tmp_path_factory.mktemp("restarts")
    for name in ("without", "with"):
        wdsremux.convert(sample, out / name, limit=40, workers=1, restart_rows=name == "with")
    return [out / "without", out / "with"]


def test_batches_are_the_same_with_and_without(backend: str, two_sets: list[Path], bytes_decoded: list[int]) -> None:
    """Whichever backend reads the set: markers change no pixel."""
    found, decoded = [], []
    for out in two_sets:
        with wdsremux.DataLoader(
            out, 8, augment="train", size=64, dtype=torch.uint8, backend=backend, seed=5
        ) as loader:
            found += [[images.clone() for images, _ in loader]]
        decoded.append(sum(bytes_decoded) / max(1, len(bytes_decoded)))  # of each: how many are made ahead differs
        bytes_decoded.clear()
    assert len(found[0]) == 5
    assert all(map(torch.equal, *found))
    assert (decoded[1] < 0.9 * decoded[0]) == (backend == "torchvision")


def test_the_markers_are_all_that_is_new(two_sets: list[Path]) -> None:
    without, with_ = (next(iter(sorted(out.glob("train/*.tar")))) for out in two_sets)
    for (key, one), (same, other) in zip(read_tar(without).items(), read_tar(with_).items(), strict=True):
        assert key == same
        assert not re.search(rb"\xff[\xd0-\xd7]", one["jpg"])
        assert len(re.findall(rb"\xff[\xd0-\xd7]", other["jpg"])) == -(-codec.header(one["jpg"]).height // 16) - 1
        assert np.array_equal(codec.decode(one["jpg"]), codec.decode(other["jpg"]))
