"""Loaders on two CPU cores: `wdsremux.DataLoader` beside what people use today.

    python benchmarks/bench_load.py [OUT] [--json FILE] [--only NAME,NAME] [--rounds 5] [--images 2560]
        [--large-source FOLDER] [--no-store]

All contenders do the same work on the same JPEG files: a random resized crop to 224 px (scale 0.08 to 1, ratio 3/4 to
4/3), a horizontal flip, normalisation (not for uint8), a batch of 256. Some read our tars, some a form of their own
that bench_load_sets.py makes of the same bytes, and `peer-datasets-source` the unconverted photos.

Each run is a process of its own, so that no contender meets another's threads, memory or import order: it imports,
makes the loader, and goes through --images images twice. "First epoch" counts from before the loader was made,
"images/s" is the second time. Rounds are interleaved (A B C, A B C, ...), so that a machine that slows down slows all
of them. Where other processes took part of the two cores, a round says nothing of a ratio: they slow contenders by very
different amounts (seen: webdataset's workers to a third, threads to a half), so such rounds are shown and not judged.
Whether a target is met is printed, never asserted: a timing that decides a test fails on the first busy machine.

After the rounds come, once each, peak memory of all processes of a contender; then a few of them from a cold page cache
and from a slow store. With --large-source, a folder of parquet as sample_source.py writes it, `datasets` on it beside
ours on what `wdsremux convert` makes of it. Peers run in the environment that `make peers` installs, if it is there.

Without OUT it makes its own set of --images photos under build/.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from bench_contenders import COLD, CONTENDERS, STORE
from bench_load_report import Results, Run, Runs, document, print_report
from bench_load_runs import Place, evict, last_error, peak_bytes, read_all, run, wait_for_orphans
from bench_loaders import BATCH, RESTARTS, SIZE, Data
from bench_machine import PEERS_PYTHON, ROOT, environment, header, make_source, two_cores, write_json
from bench_tree import become_subreaper

LARGE_IMAGES = 256  #: timed of large photos in each run of `datasets`: it takes many seconds for a batch
LARGE_ROUNDS = 3
LARGE = ("auto-float-cl", "peer-datasets-source")


# What is read.


def make_set(images: int) -> tuple[Path, Path]:
    """The benchmark's own source, and OUT: made once, both commands only look at what they have finished before."""
    source, out = ROOT / f"build/bench-load-source-{images}", ROOT / f"build/bench-load-out-{images}"
    make_source(source, images)
    convert(source, out)
    return source, out


def convert(source: Path, out: Path, *flags: str) -> None:
    """The training split, in a process of its own."""
    command = [sys.executable, "-m", "wdsremux", "convert", str(source), str(out), "--split", "train", *flags]
    subprocess.run(command, check=True, env=environment())


def data_of(out: Path, source: Path) -> Data:
    """A converted set and the peers' forms of it, in a folder of their own for each content."""
    manifest = hashlib.sha256((out / "train/index.json").read_bytes()).hexdigest()
    return Data(out=out.resolve(), sets=ROOT / f"build/bench-load-sets/{manifest[:12]}", source=source.resolve())


def make_forms(data: Data, names: Iterable[str], work: Path) -> dict[str, str]:
    """Make what these contenders read; a line for each that cannot be run because its form was not made."""
    failures = {}
    for form in dict.fromkeys(CONTENDERS[name].form for name in names):
        if form == "tars":
            continue
        if form in ("arrow", RESTARTS) and not data.parquet():
            words: str | None = f"no unconverted photos in {data.source / 'data'}"
        else:
            words = make_form(data, form, work)
        if words:
            failures.update({name: words for name in names if CONTENDERS[name].form == form})
    return failures


def make_form(data: Data, form: str, work: Path) -> str | None:
    """One form; or a line that says what went wrong."""
    if form == RESTARTS:
        convert(data.source, data.sets / form, "--restart-rows")
        return None
    python = str(PEERS_PYTHON if PEERS_PYTHON.exists() else sys.executable)
    script = ROOT / "benchmarks/bench_load_sets.py"
    command = [python, *map(str, (script, data.out, data.source, data.sets)), form]
    log = work / f"form-{form}.log"
    with log.open("w") as file:
        code = subprocess.run(command, check=False, stdout=file, stderr=subprocess.STDOUT, env=environment()).returncode
    return f"its form was not made: {last_error(log.read_text())}" if code else None


# All rounds.


