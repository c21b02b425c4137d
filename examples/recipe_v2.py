"""A recipe of torchvision v2 transforms, which are applied once, during the conversion.

wdsremux convert photos photos-own --recipe examples/recipe_v2.py:stack

Each image is transformed by itself. Its random values depend only on --seed and its place in the source, so every run
makes the same images.
"""

from torchvision.transforms import v2

stack = v2.Compose(
    [
        v2.RandomResizedCrop(256, scale=(0.7, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomAdjustSharpness(1.5, p=1.0),
    ]
)
