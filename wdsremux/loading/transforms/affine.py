"""Turning, moving, zooming and shearing: bilinear, black outside.

As torchvision's `affine` without fill. With `fill=0`, RandomAffine's default, it multiplies pixels on the edge by their
share of picture twice over, so they come out darker.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.loading.transforms.steps import TransformStep


def steps(affine: NDArray[np.float32] | None, size: int) -> list[TransformStep]:
    """For `Parameters.affine` and pictures of `size` px a side."""
    if affine is None:
        return []
    # grid_sample counts from -1 at one edge to 1 at the other.
    return [TransformStep(_warp, (affine * np.float32(2 / size),))]


def _warp(images: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Images float32 [N, 3, S, S]; matrices float32 [N, 2, 3], px from the middle -> shares of half a side from it.

    A place is a sum of what its column and what its row gives: quicker than torch's affine_grid, which multiplies
    matrices, and exact where a user lets those be multiplied in TF32.
    """
    size = images.shape[-1]
    centres = torch.arange(size, dtype=torch.float32, device=images.device).add_((1 - size) / 2)
    by_x, by_y, offset = matrices.unsqueeze(-1).unbind(2)
    columns, rows = by_x * centres, by_y * centres + offset
    grid = (rows.unsqueeze(-1) + columns.unsqueeze(-2)).permute(0, 2, 3, 1)
    return torch.nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
