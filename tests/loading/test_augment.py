"""Crop and flip: torchvision's distributions, drawn by counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.transforms import v2

from tests.support.augments import DRAWS, SIZE, draw, ks_distance
from wdsremux.errors import OptionError
from wdsremux.loading.augment import PRESETS, WHOLE, Augment, make_augment

LAW = settings(max_examples=100, deadline=None)
NARROW = Augment(scale=(0.5, 0.6), ratio=(0.9, 1.5))


def torchvision_boxes(augment: Augment, size: tuple[int, int], count: int = DRAWS) -> NDArray[np.int64]:
    """The same by torchvision: x, y, width, height."""
    assert augment.scale is not None
    crop: Any = v2.RandomResizedCrop(224, augment.scale, augment.ratio)
    picture = torch.empty(1, size[1], size[0])
    torch.manual_seed(0)
    drawn = [crop.make_params([picture]) for _ in range(count)]
    return np.array([[p["left"], p["top"], p["width"], p["height"]] for p in drawn])


@pytest.mark.parametrize("size", [(256, 341), (500, 375), (256, 256), (700, 256), (31, 17)])
@pytest.mark.parametrize("augment", [Augment(), NARROW], ids=["default", "narrow"])
def test_boxes_are_distributed_as_torchvisions(augment: Augment, size: tuple[int, int]) -> None:
    ours, theirs = draw(augment, size).boxes, torchvision_boxes(augment, size)
    limit = 1.95 * (2 / DRAWS) ** 0.5  # one in a thousand pairs of samples of one distribution goes over it
    measures: dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]] = {
        "x": lambda b: b[:, 0],
        "y": lambda b: b[:, 1],
        "width": lambda b: b[:, 2],
        "height": lambda b: b[:, 3],
        "area": lambda b: b[:, 2] * b[:, 3],
        "ratio": lambda b: b[:, 2] / b[:, 3],
        "place": lambda b: (b[:, 0] + 0.5) / (size[0] - b[:, 2] + 1),
    }
    for name, function in measures.items():
        assert ks_distance(function(ours), function(theirs)) < limit, name


@pytest.mark.parametrize("size", [(10, 1_000), (1_000, 10), (1, 5_000), (5_000, 1), (37, 2_001)])
def test_pictures_too_long_for_any_box_get_torchvisions_middle(size: tuple[int, int]) -> None:
    assert draw(Augment(), size, 50).boxes.tolist() == torchvision_boxes(Augment(), size, 50).tolist()


@pytest.mark.parametrize("flip", [0.0, 0.1, 0.5, 1.0])
def test_flips_come_with_their_probability(flip: float) -> None:
    share = draw(Augment(flip=flip), (256, 256)).flips.mean()
    assert abs(share - flip) <= 4 * (flip * (1 - flip) / DRAWS) ** 0.5


def test_parameters_are_independent_of_each_other_and_from_sample_to_sample() -> None:
    drawn = draw(Augment(), (400, 300))
    x, y, w, h = drawn.boxes.T.astype(float)
    values = np.stack([x / (400 - w + 1), y / (300 - h + 1), w * h, w / h, drawn.flips])
    both = np.concatenate([values[:, 1:], values[:, :-1]])  # a sample's and the one's before
    correlation = np.corrcoef(both) - np.eye(10)
    # Area and ratio hang together a little, because boxes that stand out are drawn again.
    correlation[[2, 3, 7, 8], [3, 2, 8, 7]] = 0
    assert np.abs(correlation).max() < 4.5 / DRAWS**0.5


shapes = st.lists(st.tuples(st.integers(1, 5_000), st.integers(1, 5_000)), min_size=1, max_size=30)
shares = st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)).map(lambda pair: (min(pair), max(pair)))
ratios = st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)).map(lambda pair: (min(pair), max(pair)))
augments = st.builds(
    Augment, scale=st.none() | shares, ratio=ratios, flip=st.floats(0, 1), center=st.floats(0.001, 1)
) | st.sampled_from([Augment(), PRESETS["eval"], WHOLE])


@LAW
@given(augments, shapes, st.integers(-(2**40), 2**40), st.integers(0, 2**31))
@example(Augment(ratio=(10.0, 10.0)), [(1, 1), (1, 5_000)], 0, 0)
def test_boxes_lie_in_the_picture(augment: Augment, shapes: list[tuple[int, int]], seed: int, epoch: int) -> None:
    width, height = np.array(shapes).T
    x, y, w, h = augment.parameters(np.arange(len(shapes)), width, height, seed, epoch, SIZE).boxes.T
    assert (np.minimum(x, y) >= 0).all()
    assert (np.minimum(w, h) >= 1).all()
    assert (x + w <= width).all()
    assert (y + h <= height).all()


@LAW
@given(augments, shapes, st.data())
def test_a_sample_is_augmented_the_same_in_any_batch(
    augment: Augment, shapes: list[tuple[int, int]], data: st.DataObject
) -> None:
    width, height = np.array(shapes).T
    ids = np.arange(len(shapes)) * 1_000_003
    whole = augment.parameters(ids, width, height, 3, 4, SIZE)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(shapes) - 1), max_size=10)), np.int64)
    part = augment.parameters(ids[chosen], width[chosen], height[chosen], 3, 4, SIZE)
    assert part.boxes.tolist() == whole.boxes[chosen].tolist()
    assert part.flips.tolist() == whole.flips[chosen].tolist()


def test_another_epoch_or_seed_draws_anew() -> None:
    first = draw(Augment(), (400, 300))
    for seed, epoch in [(1, 0), (0, 1), (1, 1)]:
        other = draw(Augment(), (400, 300), seed=seed, epoch=epoch)
        assert (other.boxes == first.boxes).all(1).mean() < 0.01
        assert 0.4 < (other.flips == first.flips).mean() < 0.6
    again = draw(Augment(), (400, 300))
    assert again.boxes.tolist() == first.boxes.tolist()


# A run that is resumed has to be augmented as it would have been: these never change.
def test_golden() -> None:
    drawn = Augment().parameters(
        np.array([0, 1, 2**33]), np.array([256, 341, 500]), np.array([256, 256, 375]), 7, 3, 224
    )
    assert drawn.boxes.tolist() == [[9, 19, 136, 161], [12, 46, 241, 189], [50, 40, 394, 333]]
    assert drawn.flips.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("augment", "box"),
    [("eval", [58, 16, 224, 224]), (None, [42, 0, 256, 256]), (Augment(scale=None, center=0.5), [106, 64, 128, 128])],
)
def test_the_middle_of_341_by_256(augment: Augment | str | None, box: list[int]) -> None:
    drawn = draw(make_augment(augment), (341, 256), 20)
    assert drawn.boxes.tolist() == [box] * 20
    if not isinstance(augment, Augment):
        assert not drawn.flips.any()


def test_presets() -> None:
    assert make_augment("train") == Augment() == Augment(scale=(0.08, 1), ratio=(3 / 4, 4 / 3), flip=0.5)
    mine = Augment(flip=0)
    assert make_augment(mine) is mine
    with pytest.raises(
        OptionError, match=r"^Invalid augment \(got 'test'\)\. Supported: 'train', 'eval', an Augment, or"
    ):
        make_augment("test")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", (0.0, 1.0)),
        ("scale", (0.5, 0.4)),
        ("scale", (0.5, 1.1)),
        ("ratio", (0.0, 1.0)),
        ("ratio", (2.0, 1.0)),
        ("flip", -0.1),
        ("flip", 1.1),
        ("flip", float("nan")),
        ("center", 0.0),
        ("center", 1.1),
    ],
)
def test_values_that_are_no_distribution(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=rf"^Invalid {name} \(got .*\)\. Supported: "):
        Augment(**{name: value})
