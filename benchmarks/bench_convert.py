"""What a conversion costs: `wdsremux convert` beside what people use today, and beside its codec alone.

    python benchmarks/bench_convert.py [--json FILE] [--rounds 5] [--peer-rounds 3] [--only NAME,NAME]
                                    [--sizes small,large] [--photos FOLDER]

Photographs of 400-700 px and of 1,500-3,000 px on the short side become JPEGs of 256 px, q90, 4:2:0, with their labels,
on two CPU cores:
  * `wdsremux convert` with two workers, with one, and with `--fast`;
  * each converter of benchmarks/bench_converters.py, in the environment of the peers, in a process tree of its own;
  * the codec, and entropy decoding, on the same bytes with nothing around, in one thread.

Each converter makes a set of all photographs and one of a few. The first gives what a user sees; the difference gives
what one more image costs, without imports and all else that is paid once. Memory is the peak PSS of all processes
together, in a run of its own: to walk a gigabyte's page tables takes milliseconds, which on two cores would slow what
is timed.

All is read from a warm page cache; the output is removed and the disk synced before each run. Rounds are interleaved,
so that a machine that slows down slows everything; the others take part in three of five, for all to end in some twenty
minutes. Where other processes took part of the two cores, a run stands in the JSON and is not judged. A converter that
fails is named and the rest goes on. Targets are printed, never asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_convert_report import Results, Run, document, print_report
from bench_convert_sources import FEW, SIZES, Source, make_sources
from bench_converters import LEFT_OUT, PEERS
from bench_machine import PEERS_PYTHON, ROOT, environment, header, two_cores, write_json
from bench_tree import RunError, Usage, become_subreaper, run_tree

ONE_WORKER, TWO_WORKERS, FAST = "wdsremux-1", "wdsremux", "wdsremux-fast"
LARGE_TASK = 24  #: large photographs that one worker takes at a time
LIMITS = ("codec", "entropy")
OURS = {
    TWO_WORKERS: ("--workers", "2"),
    ONE_WORKER: ("--workers", "1"),
    FAST: ("--workers", "2", "--fast"),
}


def say(words: str) -> None:
    """A line of progress."""
    print(words, file=sys.stderr, flush=True)


def ours_known() -> list[str]:
    """Our own ways that this version of `wdsremux convert` knows."""
    command = [sys.executable, "-m", "wdsremux", "convert", "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, env=environment()).stdout
    return [name for name, options in OURS.items() if all(option in text for option in options if option[0] == "-")]


@dataclass(frozen=True, slots=True)
class Bench:
    """Runs converters on the sources of one size; all files lie in one folder."""

    work: Path
    size: str
    whole: Source
    few: Source

    def command(self, name: str, source: Source, out: Path) -> list[str]:
        """What makes OUT of a source."""
        if name in OURS:
            command = [sys.executable, "-m", "wdsremux", "convert", str(source.path), str(out), *OURS[name]]
            # By default a task takes 2,048 rows at least: the large photographs would make one, for one worker.
            return [*command, "--samples-per-task", str(LARGE_TASK)] if self.size == "large" else command
        return [str(PEERS_PYTHON), str(ROOT / "benchmarks/bench_converters.py"), name, str(source.path), str(out)]

    def out(self, name: str) -> Path:
        """Where the few photographs go; the whole set goes to the same place, later removed."""
        return self.work / f"out-{self.size}-{name}"

    def convert(self, name: str, source: Source, out: Path, sample_memory: bool = False) -> Usage:
        """One conversion from nothing."""
        remove(out)
        os.sync()  # what the run before left to be written is not to slow this one's fsync
        log = self.work / f"{self.size}-{name}.log"
        usage = run_tree(self.command(name, source, out), log, sample_memory, sample_cpu=name == "ray")
        index = out / "train/index.json"
        if name in OURS and (baked := json.loads(index.read_text())["nsamples"]) != source.images:
            raise RunError(f"{baked} samples of {source.images} images")
        return usage

    def run(self, name: str, number: int) -> Run:
        """All photographs, then a few, whose output is left for its quality to be judged."""
        scratch = self.work / "out"
        whole = self.convert(name, self.whole, scratch)
        remove(scratch)
        return Run(number, whole, self.convert(name, self.few, self.out(name)))

    def limit(self, name: str) -> float:
        """CPU seconds an image of a part of the work, without anything around it."""
        log = self.work / f"{self.size}-{name}.log"
        command = [sys.executable, str(ROOT / "benchmarks/bench_codec.py"), str(self.whole.path), name]
        run_tree(command, log)
        figures = json.loads([line for line in log.read_text().splitlines() if line.startswith("{")][-1])
        return float(figures["cpu_s"]) / int(figures["images"])

    def memory(self, name: str, source: Source) -> tuple[int, float]:
        """Peak PSS in bytes, and bytes an image of the folder that was written."""
        out = self.work / "out"
        peak_bytes = self.convert(name, source, out, sample_memory=True).peak_pss_bytes or 0
        size_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        remove(out)
        return peak_bytes, size_bytes / source.images

    def quality(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """What benchmarks/bench_quality.py says of what was made of the few photographs."""
        python = PEERS_PYTHON if PEERS_PYTHON.exists() else sys.executable
        command = [str(python), str(ROOT / "benchmarks/bench_quality.py"), str(self.few.path)]
        for name in names:
            command += [name, PEERS[name].format if name in PEERS else "tar", str(self.out(name))]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment())
        found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return found


def remove(out: Path) -> None:
    """An output, and the caches that a peer has put beside it."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out.with_name(f"{out.name}-cache"), ignore_errors=True)


