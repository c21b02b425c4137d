"""A split that is not finished yet: how much of it is converted, by its plan and its journal.

    OUT/SPLIT/.wdsremux/plan.json       the tasks, and the rows that each of them reads
    OUT/SPLIT/.wdsremux/task-*.json     a record for each finished task, beside its rows of the sample table

For people only. Whoever resumes a conversion reads the same files with more care, and says what is wrong with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wdsremux.errors import FormatError, counted
from wdsremux.format.plain import check_plain, open_plain

WORK = ".wdsremux"  #: the folder of plan and journal within that of a split
MANIFEST = "index.json"  #: what a split has as soon as it is finished
PLAN = "plan.json"
ASKED = "asked.json"  #: what a finished split was asked for with
_MOST_BYTES = 2**30  #: no plan is larger
_DAMAGE = (OSError, FormatError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Underway:
    """How far the conversion of a split is."""

    split: str
    rows: int | None  #: of the source; None: not known before they are read
    rows_done: int  #: of finished tasks: a run that resumes begins with these
    tasks: int
    tasks_done: int

    def __str__(self) -> str:
        of = "" if self.rows is None else f" of {self.rows:,}"
        return f"{self.rows_done:,}{of} rows done in {self.tasks_done:,} of {counted(self.tasks, 'task')}"


def read(folder: Path) -> Underway | None:
    """How far the conversion of the split in `folder` is; None if it is finished, or was never begun."""
    if (folder / MANIFEST).exists():
        return None
    try:
        tasks = _load(folder / WORK / PLAN)["tasks"]
        rows = [_rows(task) for task in tasks]
        done = list(_done(folder, len(tasks)))
    except _DAMAGE:
        return None
    known = None if None in rows else sum(count for count in rows if count is not None)
    return Underway(folder.name, known, sum(done), len(tasks), len(done))


def read_all(out: Path) -> list[Underway]:
    """The unfinished splits in OUT, by name."""
    found = map(read, sorted(path.parent.parent for path in out.glob(f"*/{WORK}/{PLAN}")))
    return [split for split in found if split is not None]


def _load(path: Path) -> Any:
    if check_plain(path) > _MOST_BYTES:
        raise ValueError(f"{path} is too large")
    with open_plain(path) as file:
        return json.loads(file.read())


def _rows(task: dict[str, Any]) -> int | None:
    """How many rows a task reads; None where that is not known."""
    rows = [read["rows"] for read in task["reads"]]
    return None if None in rows else sum(map(int, rows))


def _done(folder: Path, tasks: int) -> Iterator[int]:
    """The rows of each finished task whose shards are still there."""
    for number in range(tasks):
        record = folder / WORK / f"task-{number:06d}.json"
        try:
            found = _load(record)
            shards = [(folder / shard["url"]).stat().st_size == shard["size_bytes"] for shard in found["shards"]]
            rows = int(found["rows"])
        except _DAMAGE:
            continue
        if all(shards) and record.with_suffix(".npy").exists():
            yield rows
