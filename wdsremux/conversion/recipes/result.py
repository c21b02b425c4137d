"""What a user's recipe returned -> samples and rejects."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from wdsremux.conversion.recipes import pictures
from wdsremux.conversion.recipes.base import Reject, Sample, Settings
from wdsremux.conversion.recipes.batch import ROW, RowBatch, label_of
from wdsremux.errors import ImageError, RecipeError, counted
from wdsremux.format import kept_json
from wdsremux.format.samples import NO_LABEL

_LABELS = range(-(2**63), 2**63)  #: what the sample table holds
_AS_TEXT = (bytes, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)
_SCALARS = (type(None), bool, int, float, str, *_AS_TEXT)


def read(result: object, batch: RowBatch, settings: Settings) -> list[Sample | Reject]:
    """The samples that a recipe made of a batch.

    A returned row belongs to the row that its `__row__` names, or, without that column, to the row in its place. What
    is returned first for a row is its part 0, then 1, and so on; a row that is not named is dropped. Label and kept
    columns that are not returned keep the row's own values; columns that nothing asks for are ignored.

    Returns:
        Samples and rejects, those of the batch too, by row and part.

    Raises:
        RecipeError: if it is no such batch; the text goes on after "returned".
    """
    columns = _columns(result, batch.rows.image_column, batch.rows.label_column, settings.keep)
    images = columns[batch.rows.image_column]
    targets = _targets(columns.get(ROW), len(images), len(batch.places))
    _check_kept(columns, batch, settings)
    originals = kept_json.rows(batch.rows.kept.take(batch.places)) or [{}] * len(batch.places)  # no columns: no rows
    made: list[Sample | Reject] = list(batch.rejects)
    parts = [0] * len(batch.places)
    for j, target in enumerate(targets):
        values = {name: columns[name][j] for name in columns}
        made.append(_sample(values, originals[target], batch, target, parts[target], settings))
        parts[target] += 1
    return sorted(made, key=lambda item: (item.row, item.part or 0))


def _columns(result: object, image: str, label: str | None, keep: tuple[str, ...]) -> dict[str, list[Any]]:
    if not isinstance(result, Mapping):
        raise RecipeError(f"a {type(result).__name__}. Return a dict of columns")
    if image not in result:
        raise RecipeError(
            f"no column {image!r}, which holds the images (only: {', '.join(map(str, result)) or 'none'})"
        )
    wanted = dict.fromkeys([image, *([] if label is None else [label]), *keep, ROW])
    columns = {name: _values(name, result[name]) for name in wanted if name in result}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise RecipeError(f"columns of different lengths: {', '.join(f'{n} {name!r}' for name, n in lengths.items())}")
    return columns


def _values(name: str, column: object) -> list[Any]:
    stacked = isinstance(column, np.ndarray | torch.Tensor) and column.ndim > 0
    if not stacked and not isinstance(column, list | tuple):
        raise RecipeError(f"a {type(column).__name__} as column {name!r}. Supported: a list, an array or a tensor")
    return list(column)  # type: ignore[call-overload,no-any-return]


def _targets(column: list[Any] | None, count: int, handed: int) -> list[int]:
    """For each returned row, the place in the batch of the row that it belongs to."""
    if column is None:
        if count != handed:
            raise RecipeError(
                f"{counted(count, 'image')} for {counted(handed, 'row')} and no {ROW!r}. Return as many images as "
                f"rows, in the same order, or return {ROW!r} with the position of the row that each image is from"
            )
        return list(range(handed))
    targets = [_integer(value) for value in column]
    for value, target in zip(column, targets, strict=True):
        if target is None or not 0 <= target < handed:
            raise RecipeError(f"{value!r:.80} in {ROW!r}. Supported: 0 to {handed - 1}, the positions in the batch")
    return [target for target in targets if target is not None]


def _integer(value: object) -> int | None:
    """An int of Python, numpy or torch; a bool is none."""
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 0:
        value = value.item()
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None


def _check_kept(columns: dict[str, list[Any]], batch: RowBatch, settings: Settings) -> None:
    for name in settings.keep:
        if name not in columns and name not in batch.rows.kept.column_names:
            raise RecipeError(f"no column {name!r}, although it is named by --keep and the source does not have it")


def _sample(
    values: dict[str, Any], original: dict[str, Any], batch: RowBatch, target: int, part: int, settings: Settings
) -> Sample | Reject:
    rows, place = batch.rows, batch.places[target]
    row = rows.first + place
    label = _label(values[rows.label_column], row) if rows.label_column in values else label_of(rows, place)
    content = _kept(values, original, rows.label_column, row, settings)
    try:
        image = pictures.encode(values[rows.image_column], settings.encoding)
    except ImageError as error:
        return Reject(row, part, rows.paths[place].as_py(), rows.image_column, str(error))
    except RecipeError as error:
        raise RecipeError(f"for row {row} {error}") from None
    return Sample(row, part, image, NO_LABEL if label is None else label, content)


def _label(value: object, row: int) -> int | None:
    label = _integer(value)
    if value is not None and (label is None or label not in _LABELS):
        raise RecipeError(
            f"for row {row} the label {value!r:.80} ({type(value).__name__}). Supported: an int, or None for no label"
        )
    return label


def _kept(
    values: dict[str, Any], original: dict[str, Any], label: str | None, row: int, settings: Settings
) -> dict[str, Any] | None:
    """The kept columns of a sample; a label that is kept too stays the source's own, which may be a text."""
    if not settings.keep:
        return None
    chosen = {}
    for name in settings.keep:
        returned = name in values and not (name == label and name in original)
        chosen[name] = values[name] if returned else original[name]
        if returned and not _is_data(chosen[name]):
            kind = type(chosen[name]).__name__
            raise RecipeError(f"for row {row} a {kind} in the kept column {name!r}, which cannot be stored")
    return chosen


def _is_data(value: object) -> bool:
    """Whether its JSON is the same in every run: a set's has no order, an object's text may be its address."""
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return _is_data(value.tolist())
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) for name in value) and all(map(_is_data, value.values()))
    return isinstance(value, _SCALARS)
