"""The columns of --keep, as the JSON that goes into a sample's tar member."""

from __future__ import annotations

import json
import math
from typing import Any


def dumps(values: dict[str, Any]) -> bytes:
    """One row's kept columns, in the order of --keep; nested and null values included.

    JSON knows neither NaN nor infinity (RFC 8259, section 6): they become null. What else it does not know (dates,
    decimals) is written as text; half of a surrogate pair, which is no character, as its escape.
    """
    text = json.dumps(_plain(values), ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):  # numpy's and torch's, which a recipe may return
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
