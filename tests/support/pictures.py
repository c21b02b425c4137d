"""Pictures and parameters for transforms, and what torchvision makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from wdsremux.loading.augment import Augment, Colour, Parameters
from wdsremux.loading.output import Output
from wdsremux.loading.transforms import Transforms

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
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "memory_format": torch.contiguous_format,
        "mean": MEAN,
        "std": STD,
    } | output
    return Transforms(Output(size=size, **options), device)


def levels(pixels: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """What our transforms make of it before they normalise: float32 [N, 3, S, S], 0 to 255."""
    return transforms(pixels.shape[1], mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))(pixels, parameters)


def shares(pixels: torch.Tensor) -> torch.Tensor:
    """What torchvision's functions are given: float32 [N, 3, S, S], 0 to 1."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = CLOSE) -> None:
    """Ours in levels of 255, torchvision's from 0 to 1."""
    assert (ours - theirs * 255).abs().max() <= tolerance


def jitter(factors: Any, order: Any, applied: Any = True) -> Colour:
    count = len(factors)
    return Colour(
        np.array(factors, np.float32),
        np.broadcast_to(np.array(order, np.int8), (count, 4)).copy(),
        np.broadcast_to(np.array(applied), count).copy(),
    )
