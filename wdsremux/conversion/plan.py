"""Fragments -> tasks: who bakes what into which shards, decided before any work. Pure.

Sources are often sorted by class. So whole fragments are dealt to tasks in a seeded random order, and a task permutes
its samples over its shards: with fragments of 100 rows, tasks of 8,192 and shards of 2,000, a shard mixes some 80
places of the source.

    fragments  0 1 2 3 4 5 6 7 …   ── seeded shuffle ──>   5 0 7 2 | 3 6 1 4 | …
                                                           task 0    task 1
                                                           shards 0-4  shards 5-9

A fragment larger than a task (one big tar) is a task of its own: each block of its rows is permuted and written before
the next is baked. Where nobody knows its rows (a remote tar), it takes as many shard numbers as it could fill at most;
those left over are gaps, so that numbering does not depend on the count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wdsremux import rng

TASK_ROWS = 8_192  #: rows of a task, about
LEAST_TASK_ROWS = 2_048  #: smaller tasks would mix too few fragments
SHARD_SAMPLES = 2_000
LEAST_PARTS = 16  #: shards, and tasks where they are large enough, that a small source is cut into at least
LEAST_TAR_BYTES = 1_024  #: of a sample in a tar: a header and one block of content


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a fragment is."""

    rows: int | None  #: None: not known before it is read
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Read:
    """What a task takes of a fragment: its first rows."""

    fragment: int
    rows: int | None  #: None: all there are, where their number is not known


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a task that are permuted and written together."""

    rows: int  #: planned, or at most where they are not known; fewer samples may come of them
    first_shard: int
    shards: int


@dataclass(frozen=True, slots=True)
class Task:
    """What is published and recorded as a whole: baked by one worker, or by several that share it (see `portions`)."""

    number: int
    reads: tuple[Read, ...]  #: in this order
    blocks: tuple[Block, ...]  #: one, unless a single fragment is larger than a task
    limit: int | None = None  #: rows to stop after, where those of the fragments are not known

    @property
    def rows(self) -> int | None:
        """None: not known before they are read."""
        rows = [read.rows for read in self.reads]
        return None if None in rows else sum(count for count in rows if count is not None)

    @property
    def shards(self) -> range:
        """The numbers of its shards."""
        return range(self.blocks[0].first_shard, self.blocks[-1].first_shard + self.blocks[-1].shards)


@dataclass(frozen=True, slots=True)
class Plan:
    """All tasks of a split; their shards are numbered from 0 without a gap."""

    tasks: tuple[Task, ...]
    samples_per_shard: int
    samples_per_task: int

    @property
    def rows(self) -> int | None:
        """None: not known before they are read."""
        rows = [task.rows for task in self.tasks]
        return None if None in rows else sum(count for count in rows if count is not None)


def bytes_read(plan: Plan, fragments: Sequence[Extent]) -> int | None:
    """How much of the source a plan reads, in bytes; of a fragment that is cut, the share of its rows.

    None where nobody knows: a limit is reached somewhere in fragments of unknown rows.
    """
    if any(task.limit is not None for task in plan.tasks):
        return None
    reads = [(read.rows, fragments[read.fragment]) for task in plan.tasks for read in task.reads]
    return sum(
        extent.size_bytes * rows // extent.rows if rows is not None and extent.rows else extent.size_bytes
        for rows, extent in reads
    )


def agree(saved: Plan, remade: Plan) -> bool:
    """Whether two plans of one request take the same rows, each into a shard; they may deal them otherwise.

    A saved plan that lost or doubled rows would make a set that lacks or repeats them, and nobody would notice.
    """
    return (saved.tasks == remade.tasks or _reads(saved) == _reads(remade)) and _fits(saved)


def _reads(plan: Plan) -> list[tuple[int, int]]:
    return sorted((read.fragment, -1 if read.rows is None else read.rows) for task in plan.tasks for read in task.reads)


def _fits(plan: Plan) -> bool:
    """Whether shards are numbered without a gap, and the blocks of a task hold its rows."""
    shard = 0
    for task in plan.tasks:
        for block in task.blocks:
            if block.first_shard != shard or not min(block.rows, 1) <= block.shards <= block.rows:
                return False
            shard += block.shards
        if task.rows is not None and sum(block.rows for block in task.blocks) != task.rows:
            return False
    return True


def make_plan(
    fragments: Sequence[Extent],
    seed: int,
    samples_per_shard: int | None = None,
    samples_per_task: int | None = None,
    *,
    shuffle: bool = True,
    limit: int | None = None,
) -> Plan:
    """Deal fragments to tasks.

    Args:
        fragments: of the source, in its order.
        seed: decides the order of the fragments.
        samples_per_shard: None: 2,000, fewer for a small source so that it has 16 shards.
        samples_per_task: None: 8,192, for a smaller source a sixteenth of it, at least 2,048.
        shuffle: False keeps the order of the source.
        limit: take this many rows, of whole fragments spread evenly over the source, the last one cut.
    """
    unknown = any(extent.rows is None for extent in fragments)
    reads = [Read(number, extent.rows) for number, extent in enumerate(fragments)]
    if limit is not None:
        reads = _limited(reads, limit)
    rows = LEAST_PARTS * TASK_ROWS if unknown else _rows(reads)
    per_shard = samples_per_shard or min(SHARD_SAMPLES, max(1, rows // LEAST_PARTS))
    per_task = samples_per_task or min(TASK_ROWS, max(LEAST_TASK_ROWS, rows // LEAST_PARTS))
    if limit is not None and unknown:
        blocks = _blocks(limit, _whole_shards(per_task, per_shard), per_shard, 0)
        return Plan((Task(0, tuple(reads), blocks, limit),), per_shard, per_task)
    if shuffle:
        reads = [reads[i] for i in rng.permutation(rng.key(seed, "plan"), len(reads)).data]
    reads = [read for read in reads if read.rows != 0]
    tasks: list[Task] = []
    shard = 0
    for task_reads in _deal(reads, per_task) if shuffle else _deal_in_order(reads, per_task):
        block_rows, total = per_task, _rows(task_reads)
        if task_reads[0].rows is None:
            block_rows = _whole_shards(per_task, per_shard)
            total = max(1, -(-fragments[task_reads[0].fragment].size_bytes // LEAST_TAR_BYTES))
        blocks = _blocks(total, block_rows if len(task_reads) == 1 else total, per_shard, shard)
        tasks.append(Task(len(tasks), tuple(task_reads), blocks))
        shard = tasks[-1].shards.stop
    return Plan(tuple(tasks), per_shard, per_task)


def _rows(reads: Sequence[Read]) -> int:
    return sum(read.rows or 0 for read in reads)


def _whole_shards(per_task: int, per_shard: int) -> int:
    """Rows of a block that fill shards without a rest: then a block's place in the numbering needs no count."""
    return max(1, per_task // per_shard) * per_shard


def _limited(reads: list[Read], limit: int) -> list[Read]:
    """Whole reads, spread evenly over the source, until there are `limit` rows; the last one is cut.

    Those of unknown rows are all kept, in the order in which they are to be read until the limit.
    """
    chosen: list[Read] = []
    rows = 0
    for number in spread(len(reads)):
        read = reads[number]
        if rows == limit:
            break
        if read.rows is not None:
            read = Read(read.fragment, min(read.rows, limit - rows))
            rows += read.rows or 0
        chosen.append(read)
    if any(read.rows is None for read in reads):
        return [reads[number] for number in spread(len(reads))]
    return sorted(chosen, key=lambda read: read.fragment)


def spread(count: int) -> list[int]:
    """0 … count-1 so that every beginning lies evenly over them: bits reversed (van der Corput's sequence, base 2)."""
    bits = (count - 1).bit_length()
    reversed_ = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits))
    return [number for number in reversed_ if number < count]


