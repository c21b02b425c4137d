"""Plan and journal of a conversion, in OUT/SPLIT/.wdsremux: what lets a run go on where an earlier one was killed.

The plan is saved before any work. A task's record is written last, after its shards have their final names: a task
without a record is baked again from its start, and gives the same bytes.
"""

from __future__ import annotations

import json
import re
import reprlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from wdsremux import files
from wdsremux.conversion import environment
from wdsremux.conversion.plan import Block, Plan, Read, Task, agree
from wdsremux.conversion.record import Record, is_count, journal_names
from wdsremux.conversion.request import Request
from wdsremux.conversion.source.base import STORED
from wdsremux.errors import FormatError, OutputError, counted, one_line
from wdsremux.format import containers, samples, underway

FOLDER = underway.WORK
VERSION = 2  #: of the plan file
PLAN = underway.PLAN
_LONGEST = 200  #: characters of a value in a sentence
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  #: what comes of reading a damaged file
_OF_READ = '\n    {\n     "fragment": %d,\n     "rows": %s\n    }'
_OF_BLOCK = '\n    {\n     "rows": %d,\n     "first_shard": %d,\n     "shards": %d\n    }'
_OF_TASK = '\n  {\n   "number": %d,\n   "reads": [%s\n   ],\n   "blocks": [%s\n   ],\n   "limit": %s\n  }'
_STRANGE = "it contains values that no conversion writes"
_KEPT = re.compile(rf"plan\.json|lock|{re.escape(underway.ASKED)}|{re.escape(STORED)}|task-\d{{6,}}\.(?:json|npy)")


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of a conversion that has begun."""

    work: Path
    plan: Plan  #: the one that was saved: records of tasks mean its tasks
    environment: dict[str, Any]  #: as the manifest will say it
    changed: str = ""  #: how the environment differs from the one begun in; empty if it does not
    stamp: str | None = None  #: of the source that it was begun with, see `Source.stamp`
    touched: bool = False  #: whether that is another one now
    classes: list[str] | None = None  #: as the manifest will name them
    container: str = containers.DEFAULT  #: of its shards

    def recorded(self, task: Task) -> bool:
        """Whether a task was done once."""
        return all(path.exists() for path in journal_names(self.work, task.number))

    def has(self, task: Task, folder: Path) -> bool:
        """Whether a task is done: its record stands, and so does every shard it names, at its size."""
        if not self.recorded(task):
            return False
        shards = self.record(task.number).shards
        sizes = [(folder / shard.url, shard.size_bytes) for shard in shards]
        return all(path.exists() and path.stat().st_size == size for path, size in sizes) and all(
            (folder / name).exists() for shard in shards for name, _ in shard.files
        )

    def record(self, task: int) -> Record:
        """The record of a finished task.

        Raises:
            OutputError: if it is damaged.
        """
        path = journal_names(self.work, task)[1]
        try:
            record = Record.loads(path.read_bytes())
            if not record.sound(task, self.work.parent.name, self.container):
                raise ValueError(_STRANGE)
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        return record

    def records(self) -> Iterator[Record]:
        """Those of all tasks, one in memory at a time."""
        return (self.record(task.number) for task in self.plan.tasks)

    def tables(self) -> Iterator[samples.Table]:
        """The rows of the sample table, task by task, with each sample's shard counted over the split.

        Raises:
            OutputError: if some of them are damaged.
        """
        shards = 0
        for record in self.records():
            path = journal_names(self.work, record.task)[0]
            try:
                rows = np.array(samples.read(path))
                if len(rows) != sum(shard.nsamples for shard in record.shards):
                    raise ValueError(f"it contains {counted(len(rows), 'row')}")
            except (FormatError, ValueError) as error:
                raise _damaged(path, error) from error
            rows["shard"] += shards
            shards += len(record.shards)
            yield rows


def begin(
    work: Path,
    request: Request,
    plan: Plan,
    now: dict[str, Any],
    stamp: str | None = None,
    classes: list[str] | None = None,
) -> Journal:
    """Save the plan, or find the one of an earlier run, and clear away what that run left half-written.

    Environment and stamp become those of now where no task is done yet, and stay what they were where all are.

    Raises:
        OutputError: if the earlier run was asked for something else.
    """
    before, container = _saved(work), request.options.get("container", containers.DEFAULT)
    clear(work)
    if before is None:
        for record in work.glob("task-*"):  # its plan is gone, and it would pass for one of this plan
            record.unlink()
        return _save(Journal(work, plan, now, stamp=stamp, classes=classes, container=container), request)
    request.check(Request(**{f.name: before[f.name] for f in fields(Request)}), work.parent)
    found = replace(plan, tasks=before["tasks"])  # another version may plan the same request otherwise
    if not agree(found, plan):
        raise OutputError(
            f"{work / PLAN} is damaged: it does not list each requested row exactly once. Start again with --overwrite"
        )
    begun = Journal(work, found, before["environment"], stamp=before.get("stamp"), classes=classes, container=container)
    done = [begun.has(task, work.parent) for task in begun.plan.tasks]
    if all(done):
        return begun
    if not any(done):
        as_saved = before | {"environment": now, "stamp": stamp, "classes": classes} == before
        begun = replace(begun, environment=now, stamp=stamp)
        return begun if as_saved else _save(begun, request)
    changed = environment.difference(begun.environment, now)
    begun = replace(begun, changed=changed, touched=begun.stamp not in (None, stamp))
    if not changed:
        return begun
    return _save(replace(begun, environment=begun.environment | {environment.MIXED: True}), request)


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """What an earlier run of the same folder wrote down before it began."""

    source: dict[str, Any]  #: what it converts, as its manifest will say it
    labelled: bool
    container: Any  #: the name of one, as it was written down
    classes: tuple[str, ...] | None  #: names by number; None: there are none, or they were not written down
    states_classes: bool  #: whether they were: version 0.1.0 did so only at the end
    any_done: bool  #: whether a task is done


def begun(work: Path) -> EarlierRun | None:
    """What an earlier run began with; None if there was none.

    Raises:
        OutputError: if its plan is damaged, or not of this version.
    """
    before = _saved(work)
    if before is None:
        return None
    names = before.get("classes")
    return EarlierRun(
        source=before["source"],
        labelled=before["options"].get("label_column") is not None,
        container=before["options"].get("container", containers.DEFAULT),
        classes=None if names is None else tuple(names),
        states_classes="classes" in before,
        any_done=any(work.glob("task-*.json")),
    )


def planned_shards(work: Path) -> list[range] | None:
    """The numbers of all shards that the saved plan may make, as runs of them; None where there is no plan.

    Raises:
        OutputError: if it is damaged, or not of this version.
    """
    before = _saved(work)
    if before is None:
        return None
    blocks = (block for task in before["tasks"] for block in task.blocks)
    return [range(block.first_shard, block.first_shard + block.shards) for block in blocks]


def clear(work: Path) -> None:
    """Remove what earlier attempts left half-written."""
    for leftover in work.iterdir():
        if not _KEPT.fullmatch(leftover.name):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _save(begun: Journal, request: Request) -> Journal:
    of_now = {"environment": begun.environment, "stamp": begun.stamp}
    head = {"version": VERSION} | asdict(request) | of_now | {"classes": begun.classes}
    with files.atomic(begun.work / PLAN) as file:
        file.writelines(piece.encode() for piece in _written(head, begun.plan.tasks))
    return begun


def _written(head: dict[str, Any], tasks: Sequence[Task]) -> Iterator[str]:
    """What json.dumps(head | {"tasks": …}, indent=1) gives, task by task.

    That one takes 17 s and 1 GB for a million fragments, because an indent keeps it from its code in C.
    """
    yield json.dumps(head, indent=1).removesuffix("\n}") + ',\n "tasks": ['
    for place, task in enumerate(tasks):
        reads = ",".join(_OF_READ % (read.fragment, _known(read.rows)) for read in task.reads)
        blocks = ",".join(_OF_BLOCK % (block.rows, block.first_shard, block.shards) for block in task.blocks)
        yield ("," if place else "") + _OF_TASK % (task.number, reads, blocks, _known(task.limit))
    yield "\n ]\n}" if tasks else "]\n}"


def _known(count: int | None) -> int | str:
    return "null" if count is None else count


def _saved(work: Path) -> dict[str, Any] | None:
    """The saved plan, if there is one, under the names of its file; its tasks as `Task`s.

    Raises:
        OutputError: if it is damaged, or not of this version.
    """
    path = work / PLAN
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = json.loads(path.read_bytes())
        if saved["version"] == VERSION:
            saved["tasks"] = tuple(map(_task, saved["tasks"]))
            if not _is_plan(saved):
                raise ValueError(_STRANGE)
    except _DAMAGE as error:
        raise OutputError(f"{path} is damaged: {one_line(error, _LONGEST)}. Start again with --overwrite") from error
    if saved["version"] != VERSION:
        raise OutputError(
            f"{path} has version {reprlib.repr(saved['version'])}; this release of wdsremux can resume version "
            f"{VERSION}. Finish with the release that started it, or start again with --overwrite"
        )
    return saved


def _damaged(path: Path, error: Exception) -> OutputError:
    return OutputError(f"{path} is damaged: {one_line(error, _LONGEST)}. Delete it and run the same command again")


def _is_plan(saved: dict[str, Any]) -> bool:
    """Whether a plan that was read holds what `_save` writes: whoever goes on from it relies on that."""
    about = [saved[name] for name in ("source", "recipe", "options", "environment")]
    tasks: tuple[Task, ...] = saved["tasks"]
    return (
        all(isinstance(values, dict) for values in about)
        and isinstance(saved["source"]["name"], str)
        and isinstance(saved["source"]["revision"], str)
        and isinstance(saved["seed"], int)
        and isinstance(saved.get("stamp"), str | None)
        and (saved.get("classes") is None or _are_texts(saved["classes"]))
        and [task.number for task in tasks] == list(range(len(tasks)))
        and all(is_count(task.number) and _is_task(task) for task in tasks)
    )


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _task(saved: dict[str, Any]) -> Task:
    """
    Raises:
        TypeError: if there are other values than those of a task's reads and blocks.
    """
    reads, blocks = (Read(**read) for read in saved["reads"]), (Block(**block) for block in saved["blocks"])
    return Task(saved["number"], tuple(reads), tuple(blocks), saved["limit"])


def _is_task(task: Task) -> bool:
    """Whether its values are counts, and some may be unknown."""
    known = [read.fragment for read in task.reads]
    known += [count for block in task.blocks for count in (block.rows, block.first_shard, block.shards)]
    unknown = [value for value in (task.limit, *(read.rows for read in task.reads)) if value is not None]
    return bool(task.blocks) and all(map(is_count, known)) and all(map(is_count, unknown))
