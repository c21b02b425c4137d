"""Recipes whose hashes are kept in recipe_hashes.json: a change to either is a change to every conversion begun before.

What they do to pixels does not matter, but every kind of value that a hash covers is used by one of them.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.transforms import v2

Batch = dict[str, Any]
SIDES = (64, 48)
LISTED = {"b": [1, 2.5, None], "a": {3, 1, 2}}
NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)
PATTERN = re.compile(r"(cat|dog)s?", re.IGNORECASE)
BESIDE = Path(__file__).parent / "mask.png"


class Mode(enum.Enum):
    """Followed, being of this file."""

    SOFT = 1
    HARD = 2


class Scale:
    """An object whose repr tells all of it."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __repr__(self) -> str:
        return f"Scale({self.factor})"

    def __call__(self, batch: Batch) -> Batch:
        return batch


def plain(batch: Batch) -> Batch:
    return batch


def constants(batch: Batch, side: int = SIDES[0], *, mode: Mode = Mode.HARD) -> Batch:
    return {**batch, "side": (side, mode, LISTED, NUMBERS, PATTERN, BESIDE)}


def transforms(batch: Batch) -> Batch:
    return {**batch, "image": [v2.functional.horizontal_flip(image) for image in batch["image"]]}


def follows(batch: Batch) -> Batch:
    return helper(constants(batch))


def helper(batch: Batch) -> Batch:
    return batch


def closes_over(factor: float) -> Callable[[Batch], Batch]:
    def inner(batch: Batch) -> Batch:
        return {**batch, "factor": factor}

    return inner


closed = closes_over(0.5)
partly = functools.partial(constants, side=32)
scaled = Scale(0.25)
