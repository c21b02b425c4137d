"""What a conversion costs beside its codec: CPU time, what a second worker brings, peak memory.

    python scripts/bench_convert.py [--json FILE] [--rounds 5] [--images 5000] [--times 4]

Three questions, on two CPU cores:
  * CPU time: `wdsremux convert` with one worker, against a loop that does nothing but call the codec on the
    same bytes. The cost of one more image is the difference between a source and one `--times` as large, so
    that imports, planning and all else that is paid once fall out.
  * Wall time: one and two workers on the larger source, as a whole and without what a run takes before and
    after it bakes, which is seen by baking next to nothing.
  * Memory: peak PSS of all processes together, in runs of their own: to walk a gigabyte's page tables takes
    milliseconds, which on two cores would slow what is timed.

The larger source is the smaller one's files several times over, so both hold the same images. Rounds are
interleaved, so that a machine that slows down slows everything. Where other processes took part of the two
cores, a round stands in the JSON and is not judged. Targets are printed, never asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_machine import (
    MET,
    QUIET_CORES,
    ROOT,
    Spread,
    header,
    make_source,
    two_cores,
    write_json,
)
from bench_tree import Usage, become_subreaper, run_tree

FEW = 64  #: images: too few to take any time
SIDE, QUALITY, SUBSAMPLING = 256, 90, "420"  #: of `convert`'s default recipe


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


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of parquet, and how many images it holds."""

    path: Path
    images: int


def source_files(source: Path) -> list[Path]:
    """The parquet files of a source's training split, in order."""
    return sorted((source / "data").glob("train-*.parquet"))


def sample(work: Path, images: int) -> Source:
    """A source made by scripts/sample_source.py, or found there."""
    source = Source(work / f"source-{images}", images)
    make_source(source.path, images)
    for file in source_files(source.path):
        file.read_bytes()  # into the page cache: the first run is not to pay for the disk
    return source


def repeated(source: Source, times: int) -> Source:
    """A source of links to another's files, each of them several times."""
    path = source.path.with_name(f"{source.path.name}x{times}")
    shutil.rmtree(path, ignore_errors=True)
    (path / "data").mkdir(parents=True)
    files = source_files(source.path) * times
    for number, file in enumerate(files):
        os.link(file, path / "data" / f"train-{number:05d}-of-{len(files):05d}.parquet")
    return Source(path, source.images * times)


