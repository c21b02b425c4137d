"""What is done to each image of a batch: plain arrays, made by `Augment`, carried out by backends and transforms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  #: columns of `Colour.factors`, values in `Colour.order`
NEUTRAL = np.array([1, 1, 1, 0], np.float32)  #: by column: factors that change nothing

Index = NDArray[np.int64] | slice


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour jitter: up to four operations an image, in an order of its own."""

    factors: NDArray[np.float32]  #: [N, 4]: brightness, contrast, saturation (1: as it is), hue (in turns; 0: as it is)
    order: NDArray[np.int8]  #: [N, 4]: which operation comes first, second, third, fourth
    applied: NDArray[np.bool_]  #: [N]: whether the image gets any of it

    def take(self, index: Index) -> Colour:
        """That of the samples at these places."""
        return Colour(self.factors[index], self.order[index], self.applied[index])


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is done to each image of a batch of N. None stands for a kind of augmentation that is off."""

    boxes: NDArray[np.int64]  #: [N, 4]: x, y, width, height of the crop, in source pixels, inside the picture
    flips: NDArray[np.bool_]  #: [N]: mirrored left to right
    #: [N, 2, 3]: place of an output pixel (x, y, 1) -> place in the picture cropped and flipped; both from its middle,
    #: in output pixels, x to the right, y down
    affine: NDArray[np.float32] | None = None
    colour: Colour | None = None
    grey: NDArray[np.bool_] | None = None  #: [N]
    blur: NDArray[np.float32] | None = None  #: [N]: sigma in output pixels; 0: left sharp
    blur_kernel: int = 1  #: side of the blur's kernel in output pixels, odd
    erased: NDArray[np.int64] | None = None  #: [N, 4]: x, y, width, height in output pixels, all 0: nothing

    @property
    def after_crop(self) -> bool:
        """Whether anything is to be done after crop and flip."""
        later = (self.affine, self.colour, self.grey, self.blur, self.erased)
        return any(kind is not None for kind in later)

    def take(self, index: Index) -> Parameters:
        """Those of the samples at these places: indices (repeated or not) or a slice."""
        return Parameters(
            self.boxes[index],
            self.flips[index],
            affine=None if self.affine is None else self.affine[index],
            colour=None if self.colour is None else self.colour.take(index),
            grey=None if self.grey is None else self.grey[index],
            blur=None if self.blur is None else self.blur[index],
            blur_kernel=self.blur_kernel,
            erased=None if self.erased is None else self.erased[index],
        )
