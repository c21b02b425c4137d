"""A recipe of Albumentations transforms, which are applied once, during the conversion.

wdsremux convert photos photos-own --recipe examples/recipe_albumentations.py:prepare

Albumentations has random generators of its own. They are seeded with the generator of each row, so every run makes the
same images.
"""

import albumentations as A
import numpy as np

stack = A.Compose([A.RandomResizedCrop((256, 256), scale=(0.7, 1.0)), A.HorizontalFlip(), A.Sharpen()])


def prepare(batch):
    """One image for each row. The label and the columns of --keep stay as they are."""
    return {"image": [augment(image, rng) for image, rng in zip(batch["image"], batch["__rng__"], strict=True)]}


def augment(image, rng):
    stack.set_random_seed(int(rng.integers(2**32)))
    return stack(image=np.asarray(image))["image"]
