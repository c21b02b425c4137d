"""What bench_scale measures, run in a process of its own: the package's code on simulated sets without images.

    python benchmarks/bench_scale_work.py CHAIN SAMPLES SHARDS FOLDER

Prints a line of JSON when a step begins, and one with its seconds when it has ended; what is simulated is made between
the steps and not counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import numpy as np
import torch  # noqa: F401  # loaded before anything is measured

import wdsremux
from wdsremux import files, rng
from wdsremux.conversion import journal
from wdsremux.conversion.plan import Extent, Plan, make_plan
from wdsremux.conversion.record import Record, journal_names
from wdsremux.conversion.request import Request
from wdsremux.conversion.run import Run
from wdsremux.format import manifest, samples
from wdsremux.inspection import shard_check, verify
from wdsremux.loading import loader as _loader  # noqa: F401
from wdsremux.loading.order import Order, deal, steps

SPLIT = "train"
FRAGMENT_ROWS = 100  #: a Parquet row group, as `datasets` writes it
SAMPLE_BYTES = 20_480  #: in a shard
CLASSES = 1_000
PIECE = 2**20  #: samples simulated at once
BATCH, STEPS = 256, 200
WHOLE_TABLE = 10**8  #: a table of more samples is a hole in the disk
ABOUT: dict[str, Any] = {"source": {"name": "simulated", "revision": "0"}, "recipe": {"name": "copy"}, "options": {}}
ENVIRONMENT = {"wdsremux": wdsremux.__version__}


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Say when a step begins and how long it took."""
    print(json.dumps({"begins": name, "anonymous_bytes": anonymous_bytes()}), flush=True)
    start, cpu = time.perf_counter(), time.process_time()
    yield
    ended(name, time.perf_counter() - start, time.process_time() - cpu)


def ended(name: str, seconds: float, cpu_seconds: float) -> None:
    """Say how long a step took."""
    print(json.dumps({"ended": name, "seconds": seconds, "cpu_seconds": cpu_seconds}), flush=True)


