"""What a split holds, and how well its shards are mixed: what `wdsremux info` says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdsremux.format import samples
from wdsremux.format.manifest import Manifest

LEAST_SHARDS = 8  #: in fewer, chance alone makes shards differ
_SLIGHT = 0.1  #: an association of classes and shards up to this does not show in training
_CHANCE = 4.0  #: standard deviations of chi-squared that chance is allowed


@dataclass(frozen=True, slots=True)
class ClassCount:
    label: int
    name: str | None
    samples: int


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """What `wdsremux info` says of a split."""

    split: str
    source: dict[str, Any]
    recipe: dict[str, Any]
    options: dict[str, Any]
    seed: int
    nsamples: int
    nrejects: int
    ndropped: int
    nshards: int
    size_bytes: int  #: of the tars
    labels: list[ClassCount]  #: by label
    environment: dict[str, Any]  #: library versions it was converted with
    #: the largest ratio, over shards and classes, of a class's share in a shard to its share in all
    worst_mixing: float | None
    well_mixed: bool | None  #: whether shards hold about the same classes; None: the split is too small to tell


def describe(out: Path, split: Manifest) -> SplitInfo:
    """Count a split's classes and how well its shards mix them; reads the sample table."""
    table = samples.read(out / split.split / samples.NAME)
    label, shard = np.asarray(table["label"]), np.asarray(table["shard"]).astype(np.int64)
    values, place, counts = np.unique(label, return_inverse=True, return_counts=True)
    by_shard = np.zeros((len(split.shards), len(values)), np.int64)
    np.add.at(by_shard, (shard, place), 1)
    worst = None
    if len(values) > 1 and len(split.shards) > 1:
        worst = float((by_shard / by_shard.sum(1, keepdims=True) / (counts / len(table))).max())
    names = split.classes or []
    return SplitInfo(
        split=split.split,
        source=split.source,
        recipe=split.recipe,
        options=split.options,
        seed=split.seed,
        nsamples=split.nsamples,
        nrejects=split.nrejects,
        ndropped=split.ndropped,
        nshards=len(split.shards),
        size_bytes=sum(shard.size_bytes for shard in split.shards),
        labels=[
            ClassCount(int(v), names[v] if 0 <= v < len(names) else None, int(n))
            for v, n in zip(values, counts, strict=True)
        ],
        environment=split.environment,
        worst_mixing=worst,
        well_mixed=_well_mixed(by_shard),
    )


def _well_mixed(by_shard: NDArray[np.int64]) -> bool | None:
    """Whether classes are spread over shards as evenly as chance would spread them, or nearly so.

    By Cramér's V of the table, corrected for chance (Bergsma 2013): 0 where every shard is like the whole, 1 where each
    class has its own shards.

    Args:
        by_shard: int64 [shards, classes], samples of each class in each shard.

    Returns:
        None if there are too few shards, classes or samples to tell.
    """
    (shards, classes), count = by_shard.shape, int(by_shard.sum())
    if classes < 2 or shards < LEAST_SHARDS or count < classes * shards:
        return None
    expected = by_shard.sum(1, keepdims=True) * (by_shard.sum(0) / count)
    chi_squared = float(((by_shard - expected) ** 2 / expected).sum())
    freedom = (shards - 1) * (classes - 1)
    beyond = chi_squared - freedom
    smaller = min(side - (side - 1) ** 2 / (count - 1) for side in (shards, classes)) - 1
    association = math.sqrt(max(0.0, beyond) / count / max(smaller, 1e-9))
    return bool(association <= _SLIGHT or beyond <= _CHANCE * math.sqrt(2 * freedom))
