"""Figures as people read them, no more of each than the sample can tell."""

from __future__ import annotations

import math
from collections.abc import Callable

from wdsremux.forecast.interval import Interval

_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "bytes"))
_TIMES = ((3600.0, "h"), (60.0, "min"), (0.0, "s"))


def bytes_text(size: Interval | float) -> str:
    """A size, such as "1.2 GB (1.1 to 1.3)"."""
    return _scaled(size, _BYTES)


def time_text(seconds: Interval | float) -> str:
    """A duration, such as "3.4 h (3.1 to 3.7)"."""
    return _scaled(seconds, _TIMES)


def rate_text(rate: Interval) -> str:
    """Images a second."""
    return f"{rounded(rate.value)} images/s"


def count_text(count: Interval) -> str:
    """A number of things."""
    return f"{count.value:,.0f}{_range(count, lambda value: f'{value:,.0f}')}"


def brief(text: Callable[[float], str], amount: Interval) -> str:
    """A figure with its interval in percent, for a table: "1.2 GB ±4%"."""
    if not amount.value or not math.isfinite(amount.high):
        return text(amount.value)
    off = max(amount.high - amount.value, amount.value - amount.low) / amount.value
    return f"{text(amount.value)} ±{off:.0%}" if off >= 0.005 else text(amount.value)


def psnr_text(psnr: Interval | None) -> str:
    """In dB; a dash where nothing is lost."""
    return "-" if psnr is None else f"{psnr.value:.1f} dB"


def rounded(value: float, digits: int | None = None) -> str:
    """A number to two digits, or to three if the first is 1: 2,400; 1.34; 0.04.

    Args:
        value: what to write.
        digits: behind the point, where another number says it; negative before it.
    """
    if not math.isfinite(value):
        return "unknown"
    digits = _digits(value) if digits is None else digits
    return f"{round(value, digits):,.{max(0, digits)}f}"


def _digits(value: float) -> int:
    if value <= 0 or not math.isfinite(value):
        return 0
    first = math.floor(math.log10(value))
    return 1 - first + (value < 2 * 10.0**first)


def _scaled(amount: Interval | float, units: tuple[tuple[float, str], ...]) -> str:
    value = amount.value if isinstance(amount, Interval) else amount
    scale, unit = next((each for each in units if value >= each[0]), units[-1])
    scale = scale or 1.0
    digits = _digits(value / scale)
    said = f"{rounded(value / scale)} {unit}"
    if not isinstance(amount, Interval):
        return said
    return f"{said}{_range(amount, lambda each: rounded(each / scale, digits))}"


def _range(amount: Interval, text: Callable[[float], str]) -> str:
    """The interval, where it says more than the value."""
    low, high = text(max(0.0, amount.low)), text(amount.high)
    return "" if amount.is_exact or low == high else f" ({low} to {high})"
