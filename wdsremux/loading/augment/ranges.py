"""What each field of `Augment` may hold, and the ranges that its short forms stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from wdsremux.errors import OptionError
from wdsremux.loading.augment.streams import Range

Extent = float | tuple[float, float]  #: one number: that far to both sides of what changes nothing; two: low and high


def around(value: Extent, centre: float = 0.0, floor: float = -math.inf) -> Range:
    """The range that a field's value means, cut off below at `floor` where it was one number."""
    if isinstance(value, Sequence):
        low, high = value
        return float(low), float(high)
    return max(floor, centre - value), centre + value


def shears(value: Extent | tuple[float, float, float, float]) -> tuple[Range, Range]:
    """The ranges of shear along x and along y; one or two numbers mean x alone."""
    if isinstance(value, Sequence) and len(value) == 4:
        low_x, high_x, low_y, high_y = value
        return around((low_x, high_x)), around((low_y, high_y))
    return around(value), (0.0, 0.0)


def _within(value: Any, low: float, high: float) -> bool:
    """Two numbers that rise, between finite or open bounds."""
    first, second = value
    return low <= first <= second <= high and math.isfinite(first) and math.isfinite(second)


def _ratio(value: Any) -> bool:
    return bool(value[0] > 0) and _within(value, 0, math.inf)


def _probability(value: Any) -> bool:
    return bool(0 <= value <= 1)


def _angles(value: Any) -> bool:
    return _within(around(value), -math.inf, math.inf)


def _shear(value: Any) -> bool:
    return all(_within(pair, -90, 90) and pair[0] > -90 and pair[1] < 90 for pair in shears(value))


def _shares(value: Any) -> bool:
    x, y = value
    return bool(0 <= x <= 1 and 0 <= y <= 1)


def _factors(value: Any) -> bool:
    return _within(around(value, 1.0, 0.0), 0, math.inf)


def _area(value: Any) -> bool:
    return bool(value[0] > 0) and _within(value, 0, 1)


_CHANCE = "a probability from 0 to 1"
_FACTORS = "a number, 0 or more (factors within this distance of 1), or a pair of factors, 0 <= low <= high"
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "scale": (
        lambda value: value is None or _area(value),
        "a pair of shares of the area, 0 < low <= high <= 1, or None",
    ),
    "ratio": (_ratio, "a pair, 0 < low <= high"),
    "flip": (_probability, _CHANCE),
    "center": (lambda value: 0 < value <= 1, "a share of the short side, 0 < center <= 1"),
    "degrees": (_angles, "an angle, 0 or more (rotation in both directions), or a pair of angles, low <= high"),
    "translate": (_shares, "a pair of shares of the side, 0 to 1, for x and y"),
    "zoom": (_ratio, "a pair, 0 < low <= high"),
    "shear": (
        _shear,
        "an angle, 0 or more and less than 90 (shear in both directions), a pair of angles, low <= high, for x, or "
        "four angles for x and y",
    ),
    "brightness": (_factors, _FACTORS),
    "contrast": (_factors, _FACTORS),
    "saturation": (_factors, _FACTORS),
    "hue": (
        lambda value: _within(around(value), -0.5, 0.5),
        "turns of the color wheel, 0 to 0.5, or a pair, -0.5 <= low <= high <= 0.5",
    ),
    "jitter": (_probability, _CHANCE),
    "grayscale": (_probability, _CHANCE),
    "blur": (_probability, _CHANCE),
    "blur_kernel": (lambda value: value > 0 and value % 2 == 1 and value == int(value), "an odd number of pixels"),
    "blur_sigma": (_ratio, "a pair in pixels, 0 < low <= high"),
    "erasing": (_probability, _CHANCE),
    "erasing_scale": (lambda value: _within(value, 0, 1), "a pair of shares of the area, 0 <= low <= high <= 1"),
    "erasing_ratio": (_ratio, "a pair, 0 < low <= high"),
}


def check(values: dict[str, Any]) -> None:
    """See that each field holds what it may.

    Raises:
        OptionError: naming the first that does not.
    """
    for name, value in values.items():
        allowed, supported = _RULES[name]
        try:
            fine = allowed(value)
        except (TypeError, ValueError, LookupError):  # not numbers, or not as many as there must be
            fine = False
        if not fine:
            raise OptionError(f"Invalid {name} (got {value!r}). Supported: {supported}")
