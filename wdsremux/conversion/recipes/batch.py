"""Rows of a source -> the batch that a user's recipe gets."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux import codec, rng
from wdsremux.conversion.recipes.base import Reject, reject_of
from wdsremux.conversion.source import Rows
from wdsremux.errors import ImageError
from wdsremux.format import kept_json
from wdsremux.format.samples import NO_LABEL

ROW = "__row__"  #: the column that ties what a recipe returns to what it got
RNG = "__rng__"


@dataclass(frozen=True, slots=True)
class RowBatch:
    """What a recipe gets of some rows; a row whose image cannot be decoded is a reject and is not among it."""

    columns: dict[str, list[Any]]  #: by name, M values each; the recipe may change them at will
    places: list[int]  #: [M], of those rows among the N
    rows: Rows  #: all N
    rejects: list[Reject]  #: N - M


def make_batch(rows: Rows, images: str, seed: int) -> RowBatch:
    """Decode rows.

    Args:
        rows: some consecutive rows of a fragment.
        images: "pil" for PIL images (RGB) or "tensor" for torch tensors (uint8 [3, H, W]); upright in either case.
        seed: of the random streams in `__rng__`, one numpy Generator a row, the same for a row in any batch.
    """
    pictures, places, rejects = [], [], []
    for i, content in enumerate(rows.contents):
        if content is None or i in rows.faults:
            rejects.append(reject_of(rows, i))
            continue
        try:
            pictures.append(_form(codec.decode(content), images))
            places.append(i)
        except ImageError as error:
            rejects.append(Reject(rows.first + i, None, rows.paths[i].as_py(), rows.image_column, str(error)))
    kept = kept_json.rows(rows.kept) if rows.kept.num_columns else []
    columns: dict[str, list[Any]] = {name: [kept[i][name] for i in places] for name in rows.kept.column_names}
    columns[rows.image_column] = pictures
    if rows.label_column is not None:
        columns[rows.label_column] = [label_of(rows, i) for i in places]
    columns[ROW] = list(range(len(places)))
    columns[RNG] = _generators(seed, rows.fragment, [rows.first + i for i in places])
    return RowBatch(columns, places, rows, rejects)


def label_of(rows: Rows, i: int) -> int | None:
    """The label of a row; None where there is none."""
    label = rows.labels[i].as_py()
    return None if label is None or label == NO_LABEL else int(label)


def _form(pixels: codec.Pixels, images: str) -> Any:
    return codec.to_pil(pixels) if images == "pil" else torch.from_numpy(pixels).permute(2, 0, 1)


def _generators(seed: int, fragment: int, rows: list[int]) -> list[np.random.Generator]:
    words = rng.words(rng.key(seed, "recipe row"), rows, fragment, 4)
    keys: NDArray[np.uint64] = words[:2] << np.uint64(32) | words[2:]
    return [np.random.Generator(np.random.Philox(key=keys[:, i])) for i in range(len(rows))]


def seed_globals(seed: int, fragment: int, first: int) -> None:
    """Set the generators that transforms draw from where they get none, by the batch's place in the source.

    Args:
        seed: of the conversion.
        fragment: of the batch.
        first: row of the fragment that the batch begins with, or the only one that draws.
    """
    python, numpy, high, low = rng.words(rng.key(seed, "recipe batch"), [first], fragment, 4)[:, 0].tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(high << 32 | low)
