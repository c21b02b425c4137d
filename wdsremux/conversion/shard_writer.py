"""A block's encoded samples -> its shards: permuted, written as partial files, published under their final names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wdsremux import files, rng
from wdsremux.conversion.plan import Block
from wdsremux.conversion.spool import Form, Spooled
from wdsremux.errors import OutputError
from wdsremux.format import keys, manifest, samples
from wdsremux.format.containers import container, index_name, shard_name


def write(
    spooled: Sequence[Spooled], form: Form, block: Block, split: str, seed: int | None, partial: Path
) -> tuple[list[manifest.Shard], samples.Table]:
    """Write a block's samples as partial files; its shards are as even as can be, and none is empty.

    Args:
        spooled: the samples, in the order of their rows.
        form: how shards are written.
        block: numbers the shards.
        split: names them.
        seed: of the permutation; None keeps their order.
        partial: the folder of the partial files.

    Returns:
        The shards, and the table of their samples with `shard` counted from 0.
    """
    count = len(spooled)
    order = range(count)
    if seed is not None:
        order = rng.permutation(rng.key(seed, "bake"), count, block.first_shard).tolist()
    nshards = min(block.shards, count)
    shards, rows = [], []
    for number in range(nshards):
        chosen = order[number * count // nshards : (number + 1) * count // nshards]
        shard_number = block.first_shard + number
        with container(form.container).create(partial, split, shard_number, form.columns) as shard:
            for i in chosen:
                sample = spooled[i]
                image, kept = sample.content()
                shard.add(keys.key(*sample.table[-3:]), image, sample.label, sample.table[0], kept)
        for i, offset in zip(chosen, shard.offsets, strict=True):
            sample = spooled[i]
            rows.append((number, offset, sample.size, sample.label, *sample.table))
        name = shard_name(form.container, split, shard_number)
        shards.append(_describe(partial / name, len(chosen), shard.index))
    return shards, np.array(rows, samples.SAMPLE)


def _describe(path: Path, nsamples: int, index: bytes | None) -> manifest.Shard:
    """Write a finished partial shard's index beside it, and take down what the manifest says of both."""
    if index is not None:
        with open(path.with_name(index_name(path.name) or ""), "wb") as file:
            file.write(index)
            files.sync_and_close(file)
    index_sha256 = None if index is None else hashlib.sha256(index).hexdigest()
    return manifest.Shard(path.name, nsamples, path.stat().st_size, files.sha256(path), index_sha256)


def publish(
    shards: list[manifest.Shard], partial: Path, folder: Path, mended: Mapping[str, manifest.Shard] | None
) -> None:
    """Give a task's finished files their final names; an index before its shard, so that no shard stands without one.

    Args:
        shards: the task's.
        partial: the folder where they are.
        folder: the folder where they belong.
        mended: what they have to be, by name, where a finished split is mended.

    Raises:
        OutputError: if a finished split is mended and a file came out otherwise than its manifest says.
    """
    for shard in shards:
        if mended is not None and mended.get(shard.url) != shard:
            raise OutputError(
                f"{folder / shard.url} was rebuilt, but differs from what {manifest.NAME} records: the source or the "
                "environment has changed since. Convert again with --overwrite"
            )
        for name, _ in reversed(shard.files):
            try:
                os.replace(partial / name, folder / name)
            except FileNotFoundError:
                if not (folder / name).exists():  # else a lost attempt of another worker has moved it
                    raise
    files.sync_folder(folder)
