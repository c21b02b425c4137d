"""The recipe of the forum thread that this package answers, as a recipe file: crop, resize, mirror, sharpen.

    wdsremux convert ORG/NAME OUT --recipe scripts/forum_recipe.py:bake

A random crop of 0.7 to 1.0 of the picture's area, in its own shape, is resized to 256x256 pixels, mirrored half of the
time and sharpened. Each row draws from its own generator, so the same seed bakes the same pixels in any batch, on any
number of workers. Needs nothing but Pillow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SIDE = 256  #: of the result, in pixels
SHARE = (0.7, 1.0)  #: of the area that a crop keeps
SHARPNESS = 1.5  #: 1.0 leaves a picture as it is


def bake(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """One augmented picture a row; labels and kept columns stay as they are."""
    return {"image": [augment(image, rng) for image, rng in zip(batch["image"], batch["__rng__"], strict=True)]}


def augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture of SIDE x SIDE pixels, drawn from a larger or smaller one in mode RGB."""
    scale = math.sqrt(rng.uniform(*SHARE))
    width, height = scale * image.width, scale * image.height
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box)
    if rng.random() < 0.5:
        small = ImageOps.mirror(small)
    return ImageEnhance.Sharpness(small).enhance(SHARPNESS)
