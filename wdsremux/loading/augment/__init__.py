"""Augmentation parameters: base.py draws those of a batch, the others one kind each; transforms/ carries them out."""

from wdsremux.loading.augment.base import PRESETS, WHOLE, Augment, Colour, Parameters, make_augment

__all__ = ["PRESETS", "WHOLE", "Augment", "Colour", "Parameters", "make_augment"]
