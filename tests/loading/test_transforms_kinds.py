"""Each kind of late augmentation, carried out: the pixels that torchvision's functions give for the same parameters.

Tolerances are in levels of 255. Measured: 0.0003 for colour and grey, 0.002 for blur and the affine warp.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from tests.support.augments import JITTER
from tests.support.pictures import ADJUST, CLOSE, MEAN, drawn, jitter, pictures, plain, shares, transforms
from wdsremux.loading.augment import Augment, Parameters
from wdsremux.loading.augment.affine import inverse
from wdsremux.loading.output import DTYPES
from wdsremux.loading.transforms.blur import kernels
from wdsremux.loading.transforms.erasing import erase_masked


def levels(pixels: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """What our transforms make of it before they normalise: float32 [N, 3, S, S], 0 to 255."""
    return transforms(pixels.shape[1], mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))(pixels, parameters)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = CLOSE) -> None:
    """Ours in levels of 255, torchvision's from 0 to 1."""
    assert (ours - theirs * 255).abs().max() <= tolerance


# Colour


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.999, 1.0, 1.4, 3.0])
@pytest.mark.parametrize("operation", [0, 1, 2], ids=["brightness", "contrast", "saturation"])
def test_blends_are_torchvisions(operation: int, factor: float) -> None:
    pixels, factors = pictures(3), np.array([[1.0, 1.0, 1.0, 0.0]] * 3)
    factors[:, operation] = factor
    ours = levels(pixels, replace(plain(3), colour=jitter(factors, [3, 2, 1, 0])))
    theirs = torch.stack([ADJUST[operation](image, factor) for image in shares(pixels)])
    assert_close(ours, theirs)


@pytest.mark.parametrize("turn", [-0.5, -0.34, -1 / 6, -0.01, 1e-4, 0.1, 1 / 3, 0.49, 0.5])
def test_hue_is_torchvisions_for_colours_of_all_kinds(turn: float) -> None:
    steps = torch.tensor([0, 1, 2, 40, 85, 128, 170, 200, 253, 254, 255], dtype=torch.uint8)
    lattice = torch.cartesian_prod(steps, steps, steps)  # 1,331 colours: greys, two channels alike, all orders of size
    pixels = lattice[: 36 * 36].reshape(1, 36, 36, 3)
    ours = levels(pixels, replace(plain(1), colour=jitter([[1, 1, 1, turn]], [0, 1, 2, 3])))
    assert_close(ours, F.adjust_hue(shares(pixels), turn))
    assert ours.min() >= -1e-3
    assert ours.max() <= 255 + 1e-3


def test_each_image_has_its_colours_changed_in_its_own_order() -> None:
    pixels = pictures(60, 24)
    colour = drawn(Augment(**JITTER, jitter=0.7), 60, 24).colour
    assert colour is not None
    assert len(np.unique(colour.order, axis=0)) > 15
    theirs = []
    for image, factors, order, applied in zip(
        shares(pixels), colour.factors, colour.order, colour.applied, strict=True
    ):
        for operation in order if applied else []:
            image = ADJUST[operation](image, float(factors[operation]))
        theirs.append(image)
    assert_close(levels(pixels, replace(plain(60), colour=colour)), torch.stack(theirs))


def test_colours_are_the_same_to_the_bit_whoever_else_is_in_the_batch() -> None:
    """Though all blends of a round are one, and only those worked out that some image of the round asks for."""
    pixels, parameters = pictures(30, 33), drawn(Augment(**JITTER, jitter=0.7), 30, 33)
    alone = [levels(pixels[i : i + 1], parameters.take(slice(i, i + 1))) for i in range(30)]
    assert torch.equal(levels(pixels, parameters), torch.cat(alone))


@pytest.mark.parametrize("columns", [(0, 1), (0, 3), (1, 2, 3)])
def test_operations_that_change_nothing_are_left_out_of_any_place(columns: tuple[int, ...]) -> None:
    """Some images have blends before hue, some after, some both, some neither."""
    random = np.random.default_rng(0)
    factors = np.tile(np.array([1, 1, 1, 0], np.float32), (40, 1))
    chosen = random.random((40, 4)) < 0.5
    chosen[:, [i for i in range(4) if i not in columns]] = False
    factors[chosen] = np.array([0.6, 1.7, 0.4, 0.3], np.float32)[np.nonzero(chosen)[1]]
    order = random.permuted(np.tile(np.arange(4), (40, 1)), axis=1)
    pixels = pictures(40, 24)
    theirs = []
    for image, factor, operations in zip(shares(pixels), factors, order, strict=True):
        for operation in operations:
            image = ADJUST[operation](image, float(factor[operation]))
        theirs.append(image)
    colour = replace(jitter(factors, [0, 1, 2, 3]), order=order.astype(np.int8))
    assert_close(levels(pixels, replace(plain(40), colour=colour)), torch.stack(theirs))


def test_the_order_makes_a_difference() -> None:
    factors = [[1.8, 0.5, 1.9, 0.2]] * 2
    pixels = pictures(1).expand(2, -1, -1, -1).contiguous()
    one, other = levels(pixels, replace(plain(2), colour=jitter(factors, [[0, 1, 2, 3], [3, 2, 1, 0]])))
    assert (one - other).abs().max() > 10


