"""The deterministic work that is baked in: a batch of rows in, samples and rejects out.

A built-in recipe treats each row by itself; a recipe of the user's may use the whole batch, drop rows, or make several
samples of one. Both have the same shape, `bake(rows) -> list[Sample | Reject]`, and give the same for the same rows in
every process.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from wdsremux import codec, rng
from wdsremux.conversion.source import Rows
from wdsremux.errors import ImageError, OptionError

NO_LABEL = -1
VERSION = 1  #: of what the built-in recipes do to pixels; part of their hash

_NAME = re.compile(r"(?:(resize|square):([1-9]\d{0,4})|(copy))")


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded sample, ready for a tar."""

    row: int  #: of the fragment
    part: int  #: which of the samples made of that row
    image: codec.Jpeg
    label: int  #: NO_LABEL where there is none


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be baked, as it stands in rejects.jsonl."""

    row: int  #: of the fragment
    part: int | None  #: None: the whole row
    where: str | None  #: what the source calls the image
    column: str | None  #: whose value was at fault
    reason: str


class Recipe(Protocol):
    """What bakes the rows."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the manifest says of it: name, sha256, and what else tells it from others."""

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        """Samples and rejects of some consecutive rows of one fragment, in the order of the rows."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One sample a row, each row by itself."""

    name: str
    encode: Callable[[codec.Data], codec.Jpeg]

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": rng.digest("built-in", self.name, VERSION), "version": VERSION}

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        return [self._row(rows, i) for i in range(len(rows))]

    def _row(self, rows: Rows, i: int) -> Sample | Reject:
        image, label = rows.images[i], rows.labels[i].as_py()
        try:
            if not image.is_valid:
                raise ImageError("no image: null")
            jpeg = self.encode(memoryview(image.as_buffer()).cast("B"))  # Arrow's are signed, which simplejpeg refuses
        except ImageError as error:
            return Reject(rows.first + i, None, rows.paths[i].as_py(), rows.image_column, str(error))
        return Sample(rows.first + i, 0, jpeg, NO_LABEL if label is None else label)


def make_recipe(name: str, quality: int, subsampling: str) -> Recipe:
    """The recipe that a name on the command line means.

    Args:
        name: `resize:N` (short side N pixels, the picture kept whole), `square:N` (the largest square from the middle,
            N x N pixels) or `copy` (the source's own bytes, where every decoder takes them).
        quality: of the JPEGs, 1 to 100.
        subsampling: of their chroma, "420" or "444".

    Raises:
        OptionError: if there is no such recipe.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise OptionError(f"Invalid recipe (got {name!r}). Supported: resize:N, square:N (N in pixels) and copy")
    if match[3]:
        return BuiltIn(name, functools.partial(codec.keep, quality=quality, subsampling=subsampling))
    pixels = {"resize": codec.resize_short_side, "square": codec.resize_square}[match[1]]
    return BuiltIn(name, functools.partial(_resize, pixels, int(match[2]), quality, subsampling))


def _resize(
    pixels: Callable[[codec.Data, int], codec.Pixels], side: int, quality: int, subsampling: str, data: codec.Data
) -> codec.Jpeg:
    """Top-level, because recipes travel to workers."""
    return codec.encode(pixels(data, side), quality, subsampling)
