"""Images a second of loaders on two CPU cores: `wdsremux.DataLoader` beside what people use today.

    python scripts/bench_load.py [OUT] [--json FILE] [--only NAME,NAME] [--rounds 5] [--images 6000]

All contenders read the same JPEG shards and do the same work: a random resized crop to 224 px (scale 0.08
to 1, ratio 3/4 to 4/3), a horizontal flip, normalisation (not for uint8), a batch of 256. Each run is a
process of its own, so that no contender meets another's threads, memory or import order; rounds are
interleaved (A B C, A B C, ...), so that a machine that slows down slows all of them. Where other processes
took part of the two cores, a round says nothing of a ratio: they slow contenders by very different amounts
(seen: webdataset's workers to a third, threads to a half), so such rounds are shown and not judged. Whether a
target is met is printed, never asserted: a timing that decides a test fails on the first busy machine.

Without OUT it makes its own set under build/.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench_loaders import BATCH, CONTENDERS, SIZE, Contender, shards_of
from bench_machine import (
    CORES,
    MET,
    QUIET_CORES,
    ROOT,
    Spread,
    busy_cpu_s,
    children_cpu_s,
    environment,
    header,
    make_source,
    two_cores,
    write_json,
)

if TYPE_CHECKING:
    import torch

WARMUP_BATCHES = 4  #: more than any contender's prefetch needs to settle; even, see `batches_for`
RUN_TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class Target:
    """`ours` is to give at least `factor` times the images a second of `peer`."""

    ours: str
    peer: str
    factor: float


TARGETS = (
    Target("auto-float", "peer-webdataset-v2", 1.8),
    Target("auto-float-cl", "peer-webdataset-v2", 2.8),
    Target("auto-uint8-cl", "peer-webdataset-v2", 3.5),
    Target("auto-float-cl", "peer-dali-float-cl", 1.5),
    Target("dali-float", "peer-dali-float", 1.0),
    Target("dali-float-cl", "peer-dali-float-cl", 1.0),
)


# One run, in a process of its own.


def batches_for(images: int) -> int:
    """Batches to time: an even number, because two worker processes finish theirs in pairs."""
    return -(-images // (CORES * BATCH)) * CORES


def check_batch(images: torch.Tensor, contender: Contender) -> None:
    """Refuse to time a loader that gives something else than it claims."""
    import torch

    layout = torch.channels_last if contender.channels_last else torch.contiguous_format
    dtype = str(images.dtype).removeprefix("torch.")
    got = (tuple(images.shape), dtype, images.is_contiguous(memory_format=layout))
    wanted = ((BATCH, 3, SIZE, SIZE), contender.dtype, True)
    if got != wanted:
        raise SystemExit(f"The loader gave (shape, dtype, in its layout) {got} instead of {wanted}.")
    if contender.dtype == "float32" and not float(images.min()) < 0 < float(images.max()):
        raise SystemExit("The loader gave float images that are not normalised.")


def time_stream(contender: Contender, out: Path, images: int) -> float:
    """Images a second over at least `images` images, after the warm-up."""
    count = batches_for(images)
    with contextlib.closing(contender.stream(out)) as stream:
        check_batch(next(stream), contender)
        for _ in range(WARMUP_BATCHES - 1):
            next(stream)
        start = time.perf_counter()
        for _ in range(count):
            next(stream)
        return count * BATCH / (time.perf_counter() - start)


def run_child(name: str, out: Path, images: int) -> None:
    """Time one contender and print the figure as the last line of stdout."""
    os.sched_setaffinity(0, two_cores())  # before torch or DALI count the CPUs
    print(json.dumps(time_stream(CONTENDERS[name], out, images)), flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contender in one round."""

    images_per_s: float
    others: float  #: cores that everybody else took meanwhile

    @property
    def quiet(self) -> bool:
        """Whether the figure may be compared."""
        return self.others <= QUIET_CORES


def run(name: str, out: Path, images: int) -> Run | str:
    """One contender in a fresh process, or the last line of what went wrong."""
    command = [sys.executable, __file__, str(out), "--child", name, "--images", str(images)]
    cores = two_cores()
    start, busy_s, own_s = time.perf_counter(), busy_cpu_s(cores), children_cpu_s()
    try:
        # Without a GPU: `auto` would take it.
        hidden = {**environment(), "CUDA_VISIBLE_DEVICES": ""}
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, env=hidden)
    except subprocess.TimeoutExpired:
        return f"no result in {RUN_TIMEOUT_S} s"
    if result.returncode != 0:
        return (result.stderr.strip().splitlines() or [f"exit code {result.returncode}, without a word"])[-1]
    others_s = (busy_cpu_s(cores) - busy_s) - (children_cpu_s() - own_s)
    return Run(
        images_per_s=float(json.loads(result.stdout.splitlines()[-1])),
        others=max(0.0, others_s / (time.perf_counter() - start)),
    )


