"""What comes after crop and flip, carried out: the same pixels as torchvision's functions give for the same parameters.

Tolerances are in levels of 255. Measured: 0.0003 for colour, 0.0001 for grey and blur, 0.002 for the affine warp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as F

from tests.loading.test_augment_kinds import EVERYTHING, JITTER
from wdsremux.loading.augment import WHOLE, Augment, Colour, Parameters
from wdsremux.loading.augment.affine import inverse
from wdsremux.loading.output import DTYPES, LAYOUTS, Output
from wdsremux.loading.transforms import Transforms
from wdsremux.loading.transforms.erasing import erase_masked
from wdsremux.loading.transforms.steps import packed

CPU, META = torch.device("cpu"), torch.device("meta")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLOSE = 0.01  #: levels of 255
ADJUST: tuple[Callable[..., torch.Tensor], ...] = (
    F.adjust_brightness,
    F.adjust_contrast,
    F.adjust_saturation,
    F.adjust_hue,
)


def pictures(count: int, size: int = 40) -> torch.Tensor:
    """uint8 [N, S, S, 3]: soft patches of colour, noise, and a corner each of black, white and grey."""
    random = torch.Generator().manual_seed(count * size)
    soft = torch.nn.functional.interpolate(
        torch.rand(count, 3, 5, 5, generator=random), size=(size, size), mode="bicubic"
    )
    noise = torch.rand(count, 3, size, size, generator=random)
    values = ((0.8 * soft + 0.2 * noise).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    third = size // 3
    for corner, level in (
        (values[:, :third, :third], 0),
        (values[:, -third:, :third], 255),
        (values[:, :third, -third:], 99),
    ):
        corner.fill_(level)
    return values


def plain(count: int) -> Parameters:
    """Parameters that do nothing late."""
    return Parameters(np.zeros((count, 4), np.int64), np.zeros(count, np.bool_))


def drawn(augment: Augment, count: int, size: int, epoch: int = 0) -> Parameters:
    side = np.full(count, 300)
    return augment.parameters(np.arange(count), side, side, 0, epoch, size)


def transforms(size: int = 40, device: torch.device = CPU, **output: Any) -> Transforms:
    options = {"dtype": torch.float32, "memory_format": torch.contiguous_format, "mean": MEAN, "std": STD} | output
    return Transforms(Output(size=size, **options), device)


def levels(pixels: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """What our transforms make of it before they normalise: float32 [N, 3, S, S], 0 to 255."""
    output = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
    return transforms(pixels.shape[1], **output)(pixels, parameters)


def shares(pixels: torch.Tensor) -> torch.Tensor:
    """What torchvision's functions are given: float32 [N, 3, S, S], 0 to 1."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = CLOSE) -> None:
    """Ours in levels of 255, torchvision's from 0 to 1."""
    assert (ours - theirs * 255).abs().max() <= tolerance


# Colour


def jitter(factors: Any, order: Any, applied: Any = True) -> Colour:
    count = len(factors)
    return Colour(
        np.array(factors, np.float32),
        np.broadcast_to(np.array(order, np.int8), (count, 4)).copy(),
        np.broadcast_to(np.array(applied), count).copy(),
    )


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
    assert -1e-3 <= ours.min()
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
    assert torch.equal(erase_masked(images, torch.from_numpy(BOXES), colour=colour), erased(images, colour))


# All together


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


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [False, True], ids=["fresh", "given"])
def test_everything_in_every_dtype_and_layout(dtype: torch.dtype, layout: torch.memory_format, given: bool) -> None:
    count, size = 24, 32
    pixels, parameters = pictures(count, size), drawn(EVERYTHING, count, size)
    make = transforms(size, dtype=dtype, memory_format=layout)
    out = torch.empty((count, 3, size, size), dtype=dtype, memory_format=layout) if given else None
    images = make(pixels, parameters, out)
    assert out is None or images is out
    assert images.shape == (count, 3, size, size)
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=layout)
    reference = stacked(pixels, parameters)
    if dtype == torch.uint8:
        expected = erase(
            (reference * 255).round(), parameters.erased, torch.tensor([round(255 * mean) for mean in MEAN])
        )
        difference = (images.float() - expected).abs()
        assert difference.max() <= 1  # where rounding falls the other way
        assert (difference > 0).float().mean() < 1e-3
    else:
        expected = erase(F.normalize(reference, list(MEAN), list(STD)), parameters.erased, torch.zeros(3))
        precision = {torch.float32: 0.0, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
        torch.testing.assert_close(images.float(), expected, rtol=precision, atol=CLOSE / 255 / min(STD))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_without_late_parameters_it_is_plain_normalisation(dtype: torch.dtype, layout: torch.memory_format) -> None:
    pixels = pictures(5)
    parameters = drawn(WHOLE, 5, 40)
    assert not parameters.late
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
