"""What a conversion costs beside its codec: CPU time, what a second worker brings, peak memory.

    python scripts/bench_convert.py [--json FILE] [--rounds 5] [--images 5000] [--times 4]

Three questions, on two CPU cores:
  * CPU time: `wdsremux convert` with one worker, against a loop that does nothing but call the codec on the
    same bytes. The cost of one more image is the difference between a source and one `--times` as large, so
    that imports, planning and all else that is paid once fall out.
  * Wall time: one and two workers on the larger source.
  * Memory: peak PSS of all processes together, in runs of their own: to walk a gigabyte's page tables takes
    milliseconds, which on two cores would slow what is timed.

The larger source is the smaller one's files several times over, so both hold the same images. Rounds are
interleaved, so that a machine that slows down slows everything. Targets are printed, never asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_load import ROOT, Spread, environment, header, make_source, two_cores, write_json

PR_SET_CHILD_SUBREAPER = 36  #: of prctl(2)
SAMPLE_PERIOD_S = 0.2
RUN_TIMEOUT_S = 1800
LEFTOVER_TIMEOUT_S = 60  #: how long processes may live on after the command that started them
SIDE, QUALITY, SUBSAMPLING = 256, 90, "420"  #: of `convert`'s default recipe


# One run: a command and all processes that come of it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a command and everything it started took."""

    wall_s: float  #: until the command itself ended
    cpu_s: float  #: user and system, of all processes
    peak_pss_bytes: int | None  #: of all processes together; None if not sampled


def become_subreaper() -> None:
    """Make every orphan below this process its child.

    When a command ends before the fork server that it started, the server becomes an orphan, and its CPU time
    and that of the workers it forked would be lost. A subreaper gets to wait for every one; nothing counts
    twice, because `wait4` gives a process's time and that of those children which it has itself waited for.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit(f"prctl(PR_SET_CHILD_SUBREAPER) failed: {os.strerror(ctypes.get_errno())}.")


def run_tree(command: list[str], log: Path, sample_memory: bool = False) -> Usage:
    """Run a command, and wait for it and for every process it leaves behind.

    This process must be a subreaper, and have no other children.
    """
    to_log = [
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    sampler = Sampler()
    start = time.perf_counter()
    main = os.posix_spawn(command[0], command, environment(), file_actions=to_log)
    if sample_memory:
        sampler.start()
    try:
        wall_s, cpu_s = wait_for_all(main, start, f"{' '.join(command)} failed; it wrote {log}")
    finally:
        sampler.stop()
    return Usage(wall_s=wall_s, cpu_s=cpu_s, peak_pss_bytes=sampler.peak_bytes if sample_memory else None)


def wait_for_all(main: int, start: float, failure: str) -> tuple[float, float]:
    """Reap children until none is left: seconds from `start` to the end of `main`, CPU seconds of all."""
    wall_s, cpu_s = 0.0, 0.0
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(RUN_TIMEOUT_S)
    try:
        while True:
            child, status, usage = os.wait4(-1, 0)
            cpu_s += usage.ru_utime + usage.ru_stime
            if child == main:
                wall_s = time.perf_counter() - start
                signal.alarm(LEFTOVER_TIMEOUT_S)
                if status != 0:
                    raise SystemExit(f"{failure} (exit code {os.waitstatus_to_exitcode(status)}).")
    except ChildProcessError:
        return wall_s, cpu_s
    finally:
        signal.alarm(0)


def give_up(signal_number: int, frame: object) -> None:
    """End the benchmark, and what it started, where a process does not end: its CPU time cannot be had."""
    processes = descendants()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    raise SystemExit(
        f"Killed processes {processes}: a command may take {RUN_TIMEOUT_S} s, and leave none behind that"
        f" lives on for {LEFTOVER_TIMEOUT_S} s. Look at what it wrote under --work."
    )


class Sampler:
    """Peak PSS of everything below this process, looked at five times a second.

    PSS, because forked workers share most of what they map: a page of n processes counts as 1/n in each.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(SAMPLE_PERIOD_S):
            self.peak_bytes = max(self.peak_bytes, sum(pss_bytes(process) for process in descendants()))

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; nothing to do if it was never started."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()


def descendants() -> list[int]:
    """Processes below this one. None escapes: an orphan's new parent is this process."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything; state and parent follow it.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(os.getpid(), []))
    for process in found:  # grows while it is read
        found += children.get(process, [])
    return found


def pss_bytes(process: int) -> int:
    """Proportional set size of one process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


