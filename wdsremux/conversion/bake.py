"""One task -> its shards, table rows and rejects. Runs in a worker; nothing but a short report leaves it.

Its rows are baked in their order and handed to `shard_writer`, block by block. Files get their final names when the
whole task is done; its record in the journal comes last and says that it is. A task that several workers share goes
through `gather` instead, which takes the same rows and the same end from here.
"""

from __future__ import annotations

import bisect
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from wdsremux import files, machine
from wdsremux.conversion import portions, shard_writer, spool
from wdsremux.conversion.events import Progress
from wdsremux.conversion.plan import Block, Task
from wdsremux.conversion.portions import Portion
from wdsremux.conversion.recipes.base import Recipe, Reject, Sample
from wdsremux.conversion.record import Record, journal_names
from wdsremux.conversion.row_stream import RowStream
from wdsremux.conversion.source import Rows, Source
from wdsremux.conversion.spool import Form, Spooled
from wdsremux.errors import ConversionError
from wdsremux.format import manifest, samples
from wdsremux.format.rejects import RejectLine
from wdsremux.format.samples import NO_LABEL

_REJECTS_TOLD = 64  #: of a batch: all of them are in the task's record, once it is done


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
    form: Form = field(default_factory=Form)  #: how shards are written
    shuffle: bool = True  #: whether samples are permuted within a block
    mended: Mapping[str, manifest.Shard] | None = None  #: by file name, where a finished split lacks files

    @property
    def batch_rows(self) -> int | None:
        """Rows at which a fragment may be cut; None where each worker would fetch all of it from a server."""
        return None if self.source.at_once > 1 else self.recipe.batch_size


@dataclass(frozen=True, slots=True)
class Written:
    """A block whose shards are there as partial files."""

    shards: list[manifest.Shard]
    table: samples.Table  #: of their samples, with `shard` counted from 0


def bake(task: Task, bakery: Bakery, report: Callable[[Progress], None], stream: RowStream) -> None:
    """Bake one task: afterwards its shards stand under their final names and its record in the journal.

    The bytes are a function of the task and the bakery alone. Doing it again is harmless.

    Args:
        task: what to bake.
        bakery: what it is baked with.
        report: called after every batch of rows.
        stream: the worker's.

    Raises:
        SourceError: if the source cannot be read or is short of rows.
        OSError: if the output cannot be written.
    """
    written: list[Written] = []
    tally = RowTally()
    ends = list(itertools.accumulate(block.rows for block in task.blocks))
    # A folder of this attempt's own: one that was given up as lost may still be writing.
    with tempfile.TemporaryDirectory(prefix=f"task-{task.number:06d}-", dir=bakery.work) as folder:
        partial = Path(folder)
        baked = tally.watch(bake_rows(portions.whole(task), bakery, report, stream))
        for number, items in itertools.groupby(baked, key=lambda item: bisect.bisect_right(ends, item[0])):
            if number == len(ends):
                raise ConversionError(
                    f"{bakery.source.where(task.reads[0].fragment)} has more rows than its size allows. Download it "
                    "again"
                )
            with spool.spooled(partial, bakery.form) as waiting:
                for item in items:
                    waiting.add(*item)
                block = task.blocks[number]
                if task.rows is None:
                    block = _filled(block, tally.read - (ends[number - 1] if number else 0))
                written.append(write_block(waiting.samples, block, bakery, partial))
        finish(task, bakery, written, tally, partial)


def write_block(spooled: Sequence[Spooled], block: Block, bakery: Bakery, partial: Path) -> Written:
    """Write a block's samples, permuted, as partial files."""
    seed = bakery.seed if bakery.shuffle else None
    return Written(*shard_writer.write(spooled, bakery.form, block, bakery.split, seed, partial))