@dataclass(frozen=True, slots=True)
class Rounds:
    """Runs of several contenders, interleaved; one that fails is not tried again, and the others go on."""

    section: str  #: "" for the warm rounds
    failures: dict[str, str]  #: grows

    def go(self, names: Iterable[str], rounds: int, once: Callable[[str], Run | str]) -> Runs:
        """What each contender's runs found."""
        label = f"{self.section}: " if self.section else ""
        runs: Runs = {}
        for number in range(1, rounds + 1):
            for name in [name for name in names if name not in self.failures and label + name not in self.failures]:
                result = once(name)
                if isinstance(result, str):
                    self.failures[label + name] = words = result
                    runs.pop(name, None)
                else:
                    runs.setdefault(name, []).append(result)
                    timing = result.timing
                    rate = timing.images_per_s or timing.first_epoch_images_per_s
                    words = (
                        f"{rate:8,.0f} images/s, first batch {timing.first_batch_s:5.2f} s, others {result.others:.2f}"
                    )
                print(f"{label}round {number}/{rounds}  {name:24} {words}", file=sys.stderr, flush=True)
        return runs


def peaks(names: Iterable[str], place: Place, failures: dict[str, str]) -> dict[str, int]:
    """Peak memory of each contender that still runs."""
    found = {}
    for name in names:
        if name not in failures:
            peak = peak_bytes(name, place)
            if isinstance(peak, str):
                failures[f"memory: {name}"] = peak
            else:
                found[name] = peak
                print(f"memory: {name:24} {peak / 1e6:,.0f} MB", file=sys.stderr, flush=True)
    return found


def cold(name: str, place: Place) -> Run | str:
    """One run from a cold page cache: not of Python's files, only of the data."""
    form = CONTENDERS[name].form
    evict(place.data.out if form == "tars" else place.data.sets / form)
    return run(name, place, first_only=True)


def large(options: argparse.Namespace, place: Place, failures: dict[str, str]) -> Runs:
    """`datasets` on large photos, and ours on the set converted from them."""
    source = options.large_source.resolve()
    out = ROOT / f"build/bench-load-large-{hashlib.sha256(str(source).encode()).hexdigest()[:8]}"
    convert(source, out)
    data = data_of(out, source)
    names = [name for name in LARGE if name in options.only]
    broken = make_forms(data, names, place.work)
    failures.update({f"large: {name}": words for name, words in broken.items()})
    for folder in (out, data.sets):
        read_all(folder)
    wait_for_orphans()

    def once(name: str) -> Run | str:
        images = LARGE_IMAGES if CONTENDERS[name].peer else place.images
        return run(name, replace(place, data=data, images=images))

    return Rounds("large", failures).go(names, min(options.rounds, LARGE_ROUNDS), once)


def measure(options: argparse.Namespace, place: Place) -> Results:
    """Everything that was asked for."""
    names: list[str] = options.only
    failures = make_forms(place.data, names, place.work)
    for folder in (place.data.out, place.data.sets, place.data.source):
        read_all(folder)
    wait_for_orphans()
    warm = Rounds("", failures).go(names, options.rounds, lambda name: run(name, place))
    memory = peaks(names, place, failures)
    few = min(options.rounds, 3)
    dropped = Rounds("cold", failures).go([name for name in COLD if name in names], few, lambda name: cold(name, place))
    stored: Runs = {}
    if not options.no_store:
        names_there = [name for name in STORE if name in names]
        stored = Rounds("store", failures).go(
            names_there, few, lambda name: run(name, place, first_only=True, store=True)
        )
    return Results(
        warm=warm,
        cold=dropped,
        store=stored,
        large=large(options, place, failures) if options.large_source else {},
        peak_pss_bytes=memory,
        failures=failures,
    )


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
    parser.add_argument("--source", type=Path, help="the parquet folder that OUT was made of, for peer-datasets-source")
    parser.add_argument("--only", type=names_of, default=list(CONTENDERS), metavar="NAME,NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2560, help="of an epoch, timed twice a run (default 2560)")
    parser.add_argument("--large-source", type=Path, metavar="FOLDER", help="unconverted large photos as parquet")
    parser.add_argument("--no-store", action="store_true", help="leave out the runs from a slow store")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def main() -> int:
    """All rounds; exit code 1 if a contender did not run, whatever the ratios."""
    options = parse()
    # Without a GPU: `auto` would take it. Without the Hub: `datasets` would ask it for its builders.
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    source, out = (options.source or options.out, options.out) if options.out else make_set(options.images)
    os.sched_setaffinity(0, two_cores())
    become_subreaper()
    with tempfile.TemporaryDirectory(prefix="bench-load-") as work:
        os.environ["TMPDIR"] = work  # caches of peers that copy a store's files go with it
        place = Place(data=data_of(out, source), work=Path(work), images=options.images)
        results = measure(options, place)
    print_report(results)
    if options.json:
        settings = {"batch": BATCH, "size": SIZE, "images": options.images, "rounds": options.rounds}
        figures = {**header(), "settings": settings, **document(results)}
        write_json(options.json, figures)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