def takes_part(name: str, number: int, rounds: int, peer_rounds: int) -> bool:
    """Whether a converter is run in a round: ours in all, the others in some, spread evenly over them."""
    return name in OURS or peer_rounds >= rounds or number * peer_rounds % rounds < peer_rounds


def run_round(bench: Bench, results: Results, names: list[str], number: int) -> None:
    """Every timed run of one size, once; what has failed is not tried again."""
    for name in LIMITS:
        results.limits[name].append(bench.limit(name))
    for name in names:
        try:
            run = bench.run(name, number)
        except RunError as error:
            say(f"  {name} failed: {error}")
            results.fail(name, str(error))
            continue
        results.runs[name].append(run)
        rate = bench.whole.images / run.whole.wall_s
        say(f"  {bench.size:6} {name:18} {rate:8,.0f} images/s{'' if run.quiet else ', disturbed'}")


def run_once(bench: Bench, results: Results) -> None:
    """What needs no rounds: memory, size and quality. What else the machine does hardly moves them."""
    for name, found in bench.quality(results.names()).items():
        if "error" in found:
            results.fail(name, f"what it wrote cannot be judged: {found['error']}")
        else:
            results.psnr_db[name] = found["psnr_db"]
    for name in results.names():
        say(f"  {bench.size:6} {name:18} memory")
        try:
            results.peak_pss_bytes[name], results.bytes_an_image[name] = bench.memory(name, bench.whole)
        except RunError as error:
            results.fail(name, str(error))
    if TWO_WORKERS in results.names() and bench.whole.repeated:
        say(f"  {bench.size:6} {TWO_WORKERS:18} memory, {bench.whole.repeated.images:,} images")
        results.repeated_pss_bytes = bench.memory(TWO_WORKERS, bench.whole.repeated)[0]


def names_of(text: str, known: list[str]) -> list[str]:
    """The words of an option, in the order of the table."""
    wanted = text.split(",")
    if unknown := set(wanted) - set(known):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}. Known: {', '.join(known)}")
    return [name for name in known if name in wanted]


def parse() -> argparse.Namespace:
    """The command line."""
    contenders = [*OURS, *PEERS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-rounds", type=int, default=3, help="rounds in which the others take part (default 3)")
    parser.add_argument("--only", type=lambda text: names_of(text, contenders), metavar="NAME,NAME")
    parser.add_argument("--sizes", type=lambda text: names_of(text, list(SIZES)), default=list(SIZES))
    parser.add_argument("--images", type=int, help=f"in the whole set of each size; a few are {FEW}")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="holds large JPEGs to cut the large set from")
    parser.add_argument("--work", type=Path, default=ROOT / "build/bench-convert", help="folder for all files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def main() -> int:
    """All rounds; exit code 1 if a converter did not run, whatever the ratios."""
    options = parse()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    known = [*ours_known(), *PEERS]
    names = [name for name in known if not options.only or name in options.only]
    if not PEERS_PYTHON.exists():
        say(f"{PEERS_PYTHON} is not there, so no other converter is run.")
        names = [name for name in names if name in OURS]
    benches, all_results = {}, {}
    for size in options.sizes:
        few, whole, origin = make_sources(size, work, options.images, options.photos)
        say(f"{size}: {whole.images:,} images, {origin}")
        benches[size] = Bench(work, size, whole, few)
        all_results[size] = Results.of(SIZES[size].words, origin, whole.images, few.images, names, LIMITS)
    become_subreaper()
    os.sched_setaffinity(0, two_cores())  # all runs inherit it
    for number in range(1, options.rounds + 1):
        say(f"round {number}/{options.rounds}")
        for size, bench in benches.items():
            results = all_results[size]
            taking = [name for name in results.names() if takes_part(name, number, options.rounds, options.peer_rounds)]
            run_round(bench, results, taking, number)
    for size, bench in benches.items():
        run_once(bench, all_results[size])
        for name in known:
            remove(bench.out(name))
    print_report(all_results, LEFT_OUT)
    if options.json:
        settings = {"rounds": options.rounds, "peer_rounds": options.peer_rounds, "few": FEW}
        figures = document(all_results, LEFT_OUT)
        write_json(options.json, {**header(), "settings": settings, **figures})
    return 1 if any(results.failures for results in all_results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
