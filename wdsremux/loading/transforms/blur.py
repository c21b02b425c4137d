"""Gaussian blur: a kernel of its own for each image, along rows, then along columns. Edges mirror the picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.loading.transforms.steps import TransformStep, for_some

_LEAST = 1e-9  #: weight of a pixel. Those that float32 can only hold denormalised make a CPU take three times as long


def steps(sigma: NDArray[np.float32] | None, kernel: int) -> list[TransformStep]:
    """For `Parameters.blur` and `blur_kernel`."""
    if sigma is None or kernel == 1:
        return []
    return for_some(sigma > 0, _blur, kernels(sigma, kernel))


def kernels(sigma: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Normal densities at whole pixels, made to sum to 1: float32 [N, side]; for sigma 0, the middle alone."""
    distance = np.arange(side) - side // 2
    weights = np.exp(-0.5 * (distance / np.maximum(sigma, 1e-3)[:, None].astype(np.float64)) ** 2)
    weights[weights < _LEAST] = 0
    normalised: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normalised


def _blur(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Images float32 [N, 3, S, S], kernels float32 [N, K].

    Products with band matrices, so the kernel's size costs nothing: 0.7 ms for 224 px a side on one core. There,
    torch's conv2d of one channel a group takes 1.4 to 2.7 ms, a sum of shifted pictures 0.6 for 9 px and 1.5 for 23.
    Where a user lets torch multiply in TF32, a level of 255 may be off by an eighth.
    """
    count, channels, size, _ = images.shape
    bands = _bands(kernels, size)
    rows = images.reshape(count, channels * size, size) @ bands.transpose(1, 2)
    return bands.unsqueeze(1) @ rows.view(images.shape)


def _bands(kernels: torch.Tensor, size: int) -> torch.Tensor:
    """[N, S, S]: rows of the weights with which each pixel of a line is made of all; what lies beyond is mirrored."""
    count, side = kernels.shape
    reach, wide = side // 2, size + side - 1
    bands = kernels.new_zeros(count, size, wide)
    bands.as_strided((count, size, side), (size * wide, wide + 1, 1)).copy_(kernels.unsqueeze(1))
    inner = bands[:, :, reach : reach + size]
    inner[:, :, 1 : reach + 1] += bands[:, :, :reach].flip(2)
    inner[:, :, size - 1 - reach : size - 1] += bands[:, :, reach + size :].flip(2)
    return inner