# All rounds, and the report.


Runs = dict[str, list[Run]]  #: by contender, a run a round


def run_rounds(names: list[str], out: Path, images: int, rounds: int) -> tuple[Runs, dict[str, str]]:
    """All runs, and why each contender failed that did (it is not tried again)."""
    runs: Runs = {name: [] for name in names}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name in [name for name in names if name not in failures]:
            result = run(name, out, images)
            if isinstance(result, str):
                failures[name] = result
                del runs[name]
                words = result
            else:
                runs[name].append(result)
                words = f"{result.images_per_s:8,.0f} images/s, others took {result.others:.2f} cores"
            print(f"round {number}/{rounds}  {name:20} {words}", file=sys.stderr, flush=True)
    return runs, failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target beside what was measured; `ratio` is taken round by round, where both saw the same machine."""

    target: Target
    quiet_rounds: int
    ratio: Spread | None  #: over the quiet rounds; None if there were none
    met: bool | None


def spread(runs: list[Run]) -> Spread:
    """Of a contender's images a second."""
    return Spread.of([one.images_per_s for one in runs])


def verdicts(runs: Runs) -> list[Verdict]:
    """Every target whose two contenders were run."""
    found = []
    for target in TARGETS:
        if target.ours in runs and target.peer in runs:
            pairs = zip(runs[target.ours], runs[target.peer], strict=True)
            ratios = [own.images_per_s / peer.images_per_s for own, peer in pairs if own.quiet and peer.quiet]
            ratio = Spread.of(ratios) if ratios else None
            met = ratio.median >= target.factor if ratio else None
            found.append(Verdict(target=target, quiet_rounds=len(ratios), ratio=ratio, met=met))
    return found


def print_report(runs: Runs, failures: dict[str, str]) -> None:
    """Both tables: contenders, and targets."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table("contender", title=f"images/s on {CORES} cores")
    for heading in ("median", "min - max", "cores taken by others, at most"):
        table.add_column(heading, justify="right")
    for name, done in runs.items():
        table.add_row(name, *spread(done).text(",.0f"), f"{max(one.others for one in done):.2f}")
    console.print(table)
    for name, reason in failures.items():
        console.print(f"{name} failed: {reason}", markup=False)

    table = Table("target", title="ratios")
    for heading in ("at least", "median", "min - max", "quiet rounds", "met"):
        table.add_column(heading, justify="right")
    for verdict in verdicts(runs):
        target = verdict.target
        middle, ends = verdict.ratio.text(".2f") if verdict.ratio else ("", "")
        words = f"{target.ours} / {target.peer}"
        rounds = str(verdict.quiet_rounds)
        table.add_row(words, f"{target.factor:.1f}", middle, ends, rounds, MET[verdict.met])
    if table.row_count:
        console.print(table)


# The set that is read.


def make_set() -> Path:
    """The benchmark's own set, made once: both commands only look at what they have finished before."""
    source, out = ROOT / "build/bench-source", ROOT / "build/bench-out"
    make_source(source, 6000)
    command = [sys.executable, "-m", "wdsremux", "convert", str(source), str(out)]
    subprocess.run(command, check=True, env=environment())
    return out


def warm_cache(out: Path) -> dict[str, int]:
    """Read all shards once, so that no contender pays for the disk; their number and bytes."""
    shards = shards_of(out)
    return {"shards": len(shards), "bytes": sum(len(Path(shard).read_bytes()) for shard in shards)}


def names_of(text: str) -> list[str]:
    """The contenders of --only, in the order of the table."""
    wanted = text.split(",")
    if unknown := set(wanted) - set(CONTENDERS):
        words = f"no such contender: {', '.join(unknown)}. Known: {', '.join(CONTENDERS)}"
        raise argparse.ArgumentTypeError(words)
    return [name for name in CONTENDERS if name in wanted]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, help="a converted folder; made under build/ if absent")
    parser.add_argument("--only", type=names_of, default=list(CONTENDERS), metavar="NAME,NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=6000, help="timed in each run, at least (default 6000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """All rounds; exit code 1 if a contender did not run, whatever the ratios."""
    options = parse()
    if options.child:
        run_child(options.child, options.out, options.images)
        return 0
    out = options.out.resolve() if options.out else make_set()
    data = warm_cache(out)
    runs, failures = run_rounds(options.only, out, options.images, options.rounds)
    print_report(runs, failures)
    if options.json:
        settings = {"batch": BATCH, "size": SIZE, "images": options.images, "rounds": options.rounds}
        results = {
            name: {**asdict(spread(done)), "rounds": [asdict(one) for one in done]} for name, done in runs.items()
        }
        found = [asdict(verdict) for verdict in verdicts(runs)]
        figures = {"images_per_s": results, "failures": failures, "ratios": found}
        write_json(options.json, {**header(), "settings": settings, "data": data, **figures})
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