def test_images_that_get_no_jitter_stay_as_they_are_to_the_bit() -> None:
    pixels = pictures(4)
    colour = jitter(
        [[0.5, 1.5, 0.5, 0.1], [1, 1, 1, 0], [0.5, 1.5, 0.5, 0.1], [1, 1, 1, 0]], [2, 0, 3, 1], [1, 1, 0, 0]
    )
    changed, *same = transforms()(
        pixels, replace(plain(4), colour=replace(colour, applied=colour.applied.astype(bool)))
    )
    before = transforms()(pixels, plain(4))
    assert not torch.equal(changed, before[0])
    assert torch.equal(torch.stack(same), before[1:])


@pytest.mark.parametrize("chosen", [[True, False, True], [True] * 3, [False] * 3])
def test_grey_is_torchvisions(chosen: list[bool]) -> None:
    pixels = pictures(3)
    ours = levels(pixels, replace(plain(3), grey=np.array(chosen)))
    theirs = [
        F.rgb_to_grayscale(image, 3) if grey else image for image, grey in zip(shares(pixels), chosen, strict=True)
    ]
    assert_close(ours, torch.stack(theirs))


# Affine


@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize(
    ("angle", "x", "y", "zoom", "shear_x", "shear_y"),
    [
        (0, 0, 0, 1, 0, 0),
        (30, 0, 0, 1, 0, 0),
        (-120, 0, 0, 1, 0, 0),
        (0, 5, -3, 1, 0, 0),
        (0, 0, 0, 1.7, 0, 0),
        (0, 0, 0, 0.4, 0, 0),
        (0, 0, 0, 1, 25, 0),
        (0, 0, 0, 1, 0, -25),
        (17, -4, 6, 1.2, 10, -20),
        (0, 100, 0, 1, 0, 0),
    ],
)
def test_warps_are_torchvisions(
    size: int, angle: float, x: int, y: int, zoom: float, shear_x: float, shear_y: float
) -> None:
    pixels = pictures(2, size)
    values = (np.full(2, value, np.float64) for value in (angle, x, y, zoom, shear_x, shear_y))
    ours = levels(pixels, replace(plain(2), affine=inverse(*values)))
    theirs = F.affine(shares(pixels), angle, [x, y], zoom, [shear_x, shear_y], F.InterpolationMode.BILINEAR)
    assert_close(ours, theirs)


def test_a_quarter_turn_is_clockwise_and_exact() -> None:
    pixels = pictures(1)
    zero = np.zeros(1)
    ours = levels(pixels, replace(plain(1), affine=inverse(zero + 90, zero, zero, zero + 1, zero, zero)))
    assert_close(ours, torch.rot90(shares(pixels), -1, (2, 3)))


# Blur


@pytest.mark.parametrize(("kernel", "size"), [(1, 40), (3, 40), (9, 40), (23, 40), (9, 5), (79, 40)])
def test_blur_is_torchvisions(kernel: int, size: int) -> None:
    pixels, sigma = pictures(4, size), np.array([0.1, 0, 2.0, 7.5], np.float32)
    ours = levels(pixels, replace(plain(4), blur=sigma, blur_kernel=kernel))
    theirs = [
        F.gaussian_blur(image, [kernel, kernel], [float(width)]) if width else image
        for image, width in zip(shares(pixels), sigma, strict=True)
    ]
    assert_close(ours, torch.stack(theirs))


def test_kernels_hold_no_weights_that_make_a_cpu_slow() -> None:
    weights = kernels(np.linspace(0.01, 10, 1_000).astype(np.float32), 23)
    assert ((weights == 0) | (weights > 1e-10)).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)


# Erasing


BOXES = np.array([[0, 0, 1, 39], [0, 0, 0, 0], [7, 12, 20, 9], [39, 39, 1, 1]])


def erased(images: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """By torchvision."""
    boxes = zip(images, BOXES.tolist(), strict=True)
    return torch.stack([F.erase(image, y, x, h, w, value) if w else image for image, (x, y, w, h) in boxes])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_erased_becomes_the_mean_colour(dtype: torch.dtype) -> None:
    pixels = pictures(4)
    make = transforms(dtype=dtype)
    value = torch.zeros(3) if dtype != torch.uint8 else torch.tensor([round(255 * mean) for mean in MEAN])
    expected = erased(make(pixels, plain(4)), value.to(dtype).view(3, 1, 1))
    assert torch.equal(make(pixels, replace(plain(4), erased=BOXES)), expected)
    assert torch.equal(make(pixels, replace(plain(4), erased=np.zeros_like(BOXES))), make(pixels, plain(4)))


def test_a_mask_erases_what_boxes_do() -> None:
    """The way of a GPU, on a CPU."""
    images, colour = shares(pictures(4)), torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    expected = erased(images, colour)
    assert torch.equal(erase_masked(images, torch.from_numpy(BOXES), colour=colour), expected)
    assert torch.equal(images, expected)  # in place: what is handed out is these images, whoever is erased
