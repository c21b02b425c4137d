"""What comes after crop and flip: torchvision's distributions, each from a stream of its own."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import _geometry

from tests.loading.test_augment import DRAWS, SIZE, draw, ks_distance
from wdsremux.errors import OptionError
from wdsremux.loading.augment import PRESETS, WHOLE, Augment, Parameters
from wdsremux.loading.augment.affine import inverse
from wdsremux.loading.augment.parameters import Colour

LAW = settings(max_examples=60, deadline=None)
LIMIT = 1.95 * (2 / DRAWS) ** 0.5  # one in a thousand pairs of samples of one distribution goes over it
JITTER: dict[str, Any] = {"brightness": 0.4, "contrast": 0.3, "saturation": (0.2, 1.9), "hue": 0.1}
TURNED: dict[str, Any] = {"degrees": 15, "translate": (0.1, 0.2), "zoom": (0.8, 1.5), "shear": (-5, 5, -20, 10)}
#: What switches each kind on, by the field of `Parameters` that it fills.
KINDS: dict[str, dict[str, Any]] = {
    "affine": TURNED,
    "colour": JITTER | {"jitter": 0.8},
    "grey": {"grayscale": 0.2},
    "blur": {"blur": 0.5},
    "erased": {"erasing": 0.4},
}
EVERYTHING = Augment(**{name: value for kind in KINDS.values() for name, value in kind.items()})


def made_by(transform: Any, size: int = SIZE) -> list[dict[str, Any]]:
    """What torchvision draws, for pictures of `size` px a side."""
    torch.manual_seed(0)
    picture = torch.empty(3, size, size)
    return [transform.make_params([picture]) for _ in range(DRAWS)]


def assert_share(chosen: NDArray[np.bool_], probability: float) -> None:
    assert abs(chosen.mean() - probability) <= 4 * (probability * (1 - probability) / len(chosen)) ** 0.5


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


# Affine


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"degrees": 15}, {"degrees": 15}),
        ({"degrees": (-10, 40)}, {"degrees": (-10, 40)}),
        ({"translate": (0.1, 0.02)}, {"degrees": 0, "translate": (0.1, 0.02)}),
        ({"zoom": (0.5, 2)}, {"degrees": 0, "scale": (0.5, 2)}),
        ({"shear": 20}, {"degrees": 0, "shear": 20}),
        ({"shear": (5, 30)}, {"degrees": 0, "shear": (5, 30)}),
        (TURNED, {"degrees": 15, "translate": (0.1, 0.2), "scale": (0.8, 1.5), "shear": [-5, 5, -20, 10]}),
    ],
    ids=["degrees", "range", "translate", "zoom", "shear", "shear range", "all"],
)
def test_matrices_are_distributed_as_torchvisions(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    drawn = draw(Augment(**ours), (SIZE, SIZE)).affine
    assert drawn is not None
    expected = [
        _geometry._get_inverse_affine_matrix([0.0, 0.0], p["angle"], p["translate"], p["scale"], p["shear"])
        for p in made_by(v2.RandomAffine(**theirs))
    ]
    for place, values in enumerate(np.array(expected, np.float32).T):
        assert ks_distance(drawn.reshape(-1, 6)[:, place].round(5), values.round(5)) < LIMIT, place


@given(
    st.floats(-360, 360),
    st.integers(-200, 200),
    st.integers(-200, 200),
    st.floats(0.1, 10),
    st.floats(-80, 80),
    st.floats(-80, 80),
)
@LAW
def test_matrices_are_torchvisions(angle: float, x: int, y: int, zoom: float, shear_x: float, shear_y: float) -> None:
    expected = _geometry._get_inverse_affine_matrix([0.0, 0.0], angle, [x, y], zoom, [shear_x, shear_y])
    values = (np.array([value], np.float64) for value in (angle, x, y, zoom, shear_x, shear_y))
    np.testing.assert_allclose(inverse(*values).reshape(-1), expected, rtol=1e-4, atol=1e-3)


# Colour


def test_factors_are_distributed_as_torchvisions() -> None:
    drawn = draw(Augment(**JITTER), (SIZE, SIZE)).colour
    assert drawn is not None
    made = made_by(v2.ColorJitter(**JITTER))
    for column, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        theirs = np.array([p[f"{name}_factor"] for p in made])
        assert ks_distance(drawn.factors[:, column], theirs) < LIMIT, name


def test_factors_stop_at_black_as_torchvisions() -> None:
    drawn = draw(Augment(brightness=3), (SIZE, SIZE)).colour
    assert drawn is not None
    theirs = np.array([p["brightness_factor"] for p in made_by(v2.ColorJitter(3))])
    assert ks_distance(drawn.factors[:, 0], theirs) < LIMIT
    assert drawn.factors[:, 0].min() >= 0
    assert (drawn.factors[:, 1:] == [1, 1, 0]).all()


def test_all_orders_are_as_likely() -> None:
    drawn = draw(Augment(hue=0.1), (SIZE, SIZE)).colour
    assert drawn is not None
    assert (np.sort(drawn.order, 1) == np.arange(4)).all()
    _, counts = np.unique(drawn.order, axis=0, return_counts=True)
    assert len(counts) == 24
    expected = DRAWS / 24
    assert ((counts - expected) ** 2 / expected).sum() < 49.7  # chi-square of 23 degrees of freedom: one in a thousand


@pytest.mark.parametrize("probability", [0.3, 0.8, 1.0])
def test_jitter_and_grey_come_with_their_probability(probability: float) -> None:
    drawn = draw(Augment(hue=0.1, jitter=probability, grayscale=probability), (SIZE, SIZE))
    assert drawn.colour is not None
    assert drawn.grey is not None
    assert_share(drawn.colour.applied, probability)
    assert_share(drawn.grey, probability)
    both = (drawn.colour.applied & drawn.grey).mean()
    assert abs(both - probability**2) < 0.03  # independent of each other


# Blur


def test_blur_is_distributed_as_torchvisions() -> None:
    sigma = draw(Augment(blur=0.6, blur_sigma=(0.5, 3)), (SIZE, SIZE)).blur
    assert sigma is not None
    assert_share(sigma > 0, 0.6)
    theirs = np.array([p["sigma"][0] for p in made_by(v2.GaussianBlur(9, (0.5, 3)))])
    ours = sigma[sigma > 0]
    assert ks_distance(ours, theirs) < 1.95 * (1 / len(ours) + 1 / DRAWS) ** 0.5


# Erasing


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, SIZE),
        ({"scale": (0.1, 1.0), "ratio": (0.1, 10.0)}, 32),  # some boxes do not fit
        ({"scale": (0.9, 1.0), "ratio": (0.1, 10.0)}, 8),  # most do not: some pictures are left whole
        ({"scale": (0.0, 0.01)}, 16),  # some boxes have no area
    ],
)
def test_boxes_are_distributed_as_torchvisions(options: dict[str, Any], size: int) -> None:
    mine = {f"erasing_{name}": value for name, value in options.items()}
    # Of seed 0, the first 4,000 x are unlike by chance (0.050, limit 0.044); 40,000 are not (0.005, limit 0.014).
    everywhere = np.full(DRAWS, 300)
    drawn = Augment(erasing=1.0, **mine).parameters(np.arange(DRAWS), everywhere, everywhere, 1, 0, size).erased
    assert drawn is not None
    made = [
        p if p["v"] is not None else {"i": 0, "j": 0, "h": 0, "w": 0}
        for p in made_by(v2.RandomErasing(1, **options), size)
    ]
    theirs = np.array([[p["j"], p["i"], p["w"], p["h"]] if p["w"] * p["h"] else [0] * 4 for p in made])
    for column, name in enumerate(("x", "y", "width", "height")):
        assert ks_distance(drawn[:, column], theirs[:, column]) < LIMIT, name
    assert ks_distance(drawn[:, 2] * drawn[:, 3], theirs[:, 2] * theirs[:, 3]) < LIMIT
    assert (drawn[:, :2] + drawn[:, 2:] <= size).all()


def test_erasing_comes_with_its_probability() -> None:
    drawn = draw(Augment(erasing=0.25), (SIZE, SIZE)).erased
    assert drawn is not None
    assert_share(drawn[:, 2] > 0, 0.25)


# All of them


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
    assert augment.late == augment.parameters(ids, side, side, seed, epoch, size).late == bool(kinds)


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
    assert draw(WHOLE, (300, 200), 20).take(part).late is False


def test_another_epoch_or_seed_draws_every_kind_anew() -> None:
    first = arrays_of(draw(EVERYTHING, (400, 300), 500))
    for seed, epoch in [(1, 0), (0, 1)]:
        other = arrays_of(draw(EVERYTHING, (400, 300), 500, seed, epoch))
        for name, array in first.items():
            assert (array != other[name]).any(), name


# A run that is resumed has to be augmented as it would have been: these never change. Rounded, because sines and
# exponentials may differ in the last place from one CPU to another.
def test_golden() -> None:
    ids, side = np.array([0, 1, 77, 2**33]), np.array([256, 341, 500, 40])
    drawn = arrays_of(EVERYTHING.parameters(ids, side, side[::-1], 7, 3, 224))
    digests = {
        name: hashlib.sha256(repr(np.round(array.astype(np.float64), 4).tolist()).encode()).hexdigest()[:12]
        for name, array in drawn.items()
    }
    assert digests == {
        "boxes": "0416b3ed75ab",
        "flips": "6c41e22faeea",
        "affine": "1918e95a6baf",
        "colour.factors": "12a6dc734e37",
        "colour.order": "92f275521995",
        "colour.applied": "05b8d96b7c66",
        "grey": "4a6a158178fd",
        "blur": "8e41a6b2490d",
        "erased": "f7be88a495e7",
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
    assert not augment.late
    assert set(arrays_of(draw(augment, (300, 200), 5))) == {"boxes", "flips"}


def test_presets_do_nothing_late() -> None:
    assert not any(augment.late for augment in (*PRESETS.values(), WHOLE))


def test_a_picture_is_larger_than_half_its_blur() -> None:
    augment = Augment(blur=0.5, blur_kernel=9)
    augment.check_size(5)
    with pytest.raises(OptionError, match=r"^Invalid blur_kernel \(got 9 at a size of 4\)\. Supported: below 8$"):
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
