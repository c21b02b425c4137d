"""A block's encoded samples -> its shards: permuted, written as partial files, published under their final names.

Samples are spooled (16 MB in memory, then an unnamed temporary file), so that a block can be written permuted without a
second decode and in bounded memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from wdsremux import files, rng
from wdsremux.conversion.plan import Block
from wdsremux.conversion.recipes.base import Sample
from wdsremux.errors import OutputError, RecipeError
from wdsremux.format import keys, manifest, samples
from wdsremux.format.containers import DEFAULT, SampleColumns, container, index_name, shard_name

SPOOL_BYTES = 16 * 2**20  #: of encoded samples held in memory; past that the spool is a file


@dataclass(frozen=True, slots=True)
class Form:
    """How shards are written."""

    container: str = DEFAULT  #: its name in the table
    columns: SampleColumns = field(default_factory=SampleColumns)


@dataclass(slots=True)
class _Spooled:
    """A sample's content, or where it lies in the spool's file; and what the table will say of it."""

    image: bytes | None  #: None: in the file
    kept: bytes | None  #: as the container packs it
    position: int
    size: int  #: of the image, in bytes
    kept_size: int | None  #: of the kept columns behind it
    label: int
    table: tuple[int, ...]  #: crc32, width, height, fragment, row, part


@dataclass(slots=True)
class Spool:
    """Encoded samples of a block, in the order in which they were baked."""

    folder: Path
    form: Form
    samples: list[_Spooled] = field(default_factory=list)
    file: BinaryIO | None = None  #: has no name; None as long as all fits into memory
    nbytes: int = 0

    def add(self, fragment: int, sample: Sample) -> None:
        image, data = sample.image, sample.image.data
        kept = None if sample.kept is None else self._packed(fragment, sample, sample.kept)
        table = (zlib.crc32(data), image.width, image.height, fragment, sample.row, sample.part)
        kept_size = None if kept is None else len(kept)
        spooled = _Spooled(data, kept, self.nbytes, len(data), kept_size, sample.label, table)
        self.samples.append(spooled)
        self.nbytes += len(data) + (kept_size or 0)
        if self.file is not None:
            self._spill(spooled)
        elif self.nbytes > SPOOL_BYTES:
            self.file = cast(BinaryIO, tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115  # `spooled` closes it
            for spooled in self.samples:
                self._spill(spooled)

    def _packed(self, fragment: int, sample: Sample, values: dict[str, Any]) -> bytes:
        try:
            return container(self.form.container).pack(values, self.form.columns)
        except ValueError as error:
            raise RecipeError(
                f"sample {keys.key(fragment, sample.row, sample.part)} cannot be stored: {error}. Return a value of "
                "that type, or give the column another name, under which it is stored as JSON"
            ) from error

    def _spill(self, sample: _Spooled) -> None:
        """Move a sample into the file, whose end is the sample's place."""
        file = cast(BinaryIO, self.file)
        file.write(cast(bytes, sample.image))
        file.write(sample.kept or b"")
        sample.image = sample.kept = None

    def content(self, sample: _Spooled) -> tuple[bytes, bytes | None]:
        """The sample's image and its kept columns."""
        if sample.image is not None:
            return sample.image, sample.kept
        file = cast(BinaryIO, self.file)
        file.seek(sample.position)
        image = file.read(sample.size)
        return image, None if sample.kept_size is None else file.read(sample.kept_size)


@contextmanager
def spooled(folder: Path, form: Form) -> Iterator[Spool]:
    """An empty spool; past its bound in memory, a file without a name in `folder`."""
    spool = Spool(folder, form)
    try:
        yield spool
    finally:
        if spool.file is not None:
            spool.file.close()


def write(
    spool: Spool, block: Block, split: str, seed: int | None, partial: Path
) -> tuple[list[manifest.Shard], samples.Table]:
    """Write a block's samples as partial files; its shards are as even as can be, and none is empty.

    Args:
        spool: the samples.
        block: numbers the shards.
        split: names them.
        seed: of the permutation; None keeps the order of the spool.
        partial: the folder of the partial files.

    Returns:
        The shards, and the table of their samples with `shard` counted from 0.
    """
    count = len(spool.samples)
    order = range(count)
    if seed is not None:
        order = rng.permutation(rng.key(seed, "bake"), count, block.first_shard).tolist()
    nshards = min(block.shards, count)
    shards, rows = [], []
    form = spool.form
    for number in range(nshards):
        chosen = order[number * count // nshards : (number + 1) * count // nshards]
        shard_number = block.first_shard + number
        with container(form.container).create(partial, split, shard_number, form.columns) as shard:
            for i in chosen:
                sample = spool.samples[i]
                image, kept = spool.content(sample)
                shard.add(keys.key(*sample.table[-3:]), image, sample.label, sample.table[0], kept)
        for i, offset in zip(chosen, shard.offsets, strict=True):
            sample = spool.samples[i]
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
            os.replace(partial / name, folder / name)
    files.sync_folder(folder)
