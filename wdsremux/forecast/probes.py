"""What a worker tells of the sample: how long each place takes to bake, and what the JPEG step costs in quality."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from wdsremux import codec
from wdsremux.conversion.plan import spread
from wdsremux.conversion.recipes.base import Recipe, Sample
from wdsremux.conversion.source import Source
from wdsremux.conversion.spec import Spec

_FINEST = codec.Encoding(quality=100, subsampling="444")
_PEAK = 255.0


@dataclass(frozen=True, slots=True)
class BakingTimes:
    """Asks how long a recipe takes for the rows of each place, in one worker. It travels to the worker."""

    source: Source  #: its fragments are places
    recipe: Recipe
    seconds: float  #: after which no further place is timed
    least: int  #: places to time in any case

    def __call__(self) -> list[tuple[int, float]]:
        """(place, seconds a row) of places that are spread over all, in their order."""
        import torch

        torch.set_num_threads(1)  # as in a worker that bakes
        self._baked(0)  # what is loaded at the first call is nobody's cost
        found, begun = dict[int, float](), time.perf_counter()
        for number in spread(len(self.source.fragments)):
            if len(found) >= self.least and time.perf_counter() - begun > self.seconds:
                break
            found[number] = self._baked(number)
        return sorted(found.items())

    def _baked(self, number: int) -> float:
        begun, count = time.perf_counter(), 0
        for rows in self.source.rows(number, self.recipe.batch_size):
            self.recipe.bake(rows)
            count += len(rows)
        return (time.perf_counter() - begun) / max(1, count)


@dataclass(frozen=True, slots=True)
class Quality:
    """Asks how much the JPEG step of an encoding changes what a recipe makes. It travels to a worker.

    The recipe's pixels are had through the finest JPEG there is, so that this works for any recipe; what that one
    changes is in both that are compared.
    """

    source: Source
    finest: Recipe  #: with the finest encoding
    encoding: codec.Encoding

    def __call__(self) -> list[float]:
        """Peak signal-to-noise ratio of each image in dB; none of one that is the same."""
        found = []
        for number in range(len(self.source.fragments)):
            for rows in self.source.rows(number, self.finest.batch_size):
                baked = (item for item in self.finest.bake(rows) if isinstance(item, Sample))
                found += [self._psnr(item.image) for item in baked]
        return [each for each in found if np.isfinite(each)]

    def _psnr(self, image: codec.Jpeg) -> float:
        pixels = codec.decode(image.data)
        again = codec.decode(codec.encode(pixels, self.encoding).data)
        error = float(np.square(pixels.astype(np.float32) - again).mean())
        return 10 * float(np.log10(_PEAK**2 / error)) if error else np.inf


def finest(spec: Spec) -> Spec:
    """The same with the finest encoding."""
    return replace(spec, encoding=_FINEST)
