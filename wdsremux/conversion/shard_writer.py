"""A block's encoded samples -> its shards: permuted, written as partial files, published under their final names.

Samples are spooled (16 MB in memory, then an unnamed temporary file), so that a block can be written permuted without a
second decode and in bounded memory.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from wdsremux import files, rng
from wdsremux.conversion.plan import Block
from wdsremux.conversion.recipes.base import Sample
from wdsremux.errors import OutputError
from wdsremux.format import archive, manifest, samples
from wdsremux.format.samples import NO_LABEL

if TYPE_CHECKING:
    import webdataset

SPOOL_BYTES = 16 * 2**20  #: of encoded samples held in memory; past that the spool is a file


@dataclass(slots=True)
class _Spooled:
    """A sample's content, or where it lies in the spool's file; and what the table will say of it."""

    image: bytes | None  #: None: in the file
    kept: bytes | None
    position: int
    size: int  #: of the image, in bytes
    kept_size: int | None  #: of the kept columns behind it
    label: int
    table: tuple[int, ...]  #: crc32, width, height, fragment, row, part


@dataclass(slots=True)
class Spool:
    """Encoded samples of a block, in the order in which they were baked."""

    folder: Path
    samples: list[_Spooled] = field(default_factory=list)
    file: BinaryIO | None = None  #: has no name; None as long as all fits into memory
    nbytes: int = 0

    def add(self, fragment: int, sample: Sample) -> None:
        image, data, kept = sample.image, sample.image.data, sample.kept
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

    def _spill(self, sample: _Spooled) -> None:
        """Move a sample into the file, whose end is the sample's place."""
        file = cast(BinaryIO, self.file)
        file.write(cast(bytes, sample.image))
        file.write(sample.kept or b"")
        sample.image = sample.kept = None

    def content(self, sample: _Spooled) -> dict[str, bytes]:
        """The sample's tar members by extension."""
        image, kept = sample.image, sample.kept
        if image is None:
            file = cast(BinaryIO, self.file)
            file.seek(sample.position)
            image = file.read(sample.size)
            kept = None if sample.kept_size is None else file.read(sample.kept_size)
        content = {"jpg": image}
        if sample.label != NO_LABEL:
            content["cls"] = str(sample.label).encode("ascii")
        if kept is not None:
            content["json"] = kept
        return content


@contextmanager
def spooled(folder: Path) -> Iterator[Spool]:
    """An empty spool; past its bound in memory, a file without a name in `folder`."""
    spool = Spool(folder)
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
    for number in range(nshards):
        chosen = order[number * count // nshards : (number + 1) * count // nshards]
        layout, index = archive.Layout(), []
        with _writer(split, block.first_shard + number, partial) as writer:
            for i in chosen:
                sample = spool.samples[i]
                key, content = archive.key(*sample.table[-3:]), spool.content(sample)
                writer.write({"__key__": key, **content})
                members = layout.add(key, {extension: len(data) for extension, data in content.items()})
                index.append(members)
                offset = next(member.offset for member in members if member.extension == "jpg")
                rows.append((number, offset, sample.size, sample.label, *sample.table))
        shards.append(_describe(archive.shard_name(split, block.first_shard + number), index, partial))
    return shards, np.array(rows, samples.SAMPLE)


def _writer(split: str, shard: int, partial: Path) -> webdataset.ShardWriter:
    """A writer of one shard.

    One a shard, because `post` runs after an exception too: it does no more than close. (ShardWriter does not close
    the opener's file itself.)
    """
    import webdataset  # only here: it loads torch, which a process that bakes nothing does without

    opened: list[BinaryIO] = []

    def open_partial(name: str) -> BinaryIO:
        opened.append(open(partial / name, "wb", buffering=2**20))  # noqa: SIM115  # post closes it
        return opened[-1]

    return webdataset.ShardWriter(
        "%06d".join(archive.shard_name(split, 0).rsplit("000000", 1)),
        start_shard=shard,
        maxcount=math.inf,
        maxsize=math.inf,
        opener=open_partial,
        post=lambda _: files.sync_and_close(opened.pop()),
        verbose=0,
        encoder=False,
        mtime=0,
        user="",
        group="",
    )


def _describe(name: str, index: list[list[archive.Member]], partial: Path) -> manifest.Shard:
    """Write a finished partial shard's index beside it, and take down what the manifest says of both."""
    text = archive.index_text(index)
    with open(partial / archive.index_name(name), "wb") as file:
        file.write(text)
        files.sync_and_close(file)
    size_bytes, sha256 = (partial / name).stat().st_size, files.sha256(partial / name)
    return manifest.Shard(name, len(index), size_bytes, sha256, hashlib.sha256(text).hexdigest())


def publish(
    shards: list[manifest.Shard], partial: Path, folder: Path, mended: Mapping[str, manifest.Shard] | None
) -> None:
    """Give a task's finished files their final names; an index before its tar, so that no tar stands without one.

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
        for name in (archive.index_name(shard.url), shard.url):
            os.replace(partial / name, folder / name)
    files.sync_folder(folder)
