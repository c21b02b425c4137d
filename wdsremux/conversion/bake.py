"""One task -> its shards, table rows and rejects. Runs in a worker; nothing but a short report leaves it.

Encoded samples are spooled (16 MB in memory, then an unnamed temporary file), so that a task can be written permuted
without a second decode and in bounded memory. Files get their final names when the whole task is done, DALI's index
before its tar; the task's record in the journal comes last and says that it is.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import webdataset

from wdsremux import files, rng
from wdsremux.conversion import memory
from wdsremux.conversion.events import Progress
from wdsremux.conversion.plan import Block, Task
from wdsremux.conversion.recipes import NO_LABEL, Recipe, Reject, Sample
from wdsremux.conversion.source import Rows, Source
from wdsremux.errors import ConversionError, OutputError
from wdsremux.format import archive, manifest, samples

SPOOL_BYTES = 16 * 2**20  #: of encoded samples held in memory; past that the spool is a file


@dataclass(frozen=True, slots=True)
class Bakery:
    """What all tasks of a run have in common."""

    source: Source
    recipe: Recipe
    folder: Path  #: OUT/SPLIT, where the shards go
    work: Path  #: where partial files, the spool and the journal go; on the same file system
    split: str
    seed: int
    environment: Mapping[str, Any]  #: that all workers must have
    shuffle: bool = True  #: whether samples are permuted within a block
    mended: Mapping[str, manifest.Shard] | None = None  #: by file name, where a finished split lacks files


@dataclass(frozen=True, slots=True)
class Record:
    """A finished task, as it stands in the journal: what the manifest will say of it."""

    task: int
    rows: int  #: read from the source
    ndropped: int
    shards: list[manifest.Shard]
    rejects: list[dict[str, object]]  #: lines of rejects.jsonl

    def dumps(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def rejected(self) -> bytes:
        """Its lines of rejects.jsonl."""
        return b"".join(json.dumps(line).encode() + b"\n" for line in self.rejects)

    @staticmethod
    def loads(content: bytes) -> Record:
        values = json.loads(content)
        return Record(**(values | {"shards": [manifest.Shard(**shard) for shard in values["shards"]]}))


@dataclass(slots=True)
class _Spooled:
    """Where a sample lies in the spool, and what the table will say of it."""

    position: int
    size: int  #: of the image, in bytes
    kept_size: int | None  #: of the kept columns behind it
    label: int
    table: tuple[int, ...]  #: crc32, width, height, fragment, row, part


@dataclass(slots=True)
class _Spool:
    """Encoded samples of a block, in the order in which they were baked."""

    file: BinaryIO
    samples: list[_Spooled] = field(default_factory=list)

    def add(self, fragment: int, sample: Sample) -> None:
        image, data = sample.image, sample.image.data
        table = (zlib.crc32(data), image.width, image.height, fragment, sample.row, sample.part)
        kept_size = None if sample.kept is None else len(sample.kept)
        self.samples.append(_Spooled(self.file.tell(), len(data), kept_size, sample.label, table))
        self.file.write(data)
        self.file.write(sample.kept or b"")

    def content(self, sample: _Spooled) -> dict[str, bytes]:
        """The sample's tar members by extension."""
        self.file.seek(sample.position)
        content = {"jpg": self.file.read(sample.size)}
        if sample.label != NO_LABEL:
            content["cls"] = str(sample.label).encode("ascii")
        if sample.kept_size is not None:
            content["json"] = self.file.read(sample.kept_size)
        return content


def journal_names(work: Path, task: int) -> tuple[Path, Path]:
    """(table rows, record) of a task in the journal; the record is written last."""
    return work / f"task-{task:06d}.npy", work / f"task-{task:06d}.json"


def bake(task: Task, bakery: Bakery, report: Callable[[Progress], None]) -> None:
    """Bake one task: afterwards its shards stand under their final names and its record in the journal.

    The bytes are a function of the task and the bakery alone. Doing it again is harmless.

    Args:
        task: what to bake.
        bakery: what it is baked with.
        report: called after every batch of rows.

    Raises:
        SourceError: if the source cannot be read or is short of rows.
        OSError: if the output cannot be written.
    """
    shards: list[manifest.Shard] = []
    tables: list[samples.Table] = []
    tally = _Tally()
    ends = list(itertools.accumulate(block.rows for block in task.blocks))
    # A folder of this attempt's own: one that was given up as lost may still be writing.
    with tempfile.TemporaryDirectory(prefix=f"task-{task.number:06d}-", dir=bakery.work) as folder:
        partial = Path(folder)
        baked = tally.watch(_bake_rows(task, bakery, report))
        for number, items in itertools.groupby(baked, key=lambda item: bisect.bisect_right(ends, item[0])):
            if number == len(ends):
                raise ConversionError(f"{bakery.source.where(task.reads[0].fragment)} has more rows than fit its size")
            with tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=folder) as file:
                spool = _Spool(cast(BinaryIO, file))
                for _, fragment, sample in items:
                    spool.add(fragment, sample)
                block = task.blocks[number]
                if task.rows is None:
                    block = _filled(block, tally.read - (ends[number - 1] if number else 0))
                written, table = _write(spool, block, bakery, partial)
            table["shard"] += len(shards)
            shards += written
            tables.append(table)
        _publish(shards, bakery, partial)
    rows_path, record_path = journal_names(bakery.work, task.number)
    with files.atomic(rows_path) as out:
        samples.write(out, tables, sum(len(table) for table in tables))
    with files.atomic(record_path) as out:
        out.write(Record(task.number, tally.read, tally.read - tally.rows, shards, tally.rejects).dumps())


