"""Fragments -> tasks: who bakes what into which shards, decided before any work. Pure.

Sources are often sorted by class. So whole fragments are dealt to tasks in a seeded random order, and a task permutes
its samples over its shards: with fragments of 100 rows, tasks of 8,192 and shards of 2,000, a shard mixes some 80
places of the source.

    fragments  0 1 2 3 4 5 6 7 …   ── seeded shuffle ──>   5 0 7 2 | 3 6 1 4 | …
                                                           task 0    task 1
                                                           shards 0-4  shards 5-9
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wdsremux import rng

TASK_ROWS = 8_192  #: rows of a task, about
LEAST_TASK_ROWS = 2_048  #: smaller tasks would mix too few fragments
SHARD_SAMPLES = 2_000
LEAST_PARTS = 16  #: shards, and tasks where they are large enough, that a small source is cut into at least


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a task that are permuted and written together."""

    rows: int  #: planned; fewer samples may come of them
    first_shard: int
    shards: int


@dataclass(frozen=True, slots=True)
class Task:
    """What one worker bakes in one go."""

    number: int
    fragments: tuple[int, ...]  #: in the order in which they are read
    blocks: tuple[Block, ...]  #: one, unless a single fragment is larger than a task

    @property
    def rows(self) -> int:
        return sum(block.rows for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Plan:
    """All tasks of a split; their shards are numbered from 0 without a gap."""

    tasks: tuple[Task, ...]
    samples_per_shard: int
    samples_per_task: int

    @property
    def rows(self) -> int:
        return sum(task.rows for task in self.tasks)


def make_plan(
    fragment_rows: Sequence[int], seed: int, samples_per_shard: int | None = None, samples_per_task: int | None = None
) -> Plan:
    """Deal fragments to tasks.

    Args:
        fragment_rows: rows of each fragment of the source.
        seed: decides the order of the fragments.
        samples_per_shard: None: 2,000, fewer for a small source so that it has 16 shards.
        samples_per_task: None: 8,192, for a smaller source a sixteenth of it, at least 2,048.
    """
    rows = sum(fragment_rows)
    per_shard = samples_per_shard or min(SHARD_SAMPLES, max(1, rows // LEAST_PARTS))
    per_task = samples_per_task or min(TASK_ROWS, max(LEAST_TASK_ROWS, rows // LEAST_PARTS))
    order = [int(i) for i in rng.permutation(rng.key(seed, "plan"), len(fragment_rows)) if fragment_rows[int(i)]]
    tasks: list[Task] = []
    shard = 0
    for fragments in _deal(order, fragment_rows, per_task):
        blocks = []
        for block_rows in _blocks([fragment_rows[i] for i in fragments], per_task):
            shards = -(-block_rows // per_shard)
            blocks.append(Block(block_rows, shard, shards))
            shard += shards
        tasks.append(Task(len(tasks), tuple(fragments), tuple(blocks)))
    return Plan(tuple(tasks), per_shard, per_task)


def _deal(order: list[int], fragment_rows: Sequence[int], per_task: int) -> list[list[int]]:
    """Cut the order into runs of about `per_task` rows; a fragment larger than that stands alone."""
    large = [i for i in order if fragment_rows[i] > per_task]
    small = [i for i in order if fragment_rows[i] <= per_task]
    rows = sum(fragment_rows[i] for i in small)
    tasks: list[list[int]] = [[] for _ in range(-(-rows // per_task))]
    dealt = 0
    for fragment in small:
        # A fragment goes where its middle falls, so that tasks differ by less than one fragment.
        tasks[(2 * dealt + fragment_rows[fragment]) * len(tasks) // (2 * rows)].append(fragment)
        dealt += fragment_rows[fragment]
    return [task for task in tasks if task] + [[fragment] for fragment in large]


def _blocks(rows: Sequence[int], per_task: int) -> list[int]:
    """The rows of each block: all of them, unless it is one fragment larger than a task."""
    total = sum(rows)
    if len(rows) > 1 or total <= per_task:
        return [total]
    return [min(per_task, total - at) for at in range(0, total, per_task)]
