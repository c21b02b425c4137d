"""An example of a recipe file: random crop, resize, random flip, sharpen.

    wdsremux convert ORG/NAME OUT --recipe scripts/forum_recipe.py:bake

A random crop with 70 to 100% of the image's area and the same aspect ratio is resized to 256x256 pixels, flipped with
probability 0.5, and sharpened. Each row has its own random generator, so the same seed gives the same pixels with any
batch size and any number of workers. Only Pillow is needed.
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
    """Return one augmented image per row. Labels and kept columns are not changed."""
    return {"image": [augment(image, rng) for image, rng in zip(batch["image"], batch["__rng__"], strict=True)]}


def augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return an image of SIDE x SIDE pixels, made from an RGB image of any size."""
    scale = math.sqrt(rng.uniform(*SHARE))
    width, height = scale * image.width, scale * image.height
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box)
    if rng.random() < 0.5:
        small = ImageOps.mirror(small)
    return ImageEnhance.Sharpness(small).enhance(SHARPNESS)