# The bare codec.


def bake(encoded: bytes) -> bytes:
    """THE ONE PLACE that names the codec: what `convert`'s default recipe does with one image, no more."""
    from wdsremux import codec

    baked: bytes = codec.encode(codec.resize_short_side(encoded, SIDE), QUALITY, SUBSAMPLING).data
    return baked


def row_groups(source: Path) -> Iterator[list[bytes]]:
    """The encoded images of a parquet source, one row group at a time."""
    import pyarrow.parquet as pq

    for path in source_files(source):
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, columns=["image"], use_threads=False)
                yield [row["bytes"] for row in table.column("image").to_pylist()]


def codec_child(source: Path) -> None:
    """Bake a source in one thread, and print as the last line the CPU seconds spent in the codec alone."""
    import torch

    torch.set_num_threads(1)
    images, cpu_s = 0, 0.0
    for group in row_groups(source):
        bake(group[0])  # untimed: the first of all imports the codec
        start = time.process_time()
        for encoded in group:
            bake(encoded)
        cpu_s += time.process_time() - start
        images += len(group)
    print(json.dumps({"images": images, "cpu_s": cpu_s}), flush=True)


# The sources.


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Two sources of the same images, the larger with each of them several times."""

    small: Path
    large: Path
    small_images: int
    large_images: int


def source_files(source: Path) -> list[Path]:
    """The parquet files of a source's training split, in order."""
    return sorted((source / "data").glob("train-*.parquet"))


def make_sources(work: Path, images: int, times: int) -> Sources:
    """The smaller source by scripts/sample_source.py, the larger of links to its files."""
    small, large = work / f"source-{images}", work / f"source-{images}x{times}"
    make_source(small, images)
    shutil.rmtree(large, ignore_errors=True)
    (large / "data").mkdir(parents=True)
    files = source_files(small) * times
    for number, file in enumerate(files):
        os.link(file, large / "data" / f"train-{number:05d}-of-{len(files):05d}.parquet")
    for file in source_files(small):
        file.read_bytes()  # into the page cache: the first run is not to pay for the disk
    return Sources(small=small, large=large, small_images=images, large_images=images * times)


