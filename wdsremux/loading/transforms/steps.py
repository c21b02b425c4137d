"""What is done to a batch on its device, step by step. All that depends on parameters is worked out on the host.

So nothing here reads a value back from the device, and a batch's parameters go there in one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_ALIGNMENT = 16  #: bytes; a tensor of 8-byte numbers can only begin at multiples of 8


@dataclass(frozen=True, slots=True)
class TransformStep:
    """One change to images [N, 3, S, S]."""

    run: Callable[..., torch.Tensor]  #: (images, *arrays on their device) -> images, the same or others
    arrays: tuple[NDArray[Any], ...] = ()  #: on the host, contiguous


def run(images: torch.Tensor, steps: Sequence[TransformStep], arrays: Sequence[torch.Tensor]) -> torch.Tensor:
    """One step after another; `arrays` are those of all of them, in order, as `send` gives them."""
    rest = iter(arrays)
    for step in steps:
        images = step.run(images, *(next(rest) for _ in step.arrays))
    return images


def for_some(
    chosen: NDArray[np.bool_], change: Callable[..., torch.Tensor], *arrays: NDArray[Any]
) -> list[TransformStep]:
    """The step that changes only chosen images; none where none is chosen.

    Args:
        chosen: [N].
        change: (images, *arrays) -> images, of the chosen ones alone. It may work in place.
        arrays: one row an image of the batch, contiguous.
    """
    index = np.flatnonzero(chosen)
    if not len(index):
        return []
    if len(index) == len(chosen):
        return [TransformStep(change, arrays)]

    def run_for_some(images: torch.Tensor, index: torch.Tensor, *arrays: torch.Tensor) -> torch.Tensor:
        return images.index_copy_(0, index, change(images.index_select(0, index), *arrays))

    return [TransformStep(run_for_some, (index, *(array[index] for array in arrays)))]


def send(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[torch.Tensor]:
    """Arrays as tensors on a device: in one copy that the host does not wait for, or shared where that is the CPU."""
    if device.type == "cpu" or not arrays:
        return [torch.from_numpy(array) for array in arrays]
    return packed(arrays, device)


def packed(arrays: Sequence[NDArray[Any]], device: torch.device) -> list[torch.Tensor]:
    """Arrays, at least one, as views of one piece of the device's memory."""
    starts = np.cumsum([0] + [-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays]).tolist()
    # torch keeps pinned memory from being used again before a copy out of it is done.
    host = torch.empty(starts[-1], dtype=torch.uint8, device="cpu", pin_memory=device.type == "cuda")
    view = host.numpy()
    for array, start in zip(arrays, starts, strict=False):
        view[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
    there = host.to(device, non_blocking=True)
    return [
        there[start : start + array.nbytes].view(torch.from_numpy(array).dtype).view(array.shape)
        for array, start in zip(arrays, starts, strict=False)
    ]
