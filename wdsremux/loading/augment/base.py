"""Sample ids -> augmentation parameters, in numpy, for a whole batch at once. Backends only carry them out.

Parameters are drawn by counter from (seed, epoch, sample id): a sample is augmented the same at any batch size, rank
count, thread count or backend. Each kind has a stream of its own, drawn only where it is on; which word of it means
what is written down in its module and never changes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from wdsremux import arguments
from wdsremux.errors import OptionError
from wdsremux.loading.augment import affine, blur, colour, crop, erasing
from wdsremux.loading.augment.parameters import NEUTRAL, Colour, Parameters
from wdsremux.loading.augment.ranges import Extent, around, check, shears
from wdsremux.loading.augment.streams import Range, Streams
from wdsremux.loading.order import Ids

__all__ = ["PRESETS", "WHOLE", "Augment", "Colour", "Parameters", "make_augment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """Random augmentation: the distributions of torchvision v2's transforms. All but crop and flip is off by default.

    In this order: crop and resize, flip, affine, colour jitter, grey, blur, normalise, erase.

    Raises:
        OptionError: when made with values that are no distribution.
    """

    # RandomResizedCrop, RandomHorizontalFlip; CenterCrop where scale is None
    scale: tuple[float, float] | None = (0.08, 1.0)  #: area of the crop, as a share; None: a square from the middle
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  #: width over height of the crop, log-uniform
    flip: float = 0.5  #: probability of a left-right flip
    center: float = 1.0  #: side of the square from the middle, as a share of the short side

    # RandomAffine, about the middle, bilinear, black outside; RandomRotation is `degrees` alone
    degrees: Extent = 0.0  #: clockwise turn
    translate: tuple[float, float] = (0.0, 0.0)  #: largest move to either side in x and y, as shares of the side
    zoom: tuple[float, float] = (1.0, 1.0)  #: enlargement; torchvision's `scale`
    shear: Extent | tuple[float, float, float, float] = 0.0  #: degrees, along x; four: low and high of x, then of y

    # ColorJitter within RandomApply: the operations come in random order
    brightness: Extent = 0.0  #: factor: one number is a distance from 1, two are low and high
    contrast: Extent = 0.0  #: factor, likewise
    saturation: Extent = 0.0  #: factor, likewise
    hue: Extent = 0.0  #: turns of the colour wheel, -0.5 to 0.5
    jitter: float = 1.0  #: probability that an image gets colour jitter at all

    grayscale: float = 0.0  #: RandomGrayscale: probability of grey

    # GaussianBlur within RandomApply
    blur: float = 0.0  #: probability
    blur_kernel: int = 9  #: side of the kernel in output pixels, odd
    blur_sigma: tuple[float, float] = (0.1, 2.0)  #: output pixels

    # RandomErasing, after normalising: what is erased becomes the mean colour
    erasing: float = 0.0  #: probability
    erasing_scale: tuple[float, float] = (0.02, 0.33)  #: erased area, as a share
    erasing_ratio: tuple[float, float] = (0.3, 3.3)  #: height over width, log-uniform

    def __post_init__(self) -> None:
        check({field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def after_crop(self) -> bool:
        """Whether anything is to be done after crop and flip."""
        return self._warps or self._jitters or self.grayscale > 0 or self.blur > 0 or self.erasing > 0

    def check_size(self, size: int) -> None:
        """See that pictures of that size can be augmented so.

        Raises:
            OptionError: where the blur's kernel reaches over a whole picture.
        """
        if self.blur > 0 and self.blur_kernel // 2 >= size:
            raise OptionError(
                f"Invalid blur_kernel (got {self.blur_kernel} at a size of {size}). Supported: below {2 * size}"
            )

    def parameters(
        self, ids: Ids, width: NDArray[np.int64], height: NDArray[np.int64], seed: int, epoch: int, size: int
    ) -> Parameters:
        """Draw for a batch.

        Args:
            ids: int64 [N].
            width: int64 [N], of the pictures as they are on disk.
            height: int64 [N].
            seed: of the run.
            epoch: another one draws anew.
            size: pixels a side of what is handed out.

        Raises:
            OptionError: as `check_size`.
        """
        self.check_size(size)
        streams = Streams(ids, seed, epoch)
        boxes, flips = self._crops(streams, width, height)
        return Parameters(
            boxes,
            flips,
            affine=affine.draw(streams, self._affine, size) if self._warps else None,
            colour=colour.draw(streams, self._colour, self.jitter) if self._jitters else None,
            grey=colour.draw_grey(streams, self.grayscale) if self.grayscale > 0 else None,
            blur=blur.draw(streams, self.blur, self.blur_sigma) if self.blur > 0 else None,
            blur_kernel=self.blur_kernel,
            erased=self._erased(streams, size) if self.erasing > 0 else None,
        )

    def _crops(
        self, streams: Streams, width: NDArray[np.int64], height: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if self.scale is None and self.flip == 0:
            return crop.middle_boxes(width, height, self.center), np.zeros(len(width), np.bool_)
        drawn = crop.words(streams)
        if self.scale is None:
            boxes = crop.middle_boxes(width, height, self.center)
        else:
            boxes = crop.random_boxes(drawn, width, height, self.scale, self.ratio)
        return boxes, crop.flips(drawn, self.flip)

    def _erased(self, streams: Streams, size: int) -> NDArray[np.int64]:
        return erasing.draw(streams, self.erasing, self.erasing_scale, self.erasing_ratio, size)

    @property
    def _affine(self) -> affine.Ranges:
        return affine.Ranges(around(self.degrees), self.translate, self.zoom, *shears(self.shear))

    @property
    def _warps(self) -> bool:
        return self._affine != affine.Ranges()

    @property
    def _colour(self) -> list[Range]:
        factors = (self.brightness, self.contrast, self.saturation)
        return [*(around(value, 1.0, 0.0) for value in factors), around(self.hue)]

    @property
    def _jitters(self) -> bool:
        neutral = [(value, value) for value in NEUTRAL.tolist()]
        return self.jitter > 0 and self._colour != neutral


PRESETS: dict[str, Augment] = {
    "train": Augment(),
    "eval": Augment(scale=None, flip=0.0, center=0.875),  # 224 of 256 px, the usual way to evaluate
}
WHOLE = Augment(scale=None, flip=0.0)  #: the largest square from the middle: what augment=None means


def make_augment(augment: Augment | str | None) -> Augment:
    """The Augment that a loader's argument means.

    Raises:
        OptionError: if there is no such preset.
    """
    if augment is None:
        return WHOLE
    if isinstance(augment, Augment):
        return augment
    if not isinstance(augment, str) or augment not in PRESETS:
        known = ", ".join(repr(name) for name in PRESETS)
        arguments.refuse("augment", augment, f"{known}, an Augment, or None")
    return PRESETS[augment]
