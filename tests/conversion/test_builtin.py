"""Built-in recipes: one sample or one reject a row, the same in every process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import jpeg, tiny_jpeg
from wdsremux import codec
from wdsremux.codec import Encoding
from wdsremux.conversion.recipes.base import Recipe, Reject, Sample, Settings
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.source import Fault, Rows
from wdsremux.errors import OptionError
from wdsremux.format.samples import NO_LABEL

WIDE = jpeg(np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8))


def rows(
    images: Sequence[bytes | None],
    first: int = 0,
    labels: Sequence[int | None] | None = None,
    kept: pa.Table | None = None,
) -> Rows:
    paths = [f"{i}.jpg" for i in range(len(images))]
    return Rows(
        fragment=0,
        first=first,
        image_column="img",
        images=pa.array(images, pa.binary()),
        paths=pa.array(paths),
        label_column="label",
        labels=pa.array(labels or [7] * len(images)),
        kept=pa.table({}) if kept is None else kept,
    )


def bake_one(recipe: Recipe, image: bytes) -> codec.Jpeg:
    (sample,) = recipe.bake(rows([image]))
    assert isinstance(sample, Sample)
    return sample.image


@pytest.mark.parametrize(
    ("name", "size"), [("resize:15", (30, 15)), ("resize:45", (90, 45)), ("square:15", (15, 15)), ("copy", (60, 30))]
)
def test_sizes(name: str, size: tuple[int, int]) -> None:
    image = bake_one(make_recipe(name, Settings()), WIDE)
    assert (image.width, image.height) == size
    assert codec.decode(image.data).shape == (size[1], size[0], 3)
    assert (image.data == WIDE) == (name == "copy")


@pytest.mark.parametrize("name", ["resize:12", "square:12"])
def test_fast(name: str) -> None:
    """WIDE is 60 x 30: scaled to 1/2 it has the 12 pixels that are wanted, and not the 24 that are better."""
    fine, fast = (bake_one(make_recipe(name, Settings(fast=fast)), WIDE) for fast in (False, True))
    assert (fine.width, fine.height) == (fast.width, fast.height)
    assert fine.data != fast.data


def test_quality_and_subsampling_are_used() -> None:
    sizes = [
        len(bake_one(make_recipe("resize:30", Settings(encoding=Encoding(quality=q, subsampling=s))), WIDE).data)
        for q, s in ((50, "420"), (90, "420"), (90, "444"))
    ]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    "name",
    ["", "resize", "resize:", "resize:0", "resize:-1", "resize:2.5", "resize:256 ", "copy:1", "Copy", "square:100000"],
)
def test_no_such_recipe(name: str) -> None:
    with pytest.raises(
        OptionError, match=r"^Invalid recipe \(got .*Supported: resize:N, square:N \(N in pixels\), copy"
    ):
        make_recipe(name, Settings())


def test_samples_and_rejects_keep_the_order_of_rows() -> None:
    items = make_recipe("copy", Settings()).bake(rows([tiny_jpeg(1), None, b"", tiny_jpeg(2)], 100, [3, 4, 5, None]))
    assert items == [
        Sample(100, 0, codec.Jpeg(tiny_jpeg(1), 8, 8), 3),
        Reject(101, None, "1.jpg", "img", "no image: null"),
        Reject(102, None, "2.jpg", "img", "empty: 0 bytes"),
        Sample(103, 0, codec.Jpeg(tiny_jpeg(2), 8, 8), NO_LABEL),
    ]


def test_a_slice_of_an_array_gives_its_own_bytes() -> None:
    """Arrow arrays share one buffer: the bytes of a row begin at its offset."""
    whole = rows([tiny_jpeg(i) for i in range(5)])
    part = replace(whole, images=whole.images[3:], paths=whole.paths[3:], labels=whole.labels[3:])
    samples = make_recipe("copy", Settings()).bake(part)
    assert [sample.image.data for sample in samples if isinstance(sample, Sample)] == [tiny_jpeg(3), tiny_jpeg(4)]


def test_the_fault_of_a_missing_image_is_its_reason() -> None:
    batch = replace(rows([None, None]), faults={1: Fault("img", "no image: gone")})
    items = make_recipe("copy", Settings()).bake(batch)
    assert [item.reason for item in items if isinstance(item, Reject)] == ["no image: null", "no image: gone"]