def anonymous_bytes() -> int:
    """Memory of this process that is not the page cache's, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def header(file: BinaryIO, count: int) -> None:
    """That of a sample table."""
    about = {"descr": np.lib.format.dtype_to_descr(samples.SAMPLE), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, about)


def hollow(path: Path, count: int) -> None:
    """A sample table of zeros that takes no room on the disk."""
    with path.open("wb") as file:
        header(file, count)
        file.truncate(file.tell() + count * samples.SAMPLE.itemsize)


def rows(nsamples: int, per_shard: int) -> Iterator[samples.Table]:
    """A sample table whose fragments lie in the order of a plan."""
    fragments = rng.permutation(0, -(-nsamples // FRAGMENT_ROWS))
    for first in range(0, nsamples, PIECE):
        ids = np.arange(first, min(first + PIECE, nsamples))
        table = np.zeros(len(ids), samples.SAMPLE)
        table["shard"], table["offset"] = ids // per_shard, ids % per_shard * SAMPLE_BYTES + 512
        table["size"], table["width"], table["height"] = SAMPLE_BYTES - 2_000, 256, 320
        table["fragment"], table["row"] = fragments[ids // FRAGMENT_ROWS], ids % FRAGMENT_ROWS
        table["label"] = rng.mix64(ids.astype(np.uint64)) % CLASSES
        yield table


def shard(number: int, count: int) -> manifest.Shard:
    """One of that many samples, with hashes that differ from shard to shard."""
    return manifest.Shard(
        f"{SPLIT}-{number:06d}.tar", count, count * SAMPLE_BYTES, f"{number:064x}", f"{2**64 + number:064x}"
    )


def simulated(folder: Path, nsamples: int, nshards: int) -> manifest.Manifest:
    """A finished split without its shards: table and rejects are written, and the manifest described."""
    folder.mkdir(parents=True)
    table, per_shard = folder / samples.NAME, -(-nsamples // nshards)
    if nsamples > WHOLE_TABLE:
        hollow(table, nsamples)
    else:
        with table.open("wb") as file:
            samples.write(file, rows(nsamples, per_shard), nsamples)
    (folder / manifest.REJECTS).touch()
    counts = [min(per_shard, nsamples - first) for first in range(0, nsamples, per_shard)]
    return manifest.Manifest(
        split=SPLIT,
        nsamples=nsamples,
        nrejects=0,
        ndropped=0,
        classes=[f"class {number}" for number in range(CLASSES)],
        seed=0,
        environment=ENVIRONMENT,
        shards=[shard(number, count) for number, count in enumerate(counts)],
        files={
            samples.NAME: {"sha256": "0" * 64 if nsamples > WHOLE_TABLE else files.sha256(table)},
            manifest.REJECTS: {"sha256": files.sha256(folder / manifest.REJECTS)},
        },
        **ABOUT,
    )


def planned(nsamples: int) -> Plan:
    """The plan of a source of small fragments."""
    extents = [Extent(FRAGMENT_ROWS, FRAGMENT_ROWS * 100_000) for _ in range(-(-nsamples // FRAGMENT_ROWS))]
    return make_plan(extents, 0)


def begun(folder: Path, plan: Plan) -> journal.Journal:
    """The journal of a conversion, begun or found again."""
    work = folder / SPLIT / journal.FOLDER
    work.mkdir(parents=True, exist_ok=True)
    return journal.begin(work, Request(seed=0, **ABOUT), plan, ENVIRONMENT)


def plan_chain(nsamples: int, nshards: int, folder: Path) -> None:
    with step("plan"):
        plan = planned(nsamples)
    with step("save"):
        begun(folder, plan)


def resume_chain(nsamples: int, nshards: int, folder: Path) -> None:
    """After `plan_chain`."""
    with step("resume_conversion"):
        begun(folder, planned(nsamples))


def journal_chain(nsamples: int, nshards: int, folder: Path) -> None:
    """After `plan_chain`. Shards and tables are holes in the disk, of the right sizes."""
    plan = planned(nsamples)
    work = folder / SPLIT / journal.FOLDER
    for task in plan.tasks:
        counts = [len(part) for part in np.array_split(np.empty(task.rows or 0), len(task.shards))]
        shards = [shard(number, count) for number, count in zip(task.shards, counts, strict=True)]
        for made in shards:
            for (name, _), size_bytes in zip(made.files, (made.size_bytes, 0), strict=True):
                with (folder / SPLIT / name).open("wb") as file:
                    file.truncate(size_bytes)
        table, record = journal_names(work, task.number)
        hollow(table, task.rows or 0)
        record.write_bytes(Record(task.number, task.rows or 0, 0, shards, []).dumps())
    with step("journal"):
        found = begun(folder, plan)
    spec = SimpleNamespace(folder=folder / SPLIT, selection=SimpleNamespace(split=SPLIT), container="tar")
    source = SimpleNamespace(classes=None)
    run = cast(Any, Run)(spec, None, source, None, Request(seed=0, **ABOUT), found, ENVIRONMENT, None)
    with step("assemble"):
        run._assemble()
    (folder / SPLIT / samples.NAME).unlink()


def manifest_chain(nsamples: int, nshards: int, folder: Path) -> None:
    described = simulated(folder / SPLIT, nsamples, nshards)
    with step("write_manifest"), files.atomic(folder / SPLIT / manifest.NAME) as file:
        file.write(described.dumps())


def read_chain(nsamples: int, nshards: int, folder: Path) -> None:
    """After `manifest_chain`."""
    with step("read_manifest"):
        read = manifest.read(folder / SPLIT)
    counts = tuple(each.nsamples for each in read.shards)
    with step("order"):
        Order(counts, 0).epoch(3)


def open_chain(nsamples: int, nshards: int, folder: Path) -> None:
    """After `manifest_chain`."""
    with step("open"):
        loader = wdsremux.DataLoader(folder, BATCH, fields=("id",))
    with step("first_ids"):
        next(iter(loader))
    loader.close()


def load_chain(nsamples: int, nshards: int, folder: Path) -> None:
    """After `manifest_chain`."""
    with step("resume_loader"):
        loader = wdsremux.DataLoader(folder, BATCH, fields=("id",))
        position = nsamples * 9 // 10 // BATCH * BATCH
        loader.load_state_dict(loader.state_dict() | {"epoch": 3, "position": position})
        (first,) = next(iter(loader))
    loader.close()
    epoch, todo, times = loader._order.epoch(3), steps(position, nsamples, BATCH, 1, "drop"), []
    for number in range(min(STEPS, len(todo))):
        start = time.perf_counter()
        ids = epoch[deal(todo[number], 1, 0, 1)]
        times.append(time.perf_counter() - start)
        if number == 0 and ids.tolist() != first.tolist():
            raise SystemExit("the loader's first ids are not those of its order")
    with step("step_ids"):
        epoch[deal(todo[0], 1, 0, 1)]
    ended("step_ids", statistics.median(times), statistics.median(times))


def verify_chain(nsamples: int, nshards: int, folder: Path) -> None:
    """After `manifest_chain`. No shard is read, and all are taken to be there and sound."""
    names = {name for each in manifest.read(folder / SPLIT).shards for name, _ in each.files}
    real, looked = os.listdir, folder / SPLIT
    os.listdir = lambda path: [*real(path), *names] if path == looked else real(path)  # type: ignore[assignment]
    shard_check.check = lambda *_: []
    with step("verify"):
        found = verify.check(folder)
    if found.damages:
        raise SystemExit(f"verify finds {found.damages[0]}")


CHAINS: dict[str, Callable[[int, int, Path], None]] = {
    "plan": plan_chain,
    "resume": resume_chain,
    "journal": journal_chain,
    "manifest": manifest_chain,
    "read": read_chain,
    "open": open_chain,
    "load": load_chain,
    "verify": verify_chain,
}


if __name__ == "__main__":
    CHAINS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
