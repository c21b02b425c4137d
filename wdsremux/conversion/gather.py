"""One task by several workers: its portions are baked into files of their own, then gathered into its shards.

    .wdsremux/task-000003-shared/    made by the process that maps, which removes it, too
        portion-0000/                contents, table.npy (see `spool`), tally.json
        portion-0001-x7f2/           an attempt that has not come to its end
        train-000012.tar             of a block that is gathered
        block-0000.npy, block-0000.json   its rows of the sample table; its shards

Whatever is here under a name without a suffix is whole. Attempts at the same step make the same bytes, so that it does
not matter which of them comes first.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from wdsremux.conversion import bake as baking
from wdsremux.conversion import spool
from wdsremux.conversion.bake import Bakery, RowTally, Written
from wdsremux.conversion.events import Progress
from wdsremux.conversion.plan import Task
from wdsremux.conversion.portions import Closing, Gathering, Portion, Step
from wdsremux.conversion.row_stream import RowStream
from wdsremux.format.manifest import Shard
from wdsremux.format.rejects import RejectLine

_TALLY = "tally.json"
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST})  #: what renaming to the name of a filled folder says


def shared_folder(work: Path, task: Task) -> Path:
    """Where the workers that share a task put what they make of it."""
    return work / f"task-{task.number:06d}-shared"


def attempts_at(step: Step, work: Path) -> Iterator[Path]:
    """The folders of attempts at a step that have not come to their end."""
    if isinstance(step, Task):
        return work.glob(f"task-{step.number:06d}-*")
    if isinstance(step, Closing):
        return iter(())
    return shared_folder(work, step.task).glob(f"{_name(step)}-*")


def drop(work: Path, task: Task, portion: int) -> None:
    """Remove the samples of a portion, all of which are in shards; its tally stays."""
    folder = shared_folder(work, task) / _portion_name(portion)
    for name in (spool.CONTENTS, spool.TABLE):
        (folder / name).unlink(missing_ok=True)


def bake_portion(portion: Portion, bakery: Bakery, report: Callable[[Progress], None], stream: RowStream) -> None:
    """Bake some rows of a task into files that any worker can gather.

    Args:
        portion: which rows.
        bakery: what they are baked with.
        report: called after every batch of rows.
        stream: the worker's.

    Raises:
        SourceError: if the source cannot be read or is short of rows.
        OSError: if the output cannot be written.
    """
    tally = RowTally()
    with _attempt(portion, bakery.work) as folder:
        with spool.stored(folder, bakery.form) as waiting:
            for item in tally.watch(baking.bake_rows(portion, bakery, report, stream)):
                waiting.add(*item)
        (folder / _TALLY).write_text(json.dumps(asdict(tally)))
        try:
            os.rename(folder, folder.with_name(_portion_name(portion.number)))
        except OSError as error:
            if error.errno not in _NOT_EMPTY:  # an attempt that was given up as lost has come before
                raise


def gather(step: Gathering, bakery: Bakery) -> None:
    """Write a block of which all portions are there: its shards, as partial files, and what is to be said of them.

    Raises:
        OSError: if the output cannot be written.
    """
    task, shared, samples = step.task, shared_folder(bakery.work, step.task), []
    with _attempt(step, bakery.work) as folder, ExitStack() as opened:
        for portion in step.portions:
            samples += spool.load(shared / _portion_name(portion), step.rows, opened)
        written = baking.write_block(samples, task.blocks[step.block], bakery, folder)
        for shard in written.shards:
            for name, _ in shard.files:
                os.replace(folder / name, shared / name)
        np.save(folder / "table.npy", written.table, allow_pickle=False)
        os.replace(folder / "table.npy", shared / f"{_name(step)}.npy")
        (folder / "shards.json").write_text(json.dumps([asdict(shard) for shard in written.shards]))
        os.replace(folder / "shards.json", shared / f"{_name(step)}.json")


def close(step: Closing, bakery: Bakery) -> None:
    """Publish and record a task of which all blocks are gathered. Doing it again is harmless.

    Raises:
        OutputError: if a finished split is mended and a file came out otherwise than its manifest says.
        OSError: if the output cannot be written.
    """
    task, shared = step.task, shared_folder(bakery.work, step.task)
    written, whole = [], RowTally()
    for number in range(len(task.blocks)):
        name = _block_name(number)
        shards = [Shard(**shard) for shard in json.loads((shared / f"{name}.json").read_bytes())]
        written.append(Written(shards, np.load(shared / f"{name}.npy", allow_pickle=False)))
    for number in range(step.portions):
        tally = json.loads((shared / _portion_name(number) / _TALLY).read_bytes())
        whole.read += tally["read"]
        whole.rows += tally["rows"]
        whole.rejects += [RejectLine(**line) for line in tally["rejects"]]
    baking.finish(task, bakery, written, whole, shared)


@contextmanager
def _attempt(step: Portion | Gathering, work: Path) -> Iterator[Path]:
    """A folder of this attempt's own: one that was given up as lost may still be writing."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_name(step)}-", dir=shared_folder(work, step.task)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it may have its final name by now


def _name(step: Portion | Gathering) -> str:
    return _portion_name(step.number) if isinstance(step, Portion) else _block_name(step.block)


def _portion_name(number: int) -> str:
    return f"portion-{number:04d}"


def _block_name(number: int) -> str:
    return f"block-{number:04d}"
