"""Plan and journal of a conversion, in OUT/SPLIT/.wdsremux: what lets a run go on where an earlier one was killed.

The plan is saved before any work. A task's record is written last, after its shards have their final names: a task
without a record is baked again from its start, and gives the same bytes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from wdsremux import files
from wdsremux.conversion import environment
from wdsremux.conversion.bake import Record, journal_names
from wdsremux.conversion.plan import Block, Plan, Read, Task
from wdsremux.conversion.source.images import LISTING
from wdsremux.errors import OutputError
from wdsremux.format import samples

FOLDER = ".wdsremux"
VERSION = 2  #: of the plan file
PLAN = "plan.json"
_KEPT = re.compile(rf"plan\.json|lock|{re.escape(LISTING)}|task-\d{{6,}}\.(?:json|npy)")


@dataclass(frozen=True, slots=True)
class Request:
    """What decides the bytes of a split, but for the environment. Plain values, compared at a resume."""

    source: dict[str, Any]
    recipe: dict[str, Any]
    options: dict[str, Any]
    seed: int

    def check(self, before: Request, folder: Path) -> None:
        """Refuse to go on with what was begun otherwise.

        Raises:
            OutputError: naming the first difference.
        """
        for name, old, new in _differences(asdict(before), asdict(self)):
            raise OutputError(
                f"{folder} was begun with {name} {old!r}, and now {new!r} is asked for. "
                "Ask for the same, choose another OUT, or begin anew with --overwrite"
            )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in before | now:
        old, new = before.get(name), now.get(name)
        if old != new and isinstance(old, dict) and isinstance(new, dict):
            yield from ((f"{name} {inner}", a, b) for inner, a, b in _differences(old, new))
        elif old != new:
            yield name, old, new


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of a conversion that has begun."""

    work: Path
    plan: Plan  #: the one that was saved: records of tasks mean its tasks
    environment: dict[str, Any]  #: as the manifest will say it
    changed: str  #: how the environment differs from the one begun in; empty if it does not

    def recorded(self, task: Task) -> bool:
        """Whether a task was done once."""
        return all(path.exists() for path in journal_names(self.work, task.number))

    def has(self, task: Task, folder: Path) -> bool:
        """Whether a task is done: its record stands, and so does every shard it names, at its size."""
        if not self.recorded(task):
            return False
        shards = [(folder / shard.url, shard.size_bytes) for shard in self.record(task.number).shards]
        return all(
            path.exists() and path.stat().st_size == size and path.with_suffix(".idx").exists() for path, size in shards
        )

    def record(self, task: int) -> Record:
        """The record of a finished task."""
        return Record.loads(journal_names(self.work, task)[1].read_bytes())

    def records(self) -> Iterator[Record]:
        """Those of all tasks, one in memory at a time."""
        return (self.record(task.number) for task in self.plan.tasks)

    def tables(self) -> Iterator[samples.Table]:
        """The rows of the sample table, task by task, with each sample's shard counted over the split."""
        shards = 0
        for record in self.records():
            rows = np.array(samples.read(journal_names(self.work, record.task)[0]))
            rows["shard"] += shards
            shards += len(record.shards)
            yield rows


def begin(work: Path, request: Request, plan: Plan, now: dict[str, Any]) -> Journal:
    """Save the plan, or find the one of an earlier run, and clear away what that run left half-written.

    The environment becomes `now` where no task is done yet, and stays what it was where all are.

    Raises:
        OutputError: if the earlier run was asked for something else.
    """
    before = _saved(work)
    clear(work)
    if before is None:
        return _save(Journal(work, plan, now, ""), request)
    request.check(Request(**{f.name: before[f.name] for f in fields(Request)}), work.parent)
    begun = Journal(work, _saved_plan(before, plan), before["environment"], "")
    done = [begun.has(task, work.parent) for task in begun.plan.tasks]
    changed = environment.difference(begun.environment, now)
    if not changed or all(done):
        return begun
    if not any(done):
        return _save(replace(begun, environment=now), request)
    return _save(replace(begun, environment=begun.environment | {environment.MIXED: True}, changed=changed), request)


def source(work: Path) -> dict[str, Any] | None:
    """What an earlier run of the same folder converts, as its manifest will say it."""
    before = _saved(work)
    return None if before is None else before["source"]


def clear(work: Path) -> None:
    """Remove what earlier attempts left half-written."""
    for leftover in work.iterdir():
        if not _KEPT.fullmatch(leftover.name):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _save(begun: Journal, request: Request) -> Journal:
    tasks = [asdict(task) for task in begun.plan.tasks]
    saved = {"version": VERSION} | asdict(request) | {"environment": begun.environment, "tasks": tasks}
    with files.atomic(begun.work / PLAN) as file:
        file.write(json.dumps(saved, indent=1).encode())
    return begun


def _saved(work: Path) -> dict[str, Any] | None:
    """The saved plan, if there is one.

    Raises:
        OutputError: if it is not of this version.
    """
    path = work / PLAN
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = json.loads(path.read_bytes())
        if saved["version"] == VERSION:
            return saved
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path} is damaged: {error}. Begin anew with --overwrite") from error
    raise OutputError(
        f"{path} has version {saved['version']!r}; this wdsremux goes on with version {VERSION}. "
        "Finish with the wdsremux that began it, or begin anew with --overwrite"
    )


def _saved_plan(saved: dict[str, Any], plan: Plan) -> Plan:
    """The plan that the records were made by: another version of this package may plan the same request otherwise."""
    tasks = (
        Task(
            task["number"],
            tuple(Read(**read) for read in task["reads"]),
            tuple(Block(**block) for block in task["blocks"]),
            task["limit"],
        )
        for task in saved["tasks"]
    )
    return Plan(tuple(tasks), plan.samples_per_shard, plan.samples_per_task)
