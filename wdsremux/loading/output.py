"""What a batch of images looks like when it is handed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from wdsremux import arguments
from wdsremux.errors import OptionError

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  #: what pretrained models expect
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a batch of images looks like: a tensor [N, 3, size, size].

    Raises:
        OptionError: If a value is not supported by any backend.
    """

    size: int  #: pixels a side
    dtype: torch.dtype  #: uint8 holds 0 to 255 and is not normalised
    memory_format: torch.memory_format
    mean: Sequence[float]  #: of 0 to 1, by channel; a tuple, once this is made
    std: Sequence[float]

    def __post_init__(self) -> None:
        plain = {
            "size": arguments.integer("size", self.size, unit=" (pixels)"),
            "mean": arguments.channels("mean", self.mean),
            "std": arguments.channels("std", self.std),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if self.dtype not in DTYPES:
            raise OptionError(f"Invalid dtype (got {self.dtype}). Supported: {', '.join(map(str, DTYPES))}")
        if self.memory_format not in LAYOUTS:
            known = ", ".join(map(str, LAYOUTS))
            raise OptionError(f"Invalid memory_format (got {self.memory_format}). Supported: {known}")
        if min(self.std) <= 0:
            arguments.refuse("std", self.std, "three numbers greater than 0")

    @property
    def channels_last(self) -> bool:
        return self.memory_format == torch.channels_last
