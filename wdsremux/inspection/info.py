"""What a split holds, and how well its shards are mixed: what `wdsremux info` says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wdsremux.format import samples
from wdsremux.format.manifest import Manifest


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
    worst_mixing: (
        float | None
    )  #: the largest ratio, over shards and classes, of a class's share in a shard to its share in all


def describe(out: Path, split: Manifest) -> SplitInfo:
    """Count a split's classes and how well its shards mix them; reads the sample table."""
    table = samples.read(out / split.split / samples.NAME)
    label, shard = np.asarray(table["label"]), np.asarray(table["shard"]).astype(np.int64)
    values, place, counts = np.unique(label, return_inverse=True, return_counts=True)
    by_shard = np.zeros((len(split.shards), len(values)), np.int64)
    np.add.at(by_shard, (shard, place), 1)
    mixing = None
    if len(values) > 1 and len(split.shards) > 1:
        mixing = float((by_shard / by_shard.sum(1, keepdims=True) / (counts / len(table))).max())
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
        worst_mixing=mixing,
    )