def finish(task: Task, bakery: Bakery, written: Sequence[Written], tally: RowTally, partial: Path) -> None:
    """Give a task's shards their final names, and record it in the journal.

    Args:
        task: all of which is baked.
        bakery: what it was baked with.
        written: its blocks, in their order.
        tally: of all its rows.
        partial: the folder where its shards are.
    """
    made = [shard for block in written for shard in block.shards]
    shard_writer.publish(made, partial, bakery.folder, bakery.mended)
    first = 0
    for block in written:
        block.table["shard"] += first
        first += len(block.shards)
    tables = [block.table for block in written]
    rows_path, record_path = journal_names(bakery.work, task.number)
    with files.atomic(rows_path) as out:
        samples.write(out, tables, sum(len(table) for table in tables))
    with files.atomic(record_path) as out:
        out.write(Record(task.number, tally.read, tally.read - tally.rows, made, tally.rejects).dumps())


def _filled(block: Block, rows: int) -> Block:
    """A block of which the rows are known at last: it takes the shards that they fill."""
    rows = min(rows, block.rows)
    return replace(block, rows=rows, shards=-(-rows * block.shards // block.rows))


@dataclass(slots=True)
class RowTally:
    """Counts the rows of which anything came, and takes the rejects out of the stream of samples."""

    read: int = 0  #: rows read from the source
    rows: int = 0  #: of them, those of which a sample or a reject came
    rejects: list[RejectLine] = field(default_factory=list)

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
    def rejects(self) -> list[RejectLine]:
        return [RejectLine(self.rows.fragment, **asdict(item)) for item in self.items if isinstance(item, Reject)]

    def progress(self, task: int) -> Progress:
        sizes = [len(item.image.data) for item in self.items if isinstance(item, Sample)]
        rejects = self.rejects
        told = tuple(rejects[:_REJECTS_TOLD])
        return Progress(task, len(self.rows), len(sizes), len(rejects), self.rows.nbytes, sum(sizes), told)


def bake_rows(
    portion: Portion, bakery: Bakery, report: Callable[[Progress], None], stream: RowStream
) -> Iterator[_Batch]:
    """The rows of a portion, baked, in their order.

    Args:
        portion: which rows, of which task.
        bakery: what they are baked with.
        report: called after every batch.
        stream: the worker's.
    """
    first, count, held_bytes = portion.first - portion.stretches[0].first, 0, 0
    fragment = portion.stretches[0].fragment
    for rows in stream.rows(portion, bakery.source, bakery.recipe.batch_size):
        if rows.fragment != fragment:
            fragment, first = rows.fragment, first + count
        if held_bytes >= machine.GIVE_BACK_BYTES:  # within a fragment, too: it may be as large as its file
            machine.give_memory_back()
            held_bytes = 0
        baked = bakery.recipe.bake(rows)
        parts = Counter(item.row for item in baked)
        items = [_checked(item, rows, bakery.source, parts[item.row]) for item in baked]
        batch = _Batch(first, rows, items)
        yield batch
        report(batch.progress(portion.task.number))
        count = rows.first + len(rows)
        held_bytes += rows.nbytes


def _checked(item: Sample | Reject, rows: Rows, source: Source, parts: int) -> Sample | Reject:
    """A label that the classes do not know makes a reject: it would crash a training loop much later.

    Args:
        item: one of those baked of a row.
        rows: among which that row is.
        source: knows the classes.
        parts: how many were baked of that row; a reject that is the only one stands for the whole row.

    Returns:
        The sample, or a reject that names its image.
    """
    if isinstance(item, Reject):
        return item if item.where else replace(item, where=_where(item.row, rows, source))
    count = None if source.classes is None else len(source.classes)
    if item.label >= NO_LABEL and (count is None or item.label < count):
        return item
    known = "0 or more, or -1 for none" if count is None else f"-1 to {count - 1}"
    return Reject(
        item.row,
        item.part if parts > 1 else None,
        _where(item.row, rows, source),
        source.columns.label,
        f"label {item.label}, where labels are {known}",
    )


def _where(row: int, rows: Rows, source: Source) -> str:
    """What the source calls the image of a row; its place, where the source has no name for it."""
    return rows.paths[row - rows.first].as_py() or f"row {row} of {source.where(rows.fragment)}"