# The runs of a round.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where everything lies."""

    work: Path
    sources: Sources

    def convert(self, workers: int, large: bool, sample_memory: bool = False) -> Usage:
        """One conversion from nothing, checked to have dealt with every image."""
        source = self.sources.large if large else self.sources.small
        images = self.sources.large_images if large else self.sources.small_images
        out = self.work / "out"
        shutil.rmtree(out, ignore_errors=True)
        os.sync()  # what the run before left to be written is not to slow this one's fsync
        command = [
            sys.executable,
            "-m",
            "wdsremux",
            "convert",
            str(source),
            str(out),
            "--workers",
            str(workers),
        ]
        usage = run_tree(command, self.work / "convert.log", sample_memory)
        manifest = json.loads((out / "train/index.json").read_text())
        if manifest["nsamples"] != images:
            raise SystemExit(
                f"{out} holds {manifest['nsamples']} samples of {images} images: nothing to compare."
            )
        return usage

    def codec_cpu_s(self) -> float:
        """CPU seconds of the bare codec for one image."""
        log = self.work / "codec.log"
        run_tree([sys.executable, __file__, "--child", str(self.sources.small)], log)
        figures = json.loads([line for line in log.read_text().splitlines() if line.startswith("{")][-1])
        return float(figures["cpu_s"]) / int(figures["images"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The timed runs of one round, made one after another."""

    codec_s: float  #: CPU seconds an image of the bare codec
    small: Usage  #: one worker, smaller source
    large: Usage  #: one worker, larger source
    large_by_two: Usage  #: two workers, larger source
    small_images: int
    large_images: int

    @property
    def convert_s(self) -> float:
        """CPU seconds that one more image costs with one worker."""
        return (self.large.cpu_s - self.small.cpu_s) / (self.large_images - self.small_images)


def run_round(bench: Bench) -> Round:
    """Every timed run once."""
    return Round(
        codec_s=bench.codec_cpu_s(),
        small=bench.convert(workers=1, large=False),
        large=bench.convert(workers=1, large=True),
        large_by_two=bench.convert(workers=2, large=True),
        small_images=bench.sources.small_images,
        large_images=bench.sources.large_images,
    )


def run_memory(bench: Bench) -> dict[str, int]:
    """Peak PSS in bytes of each run. Made once: what else the machine does hardly moves a peak."""
    peaks = {}
    for workers in (1, 2):
        for large in (False, True):
            usage = bench.convert(workers, large, sample_memory=True)
            images = bench.sources.large_images if large else bench.sources.small_images
            peaks[f"--workers {workers}, {images:,} images"] = usage.peak_pss_bytes or 0
            print(f"memory  --workers {workers}, {images:,} images", file=sys.stderr, flush=True)
    return peaks


# The report.


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report: a number made of each round, and its target if it has one."""

    words: str
    value: Callable[[Round], float]
    form: str = ".2f"
    at_least: float | None = None
    at_most: float | None = None

    def met(self, median: float) -> bool | None:
        """Whether the target is met; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least or 0.0) <= median <= (self.at_most or float("inf"))


# Wall times are of whole runs, start included. By difference, as CPU time is, they would flatter two workers:
# the few tasks of the smaller source cannot be shared out evenly, and its run would be too long to subtract.
FIGURES = (
    Figure("bare codec, CPU ms an image", lambda one: 1e3 * one.codec_s, ".3f"),
    Figure("convert, 1 worker, CPU ms an image", lambda one: 1e3 * one.convert_s, ".3f"),
    Figure("convert / bare codec, CPU time", lambda one: one.convert_s / one.codec_s, at_most=1.25),
    Figure("1 worker, images/s", lambda one: one.large_images / one.large.wall_s, ",.0f"),
    Figure("2 workers, images/s", lambda one: one.large_images / one.large_by_two.wall_s, ",.0f"),
    Figure("2 workers / 1 worker", lambda one: one.large.wall_s / one.large_by_two.wall_s, at_least=1.8),
)


def print_report(rounds: list[Round], peaks: dict[str, int]) -> None:
    """Both tables: figures with targets, and memory."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table("figure", title=f"conversion, {len(rounds)} rounds")
    for heading in ("median", "min - max", "target", "met"):
        table.add_column(heading, justify="right")
    for figure in FIGURES:
        spread = Spread.of([figure.value(one) for one in rounds])
        bound = (
            f"<= {figure.at_most}" if figure.at_most else f">= {figure.at_least}" if figure.at_least else ""
        )
        met = {None: "", True: "yes", False: "NO"}[figure.met(spread.median)]
        table.add_row(figure.words, *spread.text(figure.form), bound, met)
    console.print(table)
    table = Table("run", title="memory, all processes together")
    table.add_column("peak PSS, MB", justify="right")
    for words, peak in peaks.items():
        table.add_row(words, f"{peak / 1e6:,.0f}")
    console.print(table)


def document(rounds: list[Round], peaks: dict[str, int], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything, for --json."""
    figures = {}
    for figure in FIGURES:
        spread = Spread.of([figure.value(one) for one in rounds])
        target = {"at_least": figure.at_least, "at_most": figure.at_most, "met": figure.met(spread.median)}
        figures[figure.words] = {**asdict(spread), **target}
    runs = [asdict(one) for one in rounds]
    return {**header(), "settings": settings, "figures": figures, "peak_pss_bytes": peaks, "rounds": runs}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000, help="in the smaller source (default 5000)")
    parser.add_argument("--times", type=int, default=4, help="how much larger the other is (default 4)")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build/bench-convert", help="folder for all files"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--child", type=Path, metavar="SOURCE", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """All rounds."""
    options = parse()
    if options.child:
        codec_child(options.child)
        return 0
    work = options.work.resolve()
    bench = Bench(work=work, sources=make_sources(work, options.images, options.times))
    become_subreaper()
    os.sched_setaffinity(0, two_cores())  # all runs inherit it
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append(run_round(bench))
        ratio = rounds[-1].convert_s / rounds[-1].codec_s
        print(f"round {number}/{options.rounds}  convert / codec {ratio:.3f}", file=sys.stderr, flush=True)
    peaks = run_memory(bench)
    shutil.rmtree(bench.work / "out")
    print_report(rounds, peaks)
    if options.json:
        settings = {key: getattr(options, key) for key in ("images", "times", "rounds")}
        write_json(options.json, document(rounds, peaks, settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
