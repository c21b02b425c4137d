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
    """Random augmentation with the distributions of torchvision's v2 transforms. By default: random crop and flip.

    The steps are applied in this order: crop and resize, flip, affine transform, color jitter, grayscale, blur,
    normalize, erase. Areas outside a rotated or shifted image are black.

    Args:
        scale: Area of the crop, as a share of the image: a pair (lowest, highest). None: a central square instead of a
            random crop.
        ratio: Width divided by height of the crop: a pair (lowest, highest).
        flip: Probability of a left-right flip.
        center: Side of the central square, as a share of the short side. Used if `scale` is None.
        degrees: Rotation in degrees, up to this angle in both directions, or a pair (lowest, highest). Positive angles
            are clockwise.
        translate: Largest shift in x and y, as shares of the side.
        zoom: Enlargement: a pair (lowest, highest). torchvision calls it `scale`.
        shear: Shear in degrees: one number for both directions along x, a pair (lowest, highest) for x, or four
            numbers for x and y.
        brightness: Change of the brightness. One number: factors within this distance of 1. A pair: lowest and highest
            factor.
        contrast: Change of the contrast, given as for `brightness`.
        saturation: Change of the saturation, given as for `brightness`.
        hue: Shift of the hue in turns of the color wheel, up to 0.5 in both directions, or a pair (lowest, highest).
        jitter: Probability that an image gets any color jitter (brightness, contrast, saturation, hue).
        grayscale: Probability that an image becomes gray.
        blur: Probability of Gaussian blur.
        blur_kernel: Side of the blur kernel in pixels of the output, an odd number.
        blur_sigma: Standard deviation of the blur in pixels of the output: a pair (lowest, highest).
        erasing: Probability that a rectangle is erased. Erased pixels get the mean color.
        erasing_scale: Area of the rectangle, as a share of the image: a pair (lowest, highest).
        erasing_ratio: Height divided by width of the rectangle: a pair (lowest, highest).

    Raises:
        OptionError: If a value is not valid. The error says which values are supported.
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
        """Whether any step follows crop and flip."""
        return self._warps or self._jitters or self.grayscale > 0 or self.blur > 0 or self.erasing > 0

    def check_size(self, size: int) -> None:
        """Check that images of this size can be augmented.

        Raises:
            OptionError: If the blur kernel is larger than the image allows.
        """
        if self.blur > 0 and self.blur_kernel // 2 >= size:
            raise OptionError(
                f"Invalid blur_kernel (got {self.blur_kernel} with size={size}). Supported: less than {2 * size}"
            )

    def parameters(
        self, ids: Ids, width: NDArray[np.int64], height: NDArray[np.int64], seed: int, epoch: int, size: int
    ) -> Parameters:
        """Draw the random parameters of a batch.

        Args:
            ids: Sample ids, int64 [N].
            width: Widths of the stored images, int64 [N].
            height: Heights of the stored images, int64 [N].
            seed: Seed of the loader.
            epoch: Number of the epoch. Each epoch has different parameters.
            size: Height and width of the images in the batch, in pixels.

        Raises:
            OptionError: As for `check_size`.
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
