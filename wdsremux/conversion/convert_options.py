"""The options of a conversion as they are given: by keyword, under the names that they have on the command line.

Light to import, as the front doors need it before anything is loaded. `Spec` is what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict


class ConvertOptions(TypedDict, total=False):
    """Those of `wdsremux.convert`, where they are explained. What is left out has the default of `Spec`."""

    config: str | None
    split: str
    revision: str | None
    image_column: str | None
    label_column: str | None
    classes: str | Sequence[str] | None
    keep: str | Sequence[str] | None
    recipe: str | Callable[..., Any]
    recipe_version: str | None
    batch_size: int
    quality: int
    subsampling: str
    restart_rows: bool
    fast: bool
    container: str
    samples_per_shard: int | None
    samples_per_task: int | None
    shuffle: bool
    seed: int
    workers: int | None
    engine: str
    max_rejects: str | int | float
    limit: int | None
    patience: float
    strict: bool
    overwrite: bool
