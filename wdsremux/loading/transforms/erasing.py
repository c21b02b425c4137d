"""Erasing: a box of each image becomes one colour."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.loading.transforms.steps import TransformStep, for_some


def steps(erased: NDArray[np.int64] | None, colour: torch.Tensor) -> list[TransformStep]:
    """For `Parameters.erased`; the colour [3, 1, 1] is of the images' device, dtype and units."""
    if erased is None or not erased.any():
        return []
    if colour.device.type == "cpu":
        return [TransformStep(partial(erase_boxes, boxes=erased, colour=colour))]
    return for_some(erased[:, 2] > 0, partial(erase_masked, colour=colour), erased)


def erase_boxes(images: torch.Tensor, *, boxes: NDArray[np.int64], colour: torch.Tensor) -> torch.Tensor:
    """In place, box by box: 6 us each on a CPU, where a mask over 224 px a side costs 90."""
    for image, (x, y, width, height) in zip(images, boxes.tolist(), strict=True):
        if width:
            image[:, y : y + height, x : x + width] = colour
    return images


def erase_masked(images: torch.Tensor, boxes: torch.Tensor, *, colour: torch.Tensor) -> torch.Tensor:
    """The same, in place too, in a few launches, however many boxes there are: int64 [N, 4] on the device."""
    places = torch.arange(images.shape[-1], device=images.device)
    corner, side = boxes[:, :2, None], boxes[:, 2:, None]
    inside = (places >= corner) & (places < corner + side)  # [N, 2, S]: columns and rows
    mask = inside[:, 0, None, :] & inside[:, 1, :, None]
    return torch.where(mask.unsqueeze(1), colour, images, out=images)
