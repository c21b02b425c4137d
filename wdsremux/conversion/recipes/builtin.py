"""The recipes that come with the package: one sample a row, each row by itself."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wdsremux import codec, rng
from wdsremux.conversion.recipes.base import ROWS_A_BATCH, Reject, Sample, Settings, reject_of
from wdsremux.conversion.recipes.names import BUILT_IN
from wdsremux.conversion.source import Rows
from wdsremux.errors import ImageError
from wdsremux.format import kept_json
from wdsremux.format.samples import NO_LABEL

VERSION = 1  #: of what these recipes do to pixels; part of their hash


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One sample a row, each row by itself."""

    name: str
    encode: Callable[[codec.Data], codec.Jpeg]
    batch_size: int = ROWS_A_BATCH  #: without influence on the result

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": rng.digest("built-in", self.name, VERSION), "version": VERSION}

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        columns = kept_json.rows(rows.kept) if rows.kept.num_columns else itertools.repeat(None)
        each = zip(rows.contents, rows.labels.to_pylist(), columns, strict=False)
        return [self._row(rows, i, *row) for i, row in enumerate(each)]

    def _row(
        self, rows: Rows, i: int, image: memoryview | None, label: int | None, columns: dict[str, Any] | None
    ) -> Sample | Reject:
        if image is None or i in rows.faults:
            return reject_of(rows, i)
        try:
            jpeg = self.encode(image)
        except ImageError as error:
            return Reject(rows.first + i, None, rows.paths[i].as_py(), rows.image_column, str(error))
        return Sample(rows.first + i, 0, jpeg, NO_LABEL if label is None else label, columns)


def make(name: str, settings: Settings) -> BuiltIn:
    """The built-in recipe of that name."""
    match = BUILT_IN.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a built-in recipe")
    if match[3]:
        return BuiltIn(name, functools.partial(codec.keep, encoding=settings.encoding))
    pixels = {"resize": codec.resize_short_side, "square": codec.resize_square}[match[1]]
    sized = functools.partial(pixels, side=int(match[2]), spare=codec.FAST if settings.fast else codec.FINE)
    return BuiltIn(name, functools.partial(_resize, sized, settings.encoding))


def _resize(pixels: Callable[[codec.Data], codec.Pixels], encoding: codec.Encoding, data: codec.Data) -> codec.Jpeg:
    """Top-level, because recipes travel to workers."""
    return codec.encode(pixels(data), encoding)
