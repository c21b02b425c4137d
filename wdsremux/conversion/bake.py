"""One task -> its shards, table rows and rejects. Runs in a worker; nothing but a short report leaves it.

Encoded samples are spooled (64 MB in memory, then an unnamed temporary file), so that a task can be written permuted
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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import webdataset

from wdsremux import files, rng
from wdsremux.conversion.events import Progress
from wdsremux.conversion.plan import Block, Task
from wdsremux.conversion.recipe import NO_LABEL, Recipe, Reject, Sample
from wdsremux.conversion.source import Source
from wdsremux.format import archive, manifest, samples

SPOOL_BYTES = 64 * 2**20  #: of encoded samples held in memory; past that the spool is a file


@dataclass(frozen=True, slots=True)
class Bakery:
    """What all tasks of a run have in common."""

    source: Source
    recipe: Recipe
    folder: Path  #: OUT/SPLIT, where the shards go
    work: Path  #: where partial files, the spool and the journal go; on the same file system
    split: str
    seed: int


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

    @staticmethod
    def loads(content: bytes) -> Record:
        values = json.loads(content)
        return Record(**(values | {"shards": [manifest.Shard(**shard) for shard in values["shards"]]}))


@dataclass(slots=True)
class _Spool:
    """Encoded samples of a block, in the order in which they were baked."""

    file: BinaryIO
    rows: list[tuple[int, ...]] = field(default_factory=list)  #: position, then the record but for shard and offset

    def add(self, fragment: int, sample: Sample) -> None:
        data, image = sample.image.data, sample.image
        place = (fragment, sample.row, sample.part)
        self.rows.append(
            (self.file.tell(), len(data), sample.label, zlib.crc32(data), image.width, image.height, *place)
        )
        self.file.write(data)

    def read(self, position: int, size: int) -> bytes:
        self.file.seek(position)
        return self.file.read(size)


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
    baked = tally.watch(_bake_rows(task, bakery, report))
    for number, items in itertools.groupby(baked, key=lambda item: bisect.bisect_right(ends, item[0])):
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(bakery.work)) as file:
            spool = _Spool(cast(BinaryIO, file))
            for _, fragment, sample in items:
                spool.add(fragment, sample)
            written, table = _write(spool, task.blocks[number], bakery)
        table["shard"] += len(shards)
        shards += written
        tables.append(table)
    _publish(shards, bakery)
    rows_path, record_path = journal_names(bakery.work, task.number)
    with files.atomic(rows_path) as out:
        samples.write(out, tables, sum(len(table) for table in tables))
    with files.atomic(record_path) as out:
        out.write(Record(task.number, task.rows, task.rows - tally.rows, shards, tally.rejects).dumps())


@dataclass(slots=True)
class _Tally:
    """Counts the rows of which anything came, and takes the rejects out of the stream of samples."""

    rows: int = 0
    rejects: list[dict[str, object]] = field(default_factory=list)

    def watch(self, baked: Iterator[tuple[int, int, Sample | Reject]]) -> Iterator[tuple[int, int, Sample]]:
        last = -1
        for place, fragment, item in baked:
            self.rows += place != last
            last = place
            if isinstance(item, Sample):
                yield place, fragment, item
            else:
                self.rejects.append(_line(fragment, item))


def _line(fragment: int, reject: Reject) -> dict[str, object]:
    return {"fragment": fragment, **asdict(reject)}


def _bake_rows(
    task: Task, bakery: Bakery, report: Callable[[Progress], None]
) -> Iterator[tuple[int, int, Sample | Reject]]:
    """(place among the task's rows, fragment, sample or reject), in the order of the rows."""
    first = 0
    for fragment in task.fragments:
        for rows in bakery.source.rows(fragment):
            baked = [_checked(item, bakery.source) for item in bakery.recipe.bake(rows)]
            for item in baked:
                yield first + item.row, fragment, item
            good = [item for item in baked if isinstance(item, Sample)]
            rejects = [_line(fragment, item) for item in baked if isinstance(item, Reject)]
            bytes_out = sum(len(sample.image.data) for sample in good)
            report(Progress(len(rows), len(good), rejects, rows.nbytes, bytes_out))
        first += bakery.source.fragments[fragment].rows


def _checked(item: Sample | Reject, source: Source) -> Sample | Reject:
    """A label that the classes do not know makes a reject: it would crash a training loop much later."""
    if isinstance(item, Reject):
        return item
    count = None if source.classes is None else len(source.classes)
    if item.label >= NO_LABEL and (count is None or item.label < count):
        return item
    known = "0 or more, or -1 for none" if count is None else f"-1 to {count - 1}"
    return Reject(
        item.row, item.part or None, None, source.label_column, f"label {item.label}, where labels are {known}"
    )


def _write(spool: _Spool, block: Block, bakery: Bakery) -> tuple[list[manifest.Shard], samples.Table]:
    """Write a block's samples, permuted, as partial files; its shards are as even as can be, and none is empty.

    Returns the shards, and the table of their samples with `shard` counted from 0.
    """
    count = len(spool.rows)
    order = rng.permutation(rng.key(bakery.seed, "bake"), count, block.first_shard).tolist()
    nshards = min(block.shards, count)
    shards, rows = [], []
    opened: list[BinaryIO] = []

    def open_partial(name: str) -> BinaryIO:
        opened.append(open(bakery.work / name, "wb", buffering=2**20))  # noqa: SIM115  # post closes it
        return opened[-1]

    pattern = "%06d".join(archive.shard_name(bakery.split, 0).rsplit("000000", 1))
    for number in range(nshards):
        chosen = order[number * count // nshards : (number + 1) * count // nshards]
        layout, index = archive.Layout(), []
        # One writer a shard: post runs after an exception too, so it does no more than close; ShardWriter does not
        # close the opener's file itself.
        with webdataset.ShardWriter(
            pattern,
            start_shard=block.first_shard + number,
            maxcount=len(chosen) + 1,
            maxsize=math.inf,
            opener=open_partial,
            post=lambda _: files.sync_and_close(opened.pop()),
            verbose=0,
            encoder=False,
            mtime=0,
            user="",
            group="",
        ) as writer:
            for i in chosen:
                position, size, label, *rest, fragment, row, part = spool.rows[i]
                key = archive.key(fragment, row, part)
                content = {"jpg": spool.read(position, size)}
                if label != NO_LABEL:
                    content["cls"] = str(label).encode("ascii")
                writer.write({"__key__": key, **content})
                members = layout.add(key, {extension: len(data) for extension, data in content.items()})
                index.append(members)
                offset = next(member.offset for member in members if member.extension == "jpg")
                rows.append((number, offset, size, label, *rest, fragment, row, part))
        shards.append(_describe(archive.shard_name(bakery.split, block.first_shard + number), index, bakery.work))
    return shards, np.array(rows, samples.SAMPLE)


def _describe(name: str, index: list[list[archive.Member]], work: Path) -> manifest.Shard:
    """Write a finished partial shard's index beside it, and take down what the manifest says of both."""
    text = archive.index_text(index)
    with open(work / archive.index_name(name), "wb") as file:
        file.write(text)
        files.sync_and_close(file)
    size_bytes, sha256 = (work / name).stat().st_size, files.sha256(work / name)
    return manifest.Shard(name, len(index), size_bytes, sha256, hashlib.sha256(text).hexdigest())


def _publish(shards: list[manifest.Shard], bakery: Bakery) -> None:
    """Give a task's finished files their final names; an index before its tar, so that no tar stands without one."""
    for shard in shards:
        for name in (archive.index_name(shard.url), shard.url):
            os.replace(bakery.work / name, bakery.folder / name)
    files.sync_folder(bakery.folder)