def _filled(block: Block, rows: int) -> Block:
    """A block of which the rows are known at last: it takes the shards that they fill."""
    rows = min(rows, block.rows)
    return replace(block, rows=rows, shards=-(-rows * block.shards // block.rows))


@dataclass(slots=True)
class _Tally:
    """Counts the rows of which anything came, and takes the rejects out of the stream of samples."""

    read: int = 0  #: rows read from the source
    rows: int = 0  #: of them, those of which a sample or a reject came
    rejects: list[dict[str, object]] = field(default_factory=list)

    def watch(self, batches: Iterator[_Batch]) -> Iterator[tuple[int, int, Sample]]:
        """(place among the task's rows, fragment, sample)."""
        for batch in batches:
            self.read += len(batch.rows)
            self.rows += len({item.row for item in batch.items})
            self.rejects += batch.rejects
            for item in batch.items:
                if isinstance(item, Sample):
                    yield batch.first + item.row, batch.rows.fragment, item


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some rows of a fragment, and what was baked of them."""

    first: int  #: place among the task's rows of the fragment's first row
    rows: Rows
    items: list[Sample | Reject]

    @property
    def rejects(self) -> list[dict[str, object]]:
        return [{"fragment": self.rows.fragment} | asdict(item) for item in self.items if isinstance(item, Reject)]

    def progress(self, task: int) -> Progress:
        sizes = [len(item.image.data) for item in self.items if isinstance(item, Sample)]
        rejects = self.rejects
        last = rejects[-1] if rejects else None
        return Progress(task, len(self.rows), len(sizes), len(rejects), self.rows.nbytes, sum(sizes), last)


def _bake_rows(task: Task, bakery: Bakery, report: Callable[[Progress], None]) -> Iterator[_Batch]:
    """The task's rows, baked, in their order."""
    first = held_bytes = 0
    for read in task.reads:
        rows_left = read.rows if task.limit is None else task.limit - first
        count = 0
        for rows in bakery.source.rows(read.fragment, bakery.recipe.batch_size, rows_left):
            baked = bakery.recipe.bake(rows)
            parts = Counter(item.row for item in baked)
            items = [_checked(item, bakery.source, parts[item.row]) for item in baked]
            batch = _Batch(first, rows, items)
            yield batch
            report(batch.progress(task.number))
            count += len(rows)
            held_bytes += rows.nbytes
        first += count
        if held_bytes >= memory.WORTH_BYTES:
            memory.give_back()
            held_bytes = 0


def _checked(item: Sample | Reject, source: Source, parts: int) -> Sample | Reject:
    """A label that the classes do not know makes a reject: it would crash a training loop much later.

    Args:
        item: one of those baked of a row.
        source: knows the classes.
        parts: how many were baked of that row; a reject that is the only one stands for the whole row.
    """
    if isinstance(item, Reject):
        return item
    count = None if source.classes is None else len(source.classes)
    if item.label >= NO_LABEL and (count is None or item.label < count):
        return item
    known = "0 or more, or -1 for none" if count is None else f"-1 to {count - 1}"
    return Reject(
        item.row,
        item.part if parts > 1 else None,
        None,
        source.columns.label,
        f"label {item.label}, where labels are {known}",
    )


def _write(spool: _Spool, block: Block, bakery: Bakery, partial: Path) -> tuple[list[manifest.Shard], samples.Table]:
    """Write a block's samples, permuted, as partial files; its shards are as even as can be, and none is empty.

    Returns the shards, and the table of their samples with `shard` counted from 0.
    """
    count = len(spool.samples)
    order = range(count)
    if bakery.shuffle:
        order = rng.permutation(rng.key(bakery.seed, "bake"), count, block.first_shard).tolist()
    nshards = min(block.shards, count)
    shards, rows = [], []
    for number in range(nshards):
        chosen = order[number * count // nshards : (number + 1) * count // nshards]
        layout, index = archive.Layout(), []
        with _writer(bakery.split, block.first_shard + number, partial) as writer:
            for i in chosen:
                sample = spool.samples[i]
                key, content = archive.key(*sample.table[-3:]), spool.content(sample)
                writer.write({"__key__": key, **content})
                members = layout.add(key, {extension: len(data) for extension, data in content.items()})
                index.append(members)
                offset = next(member.offset for member in members if member.extension == "jpg")
                rows.append((number, offset, sample.size, sample.label, *sample.table))
        shards.append(_describe(archive.shard_name(bakery.split, block.first_shard + number), index, partial))
    return shards, np.array(rows, samples.SAMPLE)


def _writer(split: str, shard: int, partial: Path) -> webdataset.ShardWriter:
    """A writer of one shard.

    One a shard, because `post` runs after an exception too: it does no more than close. (ShardWriter does not close
    the opener's file itself.)
    """
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


def _publish(shards: list[manifest.Shard], bakery: Bakery, partial: Path) -> None:
    """Give a task's finished files their final names; an index before its tar, so that no tar stands without one.

    Raises:
        OutputError: if a finished split is mended and a file came out otherwise than its manifest says.
    """
    for shard in shards:
        if bakery.mended is not None and bakery.mended.get(shard.url) != shard:
            raise OutputError(
                f"{bakery.folder / shard.url} came out otherwise than {manifest.NAME} says: the source or the "
                "environment differs from the one it was made in. Convert anew with --overwrite"
            )
        for name in (archive.index_name(shard.url), shard.url):
            os.replace(partial / name, bakery.folder / name)
    files.sync_folder(bakery.folder)
