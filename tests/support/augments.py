"""Augmentations that tests draw, kind by kind, and how distributions are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdsremux.loading.augment import Augment, Parameters

DRAWS = 4_000
SIZE = 224


def draw(augment: Augment, size: tuple[int, int], count: int = DRAWS, seed: int = 0, epoch: int = 0) -> Parameters:
    """For pictures of one size, (width, height)."""
    width, height = np.full(count, size[0]), np.full(count, size[1])
    return augment.parameters(np.arange(count), width, height, seed, epoch, SIZE)


def ks_distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Kolmogorov and Smirnov's: the largest difference between two empirical distributions."""
    at = np.union1d(one, other)
    below = [np.searchsorted(np.sort(values), at, side="right") / len(values) for values in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


JITTER: dict[str, Any] = {"brightness": 0.4, "contrast": 0.3, "saturation": (0.2, 1.9), "hue": 0.1}
TURNED: dict[str, Any] = {"degrees": 15, "translate": (0.1, 0.2), "zoom": (0.8, 1.5), "shear": (-5, 5, -20, 10)}
#: What switches each kind on, by the field of `Parameters` that it fills.
KINDS: dict[str, dict[str, Any]] = {
    "affine": TURNED,
    "colour": JITTER | {"jitter": 0.8},
    "grey": {"grayscale": 0.2},
    "blur": {"blur": 0.5},
    "erased": {"erasing": 0.4},
}
EVERYTHING = Augment(**{name: value for kind in KINDS.values() for name, value in kind.items()})

#: Options that switch on one kind each, far enough to be seen; and all of them.
SINGLE_KINDS: dict[str, dict[str, Any]] = {
    "crop": {},
    "flip": {"flip": 1.0},
    "rotation": {"degrees": 30},
    "affine": {"degrees": 20, "translate": (0.2, 0.1), "zoom": (0.7, 1.3), "shear": (-10, 10, -5, 5)},
    "brightness": {"brightness": 0.5},
    "contrast": {"contrast": 0.5},
    "saturation": {"saturation": 0.8},
    "hue": {"hue": 0.5},
    "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "jitter": 0.8},
    "grayscale": {"grayscale": 0.5},
    "blur": {"blur": 0.8, "blur_kernel": 9, "blur_sigma": (0.1, 2.0)},
    "erasing": {"erasing": 0.9},
}
SINGLE_KINDS = {name: {"flip": 0.0} | kind for name, kind in SINGLE_KINDS.items()}
SINGLE_KINDS["everything"] = {name: value for kind in SINGLE_KINDS.values() for name, value in kind.items()}
SINGLE_KINDS["everything"]["flip"] = 0.5
