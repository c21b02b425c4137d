"""What is asked for, and a few other ways that are worth knowing. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wdsremux.conversion.recipes.names import COPY, SIZED
from wdsremux.conversion.spec import Spec
from wdsremux.format.containers import CONTAINERS, DEFAULT

_SIDES = (28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512)  #: that people train on, with room for crops
_QUALITY, _LESS = 90, 80
_MOSTLY = 0.5  #: share of JPEGs from which on copying them is worth a thought


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to convert."""

    name: str  #: the recipe, or the option that differs
    changes: Mapping[str, Any] = field(default_factory=dict)  #: options that differ from what is asked for


def choices(spec: Spec, short_side: int, jpegs: float) -> list[Choice]:
    """What is asked for, and after it what differs from that in one thing.

    Args:
        spec: what is asked for.
        short_side: median of the images in the source, in pixels.
        jpegs: share of the images that are JPEGs, 0 to 1.
    """
    recipe = spec.recipe if isinstance(spec.recipe, str) else getattr(spec.recipe, "__name__", "your recipe")
    found = [Choice(_asked(spec, recipe))]
    sized = SIZED.fullmatch(recipe) if isinstance(spec.recipe, str) else None
    if sized:
        form, asked = recipe.partition(":")[0], int(sized[0].partition(":")[2])
        found += [Choice(f"{form}:{side}", {"recipe": f"{form}:{side}"}) for side in _sides(asked, short_side)]
        if asked < short_side:  # or nothing is made smaller, and nothing is gained
            found.append(Choice("not fast", {"fast": False}) if spec.fast else Choice("fast", {"fast": True}))
    if recipe != COPY or jpegs < 1:
        quality = _LESS if spec.encoding.quality >= _QUALITY else _QUALITY
        found.append(Choice(f"quality {quality}", {"quality": quality}))
    if recipe != COPY and sized and jpegs >= _MOSTLY:
        found.append(Choice("copy", {"recipe": COPY, "fast": False, "restart_rows": False}))
    others = [name for name in CONTAINERS if name != spec.container]
    return [*found, *(Choice(f"container {name}", {"container": name}) for name in others)]


def _asked(spec: Spec, recipe: str) -> str:
    extra = ", fast" if spec.fast else ""
    extra += f", quality {spec.encoding.quality}" if spec.encoding.quality != _QUALITY and recipe != COPY else ""
    extra += f", container {spec.container}" if spec.container != DEFAULT else ""
    return f"{recipe}{extra}"


def _sides(asked: int, short_side: int) -> list[int]:
    """The next smaller size, and the next larger one that images are not enlarged to; their own, where asked is."""
    smaller = _SIDES[: bisect.bisect_left(_SIDES, asked)][-1:]
    if asked > short_side:
        fit = bisect.bisect_left(_SIDES, short_side)
        return [side for side in _SIDES[fit : fit + 1] if side < asked]
    larger = _SIDES[bisect.bisect_right(_SIDES, asked) :][:1]
    return [*smaller, *(side for side in larger if side <= short_side)]
