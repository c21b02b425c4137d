"""Sample ids -> augmentation parameters, in numpy, for a whole batch at once. Backends only carry them out.

Parameters are drawn by counter from (seed, epoch, sample id): a sample is augmented the same at any batch size, rank
count, thread count or backend. Which word of a sample's stream means what is written down below and never changes;
what is added later takes further words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wdsremux import rng
from wdsremux.errors import OptionError
from wdsremux.loading.order import Ids

_ATTEMPTS = 10  #: boxes tried before the fall-back, as in torchvision's RandomResizedCrop
_X, _Y, _FLIP = 2 * _ATTEMPTS, 2 * _ATTEMPTS + 1, 2 * _ATTEMPTS + 2  # words; before them area and ratio of each attempt
_WORDS = 2 * _ATTEMPTS + 3


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is done to each image of a batch."""

    boxes: NDArray[np.int64]  #: [N, 4]: x, y, width, height of the crop, in source pixels, inside the picture
    flips: NDArray[np.bool_]  #: [N]: mirrored left to right


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """Random resized crop and flip; the distributions of torchvision v2's RandomResizedCrop and RandomHorizontalFlip.

    Raises:
        OptionError: when made with values that are no distribution.
    """

    scale: tuple[float, float] | None = (0.08, 1.0)  #: area of the crop, as a share; None: a square from the middle
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  #: width over height of the crop, log-uniform
    flip: float = 0.5  #: probability of a left-right flip
    center: float = 1.0  #: side of the square from the middle, as a share of the short side

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise OptionError(
                f"Invalid scale (got {self.scale}). Supported: two shares of the area, 0 < low <= high <= 1"
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise OptionError(f"Invalid ratio (got {self.ratio}). Supported: 0 < low <= high")
        if not 0 <= self.flip <= 1:
            raise OptionError(f"Invalid flip (got {self.flip}). Supported: a probability, 0 to 1")
        if not 0 < self.center <= 1:
            raise OptionError(
                f"Invalid center (got {self.center}). Supported: a share of the short side, 0 < center <= 1"
            )

    def parameters(
        self, ids: Ids, width: NDArray[np.int64], height: NDArray[np.int64], seed: int, epoch: int
    ) -> Parameters:
        """Draw for a batch.

        Args:
            ids: int64 [N].
            width: int64 [N], of the pictures as they are on disk.
            height: int64 [N].
            seed: of the run.
            epoch: another one draws anew.
        """
        drawn = rng.uniform(rng.key(seed, "augment"), ids, epoch, _WORDS)
        boxes = _center(width, height, self.center) if self.scale is None else self._random(drawn, width, height)
        return Parameters(boxes, drawn[_FLIP] < self.flip)

    def _random(
        self, drawn: NDArray[np.float64], width: NDArray[np.int64], height: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        low, high = self.scale or (1.0, 1.0)
        area = (width * height) * (low + drawn[0 : 2 * _ATTEMPTS : 2] * (high - low))
        log_low, log_high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = np.exp(log_low + drawn[1 : 2 * _ATTEMPTS : 2] * (log_high - log_low))
        w, h = np.rint(np.sqrt(area * ratio)).astype(np.int64), np.rint(np.sqrt(area / ratio)).astype(np.int64)
        fits: NDArray[np.bool_] = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first, column = fits.argmax(0), np.arange(len(width))
        w, h = w[first, column], h[first, column]
        x = np.floor(drawn[_X] * (width - w + 1)).astype(np.int64)
        y = np.floor(drawn[_Y] * (height - h + 1)).astype(np.int64)
        return np.where(np.any(fits, 0, keepdims=True).T, np.stack([x, y, w, h], 1), self._fallback(width, height))

    def _fallback(self, width: NDArray[np.int64], height: NDArray[np.int64]) -> NDArray[np.int64]:
        """The largest box from the middle whose ratio is allowed: for pictures so long that ten boxes did not fit."""
        w = np.clip(np.rint(height * self.ratio[1]).astype(np.int64), 1, width)
        h = np.clip(np.rint(width / self.ratio[0]).astype(np.int64), 1, height)
        return np.stack([(width - w) // 2, (height - h) // 2, w, h], 1)


def _center(width: NDArray[np.int64], height: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    side = np.maximum(1, np.rint(np.minimum(width, height) * share).astype(np.int64))
    return np.stack([(width - side) // 2, (height - side) // 2, side, side], 1)


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
    if augment not in PRESETS:
        known = ", ".join(repr(name) for name in PRESETS)
        raise OptionError(f"Invalid augment (got {augment!r}). Supported: {known}, an Augment, or None")
    return PRESETS[augment]
