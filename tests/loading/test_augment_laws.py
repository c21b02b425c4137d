"""Laws of all kinds of augmentation together; values that never change; values that are refused."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.augments import DRAWS, EVERYTHING, KINDS, SIZE, draw
from wdsremux.errors import OptionError
from wdsremux.loading.augment import PRESETS, WHOLE, Augment, Colour, Parameters

LAW = settings(max_examples=60, deadline=None)


def arrays_of(parameters: Parameters) -> dict[str, NDArray[Any]]:
    """All arrays, by name; those of kinds that are off left out."""
    found: dict[str, NDArray[Any]] = {}
    for field in fields(parameters):
        value = getattr(parameters, field.name)
        if isinstance(value, Colour):
            found |= {f"colour.{inner.name}": getattr(value, inner.name) for inner in fields(value)}
        elif isinstance(value, np.ndarray):
            found[field.name] = value
    return found


def assert_same(one: Parameters, other: Parameters) -> None:
    ours, theirs = arrays_of(one), arrays_of(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name], name)


def test_kinds_are_independent_of_each_other_and_from_sample_to_sample() -> None:
    drawn = draw(EVERYTHING, (SIZE, SIZE))
    assert drawn.affine is not None
    assert drawn.colour is not None
    assert drawn.grey is not None
    assert drawn.blur is not None
    assert drawn.erased is not None
    places = np.argsort(drawn.colour.order, 1)  # where each operation comes
    values = np.column_stack(
        [
            drawn.boxes[:, 2],
            drawn.flips,
            drawn.affine[:, 0, 0],
            drawn.affine[:, :, 2],
            drawn.colour.factors,
            drawn.colour.applied,
            places[:, 0],
            drawn.grey,
            drawn.blur,
            drawn.erased[:, 2],
        ]
    ).T
    both = np.concatenate([values[:, 1:], values[:, :-1]])  # a sample's and the one's before
    correlation = np.corrcoef(both) - np.eye(len(both))
    assert np.abs(correlation).max() < 4.5 / DRAWS**0.5


subsets = st.sets(st.sampled_from(list(KINDS)))


@given(subsets, st.integers(-(2**40), 2**40), st.integers(0, 2**31), st.integers(5, 300))
@LAW
def test_a_kind_switched_on_or_off_changes_no_other(kinds: set[str], seed: int, epoch: int, size: int) -> None:
    augment = Augment(**{name: value for kind in kinds for name, value in KINDS[kind].items()})
    ids, side = np.arange(7) * 1_000_003, np.full(7, 300)
    some = arrays_of(augment.parameters(ids, side, side, seed, epoch, size))
    everything = arrays_of(EVERYTHING.parameters(ids, side, side, seed, epoch, size))
    assert {name.split(".")[0] for name in some} == {"boxes", "flips"} | kinds
    for name, array in some.items():
        np.testing.assert_array_equal(array, everything[name], name)
    assert augment.after_crop == augment.parameters(ids, side, side, seed, epoch, size).after_crop == bool(kinds)


@given(st.lists(st.integers(0, 19), max_size=30), st.integers(0, 2**31))
@example([], 0)
@LAW
def test_a_sample_is_augmented_the_same_in_any_batch(chosen: list[int], epoch: int) -> None:
    width, height = np.arange(20) * 10 + 50, np.arange(20) * 7 + 40
    ids = np.arange(20) * 2**33 + 5
    whole = EVERYTHING.parameters(ids, width, height, 3, epoch, 64)
    index = np.array(chosen, np.int64)
    assert_same(EVERYTHING.parameters(ids[index], width[index], height[index], 3, epoch, 64), whole.take(index))


@pytest.mark.parametrize("part", [slice(0, 0), slice(3, 4), slice(2, 9), slice(None)])
def test_a_slice_is_taken_as_its_places(part: slice) -> None:
    drawn = draw(EVERYTHING, (300, 200), 20)
    taken = drawn.take(part)
    assert_same(taken, drawn.take(np.arange(20)[part]))
    assert taken.blur_kernel == drawn.blur_kernel == 9
    assert draw(WHOLE, (300, 200), 20).take(part).after_crop is False


def test_another_epoch_or_seed_draws_every_kind_anew() -> None:
    first = arrays_of(draw(EVERYTHING, (400, 300), 500))
    for seed, epoch in [(1, 0), (0, 1)]:
        other = arrays_of(draw(EVERYTHING, (400, 300), 500, seed, epoch))
        for name, array in first.items():
            assert (array != other[name]).any(), name


# A run that is resumed has to be augmented as it would have been: these never change. Rounded, because sines and
# exponentials may differ in the last place from one CPU to another.
def test_golden() -> None:
    ids, side = np.array([*range(14), 2**33, 2**40]), np.arange(16) * 31 + 40
    drawn = arrays_of(EVERYTHING.parameters(ids, side, side[::-1], 7, 3, 224))
    digests = {
        name: hashlib.sha256(repr(np.round(array.astype(np.float64), 4).tolist()).encode()).hexdigest()[:12]
        for name, array in drawn.items()
    }
    assert digests == {
        "boxes": "2a8778126556",
        "flips": "98e8ac346573",
        "affine": "59aeecb716f5",
        "colour.factors": "d6a531000799",
        "colour.order": "1b54a0993861",
        "colour.applied": "dda3bcca8676",
        "grey": "4e1efb526ba4",
        "blur": "cc160427db76",
        "erased": "0643c5437df1",
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"degrees": 0, "translate": (0, 0), "zoom": (1, 1), "shear": (0, 0, 0, 0)},
        {"degrees": (0, 0), "shear": (0.0, 0.0)},
        {"brightness": (1, 1), "contrast": 0, "saturation": 0.0, "hue": (0, 0)},
        {"brightness": 0.4, "hue": 0.1, "jitter": 0},
        {"blur_kernel": 23, "blur_sigma": (1, 2), "erasing_scale": (0.1, 0.2)},
    ],
)
def test_what_changes_nothing_is_off(options: dict[str, Any]) -> None:
    augment = Augment(**options)
    assert not augment.after_crop
    assert set(arrays_of(draw(augment, (300, 200), 5))) == {"boxes", "flips"}


def test_presets_do_nothing_late() -> None:
    assert not any(augment.after_crop for augment in (*PRESETS.values(), WHOLE))


def test_a_picture_is_larger_than_half_its_blur() -> None:
    augment = Augment(blur=0.5, blur_kernel=9)
    augment.check_size(5)
    with pytest.raises(OptionError, match=r"^Invalid blur_kernel \(got 9 with size=4\)\. Supported: less than 8$"):
        augment.check_size(4)
    with pytest.raises(OptionError, match=r"^Invalid blur_kernel"):
        augment.parameters(np.arange(1), np.array([9]), np.array([9]), 0, 0, 4)
    Augment(blur_kernel=9).check_size(1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("degrees", -1),
        ("degrees", (10, 5)),
        ("degrees", (1, 2, 3)),
        ("degrees", float("inf")),
        ("degrees", "10"),
        ("degrees", None),
        ("translate", (0.1, 1.1)),
        ("translate", (-0.1, 0)),
        ("translate", 0.1),
        ("zoom", (0, 1)),
        ("zoom", (2, 1)),
        ("zoom", (1, float("inf"))),
        ("zoom", 1.5),
        ("shear", 90),
        ("shear", (-95, 0)),
        ("shear", (0, 1, 2)),
        ("shear", (0, 1, 3, 2)),
        ("brightness", -0.1),
        ("contrast", (-0.1, 1)),
        ("saturation", (1.5, 0.5)),
        ("saturation", float("nan")),
        ("hue", 0.6),
        ("hue", (-0.6, 0)),
        ("jitter", 1.1),
        ("grayscale", -0.1),
        ("blur", 2),
        ("blur_kernel", 8),
        ("blur_kernel", 0),
        ("blur_kernel", -3),
        ("blur_kernel", (9, 9)),
        ("blur_sigma", (0, 1)),
        ("blur_sigma", 1.0),
        ("erasing", 1.5),
        ("erasing_scale", (-0.1, 0.5)),
        ("erasing_scale", (0.1, 1.5)),
        ("erasing_ratio", (0, 1)),
        ("erasing_ratio", (3, 0.3)),
    ],
)
def test_values_that_are_no_distribution(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=rf"^Invalid {name} \(got .*\)\. Supported: "):
        Augment(**{name: value})