def _deal(reads: list[Read], per_task: int) -> list[list[Read]]:
    """Cut the order into runs of about `per_task` rows; a larger fragment, or one of unknown rows, stands alone."""
    small = [read for read in reads if read.rows is not None and read.rows <= per_task]
    large = [read for read in reads if read.rows is not None and read.rows > per_task]
    unknown = [read for read in reads if read.rows is None]
    return _equal_runs(small, per_task) + [[read] for read in large + unknown]


def _equal_runs(reads: list[Read], per_task: int) -> list[list[Read]]:
    """A fragment goes to the task where its middle falls, so that tasks differ by less than one fragment."""
    twice_total = 2 * _rows(reads)
    count = -(-twice_total // (2 * per_task))  # each is to have a `count`-th of the rows
    runs: list[list[Read]] = []
    first = twice_dealt = end = 0  # of the run; `end` is where the next one begins, in half rows
    for place, read in enumerate(reads):
        rows = read.rows or 0
        middle = twice_dealt + rows
        if middle >= end:
            runs.append(reads[first:place])
            first, end = place, -(-twice_total * (middle * count // twice_total + 1) // count)
        twice_dealt += 2 * rows
    runs.append(reads[first:])
    return [run for run in runs if run]


def _deal_in_order(reads: list[Read], per_task: int) -> list[list[Read]]:
    """Runs of about `per_task` rows that keep the order; a large fragment, or one of unknown rows, stands alone."""
    tasks: list[list[Read]] = []
    run: list[Read] = []
    in_run = 0
    for read in reads:
        rows = read.rows or 0
        alone = read.rows is None or rows > per_task
        if run and (alone or in_run + rows > per_task):
            tasks.append(run)
            run, in_run = [], 0
        run.append(read)
        in_run += rows
        if alone:
            tasks.append(run)
            run, in_run = [], 0
    return tasks + ([run] if run else [])


def _blocks(total: int, block_rows: int, per_shard: int, shard: int) -> tuple[Block, ...]:
    blocks = []
    for at in range(0, total, block_rows):
        rows = min(block_rows, total - at)
        blocks.append(Block(rows, shard, -(-rows // per_shard)))
        shard += blocks[-1].shards
    return tuple(blocks)
