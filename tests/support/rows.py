"""Rows of a source as a recipe gets them, of a few pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tests.conftest import jpeg
from wdsremux.conversion.recipes.base import Reject, Sample
from wdsremux.conversion.source import Fault, Rows
from wdsremux.format import kept_json


def picture(number: int, height: int = 10, width: int = 12) -> bytes:
    """A JPEG of one colour, another one for each number below 256."""
    return jpeg(np.full((height, width, 3), number, np.uint8), quality=95)


def rows(
    images: Sequence[bytes | None],
    labels: Sequence[int | None] | None = None,
    *,
    first: int = 0,
    fragment: int = 0,
    label_column: str | None = "class",
    kept: Mapping[str, Sequence[Any]] | None = None,
    faults: Mapping[int, Fault] | None = None,
) -> Rows:
    """Consecutive rows; their image column is "img", and row i is labelled i unless told otherwise."""
    numbers = range(first, first + len(images))
    return Rows(
        fragment=fragment,
        first=first,
        image_column="img",
        images=pa.array(images, pa.binary()),
        paths=pa.array([f"{number}.jpg" for number in numbers], pa.string()),
        label_column=label_column,
        labels=pa.array(list(numbers) if labels is None else labels, pa.int64()),
        kept=pa.table({name: pa.array(values) for name, values in (kept or {}).items()}),
        faults=faults or {},
    )


def as_json(item: Sample | Reject) -> bytes:
    """The kept columns of a sample as they stand in a tar."""
    assert isinstance(item, Sample)
    assert item.kept is not None
    return kept_json.dumps(item.kept)