# The runs of a round.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where everything lies."""

    work: Path
    tiny: Source  #: a few images: next to nothing to bake
    small: Source
    large: Source  #: the small one's files several times

    def convert(self, source: Source, workers: int, sample_memory: bool = False) -> Usage:
        """One conversion from nothing, checked to have baked every image."""
        out = self.work / "out"
        shutil.rmtree(out, ignore_errors=True)
        os.sync()  # what the run before left to be written is not to slow this one's fsync
        command = [sys.executable, "-m", "wdsremux", "convert", str(source.path), str(out)]
        usage = run_tree([*command, "--workers", str(workers)], self.work / "convert.log", sample_memory)
        baked = json.loads((out / "train/index.json").read_text())["nsamples"]
        if baked != source.images:
            raise SystemExit(f"{out} holds {baked} samples of {source.images} images: nothing to compare.")
        return usage

    def codec_cpu_s(self) -> float:
        """CPU seconds of the bare codec for one image."""
        log = self.work / "codec.log"
        run_tree([sys.executable, __file__, "--child", str(self.small.path)], log)
        figures = json.loads([line for line in log.read_text().splitlines() if line.startswith("{")][-1])
        return float(figures["cpu_s"]) / int(figures["images"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The timed runs of one round, made one after another."""

    codec_s: float  #: CPU seconds an image of the bare codec
    tiny: dict[int, Usage]  #: by number of workers
    small: Usage  #: one worker
    large: dict[int, Usage]  #: by number of workers
    small_images: int
    large_images: int

    @property
    def convert_s(self) -> float:
        """CPU seconds that one more image costs with one worker."""
        return (self.large[1].cpu_s - self.small.cpu_s) / (self.large_images - self.small_images)

    def images_per_s(self, workers: int) -> float:
        """Images a second of a whole run, start and end included."""
        return self.large_images / self.large[workers].wall_s

    def others_share(self, workers: int) -> float:
        """Cores that everybody else took during the larger source's run."""
        return self.large[workers].others_cpu_s / self.large[workers].wall_s

    @property
    def quiet(self) -> bool:
        """Whether the round may be judged."""
        return max(self.others_share(1), self.others_share(2)) <= QUIET_CORES

    def baking_s(self, workers: int) -> float:
        """Wall seconds of a run, less those of one that bakes next to nothing.

        Less the small source's would flatter two workers: its few tasks cannot be shared out evenly.
        """
        return self.large[workers].wall_s - self.tiny[workers].wall_s


def quiet_of(rounds: list[Round]) -> list[Round]:
    """The rounds that may be judged."""
    return [one for one in rounds if one.quiet]


def run_round(bench: Bench) -> Round:
    """Every timed run once."""
    return Round(
        codec_s=bench.codec_cpu_s(),
        tiny={workers: bench.convert(bench.tiny, workers) for workers in (1, 2)},
        small=bench.convert(bench.small, 1),
        large={workers: bench.convert(bench.large, workers) for workers in (1, 2)},
        small_images=bench.small.images,
        large_images=bench.large.images,
    )


def run_memory(bench: Bench) -> dict[str, int]:
    """Peak PSS in bytes of each run. Made once: what else the machine does hardly moves a peak."""
    peaks = {}
    for workers in (1, 2):
        for source in (bench.small, bench.large):
            words = f"--workers {workers}, {source.images:,} images"
            peaks[words] = bench.convert(source, workers, sample_memory=True).peak_pss_bytes or 0
            print(f"memory  {words}  {peaks[words] / 1e6:,.0f} MB", file=sys.stderr, flush=True)
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

    def spread(self, rounds: list[Round]) -> Spread:
        """The number over the quiet rounds, or over all where none was quiet."""
        return Spread.of([self.value(one) for one in quiet_of(rounds) or rounds])

    def met(self, rounds: list[Round]) -> bool | None:
        """Whether the target is met by the quiet rounds; None without a target, or without such a round."""
        if not quiet_of(rounds) or not self.bound:
            return None
        return (self.at_least or 0.0) <= self.spread(rounds).median <= (self.at_most or float("inf"))

    @property
    def bound(self) -> str:
        """The target in words; empty without one."""
        if self.at_most is not None:
            return f"<= {self.at_most}"
        return f">= {self.at_least}" if self.at_least is not None else ""


FIGURES = (
    Figure("bare codec, CPU ms an image", lambda one: 1e3 * one.codec_s, ".3f"),
    Figure("convert, 1 worker, CPU ms an image", lambda one: 1e3 * one.convert_s, ".3f"),
    Figure("convert / bare codec, CPU time", lambda one: one.convert_s / one.codec_s, at_most=1.25),
    Figure("1 worker, images/s", lambda one: one.images_per_s(1), ",.0f"),
    Figure("2 workers, images/s", lambda one: one.images_per_s(2), ",.0f"),
    Figure("2 workers / 1, whole run", lambda one: one.images_per_s(2) / one.images_per_s(1), at_least=1.8),
    Figure("2 workers / 1, less start and end", lambda one: one.baking_s(1) / one.baking_s(2)),
    Figure("start and end, s", lambda one: one.tiny[2].wall_s),
    Figure("cores taken by others, 1 worker's run", lambda one: one.others_share(1)),
    Figure("cores taken by others, 2 workers' run", lambda one: one.others_share(2)),
)


def print_report(rounds: list[Round], peaks: dict[str, int]) -> None:
    """Both tables: figures with targets, and memory."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table("figure", title=f"conversion, {len(rounds)} rounds, {len(quiet_of(rounds))} of them quiet")
    for heading in ("median", "min - max", "target", "met"):
        table.add_column(heading, justify="right")
    for figure in FIGURES:
        met = MET[figure.met(rounds)] if figure.bound else ""
        table.add_row(figure.words, *figure.spread(rounds).text(figure.form), figure.bound, met)
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
        target = {"target": figure.bound, "met": figure.met(rounds)} if figure.bound else {}
        figures[figure.words] = {**asdict(figure.spread(rounds)), **target}
    runs = [{"quiet": one.quiet, **asdict(one)} for one in rounds]
    return {**header(), "settings": settings, "figures": figures, "peak_pss_bytes": peaks, "rounds": runs}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000, help="in the smaller source (default 5000)")
    parser.add_argument("--times", type=int, default=4, help="how much larger the other is (default 4)")
    parser.add_argument("--work", type=Path, default=ROOT / "build/bench-convert", help="folder for all files")
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
    small = sample(work, options.images)
    bench = Bench(work=work, tiny=sample(work, FEW), small=small, large=repeated(small, options.times))
    become_subreaper()
    os.sched_setaffinity(0, two_cores())  # all runs inherit it
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append(run_round(bench))
        ratio, quiet = rounds[-1].convert_s / rounds[-1].codec_s, "quiet" if rounds[-1].quiet else "disturbed"
        print(
            f"round {number}/{options.rounds}  convert / codec {ratio:.3f}, {quiet}",
            file=sys.stderr,
            flush=True,
        )
    peaks = run_memory(bench)
    shutil.rmtree(bench.work / "out")
    print_report(rounds, peaks)
    if options.json:
        settings = {key: getattr(options, key) for key in ("images", "times", "rounds")}
        write_json(options.json, document(rounds, peaks, settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
