"""Colour jitter and grey, on float32 images from 0 to 255: blends with black, with mean grey, with grey; hue turned.

Each image has an order of its own, in which hue comes once: so there are up to three rounds of blends, then hue, then
up to three rounds again. In a round every image that has a blend left takes part, each with weights of its own, since
all blends are one: `own * image + mean * its mean grey + grey * its grey`. Images are sorted by how many of their
blends come before hue, so that each round concerns one run of them. On a GPU a round is up to 9 launches and hue 22;
operation by operation, each in any of four places, all of it would be 200.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain, zip_longest
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.loading.augment.parameters import BRIGHTNESS, CONTRAST, HUE, NEUTRAL, Colour
from wdsremux.loading.transforms.steps import TransformStep, for_some

WHITE = 255.0
_NEUTRAL: list[float] = NEUTRAL.tolist()
_RED, _GREEN, _BLUE = _SHARES = 0.2989, 0.587, 0.114  #: in grey (ITU-R BT.601)
_LEAST = 1e-6  #: of 255; below it, colours are grey
_Weights = tuple[float, float, float]  #: of an image, of its mean grey, of its grey
_UNCHANGED: _Weights = (1.0, 0.0, 0.0)
#: Float32 [3, 1, 1] each: the shares in grey; and for hue, of which a channel that is d sixths of a turn away from its
#: place on the wheel gets clamp(offset + slope * d, 0, 1) of the pixel's chroma. Red is counted from the far side, 3.
_BY_CHANNEL, _PLACES, _SLOPES, _OFFSETS = (
    np.array(values, np.float32).reshape(3, 1, 1) for values in (_SHARES, (3, 2, 4), (1, -1, -1), (-1, 2, 2))
)


class _Changes(NamedTuple):
    """What is to be done to the colours of one image. Operations that would change nothing are left out."""

    before: list[_Weights]  #: blends before hue; all of them where hue stays
    turn: float  #: of hue, 1 the whole way round
    after: list[_Weights]  #: blends


def steps(colour: Colour | None) -> list[TransformStep]:
    """For `Parameters.colour`."""
    if colour is None:
        return []
    values = zip(colour.order.tolist(), colour.factors.tolist(), colour.applied.tolist(), strict=True)
    images = [_changes(*image) for image in values]
    index = sorted(range(len(images)), key=lambda i: _place(images[i]))
    images = [images[i] for i in index]
    found = [_blended(blends) for blends in zip_longest(*(image.before for image in images))]
    found += _turned([image.turn for image in images])
    found += [_blended(blends) for blends in zip_longest(*(image.after for image in images))]
    back = np.argsort(index)
    return [*_rearranged(np.array(index)), *found, *_rearranged(back)] if found else []


def grey_steps(grey: NDArray[np.bool_] | None) -> list[TransformStep]:
    """For `Parameters.grey`."""
    return [] if grey is None else for_some(grey, lambda images: images.copy_(luma(images).unsqueeze(1)))


def _changes(order: list[int], factors: list[float], applied: bool) -> _Changes:
    """Those of one image, by its row of `Colour`."""
    before, turn, after = list[_Weights](), 0.0, list[_Weights]()
    blends = before
    for operation in order if applied else ():
        factor = factors[operation]
        if factor == _NEUTRAL[operation]:
            continue
        if operation == HUE:
            turn, blends = factor, after
        elif operation == BRIGHTNESS:
            blends.append((factor, 0.0, 0.0))
        else:
            rest = 1 - factor
            blends.append((factor, rest, 0.0) if operation == CONTRAST else (factor, 0.0, rest))
    return _Changes(before, turn, after)


def _place(image: _Changes) -> tuple[bool, int, int]:
    """Sorted by this, a round before hue is for images in front, one after it for images behind; idle ones are last."""
    return not any(image), -len(image.before), len(image.after)


def _blended(blends: Sequence[_Weights | None]) -> TransformStep:
    """A round, from the first image that has a blend in it to the last: those between them are multiplied by 1."""
    run = _run(blends)
    flat = chain.from_iterable(blend or _UNCHANGED for blend in blends[run])
    own, mean, grey = np.fromiter(flat, np.float32).reshape(-1, 3, 1, 1, 1).swapaxes(0, 1)
    rest = {name: weights * _BY_CHANNEL for name, weights in (("mean", mean), ("grey", grey)) if weights.any()}
    return TransformStep(partial(_blend, run=run, names=tuple(rest)), (np.ascontiguousarray(own), *rest.values()))


def _turned(turns: Sequence[float]) -> list[TransformStep]:
    if not any(turns):
        return []
    run = _run(turns)
    sixths = 6 * np.array(turns[run], np.float32).reshape(-1, 1, 1)
    return [TransformStep(partial(_turn, run=run), (sixths, _PLACES, _SLOPES, _OFFSETS))]


def _run(values: Sequence[object]) -> slice:
    """From the first that says something to the last."""
    index = [i for i, value in enumerate(values) if value]
    return slice(index[0], index[-1] + 1)


def _rearranged(index: NDArray[np.int64]) -> list[TransformStep]:
    """The step that puts image index[i] in place i; none where they stand so."""
    if len(index) == 1 or (index[:-1] < index[1:]).all():
        return []
    return [TransformStep(lambda images, index: images.index_select(0, index), (index,))]


def _blend(
    images: torch.Tensor, own: torch.Tensor, *rest: torch.Tensor, run: slice, names: tuple[str, ...]
) -> torch.Tensor:
    blend(images[run], own, **dict(zip(names, rest, strict=True)))
    return images


def _turn(images: torch.Tensor, sixths: torch.Tensor, *wheel: torch.Tensor, run: slice) -> torch.Tensor:
    turn_hue(images[run], sixths, *wheel)
    return images


def luma(images: torch.Tensor) -> torch.Tensor:
    """[N, 3, …] -> [N, …]."""
    red, green, blue = images.unbind(1)
    return (red * _RED).add_(green, alpha=_GREEN).add_(blue, alpha=_BLUE)


def blend(
    images: torch.Tensor, own: torch.Tensor, *, mean: torch.Tensor | None = None, grey: torch.Tensor | None = None
) -> None:
    """In place, on float32 [N, 3, S, S] from 0 to 255: brightness, contrast, saturation.

    Args:
        images: N of them.
        own: float32 [N, 1, 1, 1]: weights of the images.
        mean: float32 [N, 3, 1, 1]: of their channels' means; None where no image has any. To one whose weights are 0
            it adds 0, so what becomes of an image does not depend on the others.
        grey: float32 [N, 3, 1, 1]: of their channels, summed to a grey for all three; None likewise.
    """
    average = None if mean is None else (images.mean((2, 3), keepdim=True) * mean).sum(1, keepdim=True)
    shade = None if grey is None else (images * grey).sum(1, keepdim=True)
    images.mul_(own)
    for other in (average, shade):
        if other is not None:
            images.add_(other)
    images.clamp_(0, WHITE)


def turn_hue(
    images: torch.Tensor, sixths: torch.Tensor, places: torch.Tensor, slopes: torch.Tensor, offsets: torch.Tensor
) -> None:
    """Turn the hue of HSV, leaving saturation and value, by sixths [N, 1, 1] of the whole way round; in place.

    Red stands at 0, green at 2, blue at 4. With the largest and the smallest of a pixel's values, their difference C,
    and s = (green + blue - 2 red) / C, the hue is 1.5 + s - clamp(s, -1, 1) / 2 away from red, towards green where
    green exceeds blue. Turned, a channel is full within 1 of its place on the wheel, empty beyond 2, linear between.
    """
    red, green, blue = images.unbind(1)
    least = images.amin(1)  # torch.aminmax takes sixteen times as long on a CPU
    chroma = images.amax(1).sub_(least)
    work = (green + blue).sub_(red, alpha=2).div_(chroma.clamp_min(_LEAST))
    hue = work.clamp(-1, 1)
    torch.sub(work, hue, alpha=0.5, out=hue)
    hue.add_(1.5).copysign_(torch.sub(green, blue, out=work)).add_(sixths)
    hue.sub_(torch.mul(hue, 1 / 6, out=work).floor_(), alpha=6)
    share = torch.sub(hue.unsqueeze(1), places).abs_().mul_(slopes).add_(offsets).clamp_(0, 1)
    torch.addcmul(least.unsqueeze(1), chroma.unsqueeze(1), share, out=images)
