"""What benchmarks/bench_convert.py has found, held against its targets: tables and JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from bench_converters import PEERS
from bench_machine import MET, QUIET_CORES, Spread
from bench_tree import Usage

CODEC_LIMIT = 1.10  #: CPU time of `convert` with one worker, in that of the bare codec
PSS_LIMIT_BYTES = 1.0e9  #: with two workers
WORKERS_FACTOR = 1.8  #: that two workers are faster than one, whole commands
PEER_FACTOR = 2.0  #: that we are faster than a peer with Pillow, for one more image
PEER_WHOLE_FACTOR = 3.0  #: the same for the whole command, at 3,000 small photographs
FORUM_FACTORS = {("small", "wdsremux"): 9.0, ("large", "wdsremux"): 4.0, ("large", "wdsremux-fast"): 5.0}


@dataclass(frozen=True, slots=True)
class Run:
    """One converter in one round."""

    number: int  #: of the round, from 1
    whole: Usage  #: of all photographs
    few: Usage

    @property
    def quiet(self) -> bool:
        """Whether the figures may be judged."""
        return self.whole.others_cpu_s <= QUIET_CORES * self.whole.wall_s


@dataclass(slots=True)
class Results:
    """All that is found for photographs of one size."""

    words: str  #: pixels of the short side
    origin: str
    images: int
    few: int  #: images of the smaller set
    runs: dict[str, list[Run]]  #: of each converter, in the rounds that it took part in
    limits: dict[str, list[float]]  #: CPU seconds an image, in every round
    failures: dict[str, str] = field(default_factory=dict)
    psnr_db: dict[str, float] = field(default_factory=dict)
    peak_pss_bytes: dict[str, int] = field(default_factory=dict)
    bytes_an_image: dict[str, float] = field(default_factory=dict)
    repeated_pss_bytes: int | None = None  #: ours, from a source several times as large

    @classmethod
    def of(cls, words: str, origin: str, images: int, few: int, names: list[str], limits: Iterable[str]) -> Results:
        """Nothing found yet."""
        return cls(words, origin, images, few, {name: [] for name in names}, {name: [] for name in limits})

    def names(self) -> list[str]:
        """Converters that have not failed."""
        return list(self.runs)

    def fail(self, name: str, reason: str) -> None:
        """Forget a converter's runs, and remember why."""
        self.failures[name] = reason
        self.runs.pop(name, None)

    # Figures of one run.

    def images_per_s(self, run: Run) -> float:
        """Of the whole command."""
        return self.images / run.whole.wall_s

    def marginal_images_per_s(self, run: Run) -> float:
        """Of what all photographs take more than a few; infinite where noise makes that nothing."""
        more_s = run.whole.wall_s - run.few.wall_s
        return (self.images - self.few) / more_s if more_s > 0 else float("inf")

    def cpu_ms(self, run: Run) -> float:
        """That one more image costs."""
        return 1e3 * (run.whole.cpu_s - run.few.cpu_s) / (self.images - self.few)

    def whole_cpu_ms(self, run: Run) -> float:
        """Of the whole command, by image."""
        return 1e3 * run.whole.cpu_s / self.images

    # Figures over the rounds.

    def spread(self, name: str, value: Callable[[Run], float]) -> Spread:
        """Over a converter's quiet runs, or over all where none was quiet."""
        return Spread.of([value(run) for run in [run for run in self.runs[name] if run.quiet] or self.runs[name]])

    def figures(self, name: str) -> dict[str, Any]:
        """Everything about one converter, for the JSON."""
        spreads = {
            "images_per_s": self.images_per_s,
            "marginal_images_per_s": self.marginal_images_per_s,
            "cpu_ms": self.cpu_ms,
            "whole_cpu_ms": self.whole_cpu_ms,
        }
        return {
            **{key: asdict(self.spread(name, value)) for key, value in spreads.items()},
            "peak_pss_bytes": self.peak_pss_bytes.get(name),
            "bytes_an_image": self.bytes_an_image.get(name),
            "psnr_db": self.psnr_db.get(name),
            "quiet_rounds": sum(run.quiet for run in self.runs[name]),
            "rounds": [asdict(run) for run in self.runs[name]],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target beside what was measured; a ratio is taken round by round, where both saw the same machine."""

    size: str
    words: str
    found: Spread | None  #: over the quiet rounds; None if there were none
    quiet_rounds: int | None  #: None of what is measured once
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """None where no round can be judged."""
        if self.found is None:
            return None
        return (self.at_least or 0.0) <= self.found.median <= (self.at_most or float("inf"))

    @property
    def bound(self) -> str:
        """The target in words."""
        return f"<= {self.at_most:.2f}" if self.at_most is not None else f">= {self.at_least:.1f}"


def ratio(results: Results, ours: str, peer: str, value: Callable[[Run], float]) -> list[float]:
    """A figure of ours by that of a peer, of each round in which both ran in quiet."""
    by_round = {run.number: run for run in results.runs[ours] if run.quiet}
    pairs = [(by_round[its.number], its) for its in results.runs[peer] if its.quiet and its.number in by_round]
    return [value(our) / value(its) for our, its in pairs]


def judged(size: str, words: str, values: list[float], **bound: float) -> Verdict:
    """A verdict on what was measured in rounds."""
    found = Spread.of(values) if values else None
    return Verdict(size=size, words=words, found=found, quiet_rounds=len(values), **bound)


def own_verdicts(size: str, results: Results) -> Iterator[Verdict]:
    """On `convert` alone: its cost beside the codec, its second worker, its memory."""
    if "wdsremux-1" in results.runs:
        codec_s = results.limits["codec"]
        quiet = [run for run in results.runs["wdsremux-1"] if run.quiet]
        values = [results.cpu_ms(run) / (1e3 * codec_s[run.number - 1]) for run in quiet]
        yield judged(size, "convert, 1 worker / bare codec, CPU time", values, at_most=CODEC_LIMIT)
    if size == "small" and {"wdsremux", "wdsremux-1"} <= set(results.runs):
        values = ratio(results, "wdsremux", "wdsremux-1", results.images_per_s)
        yield judged(size, "convert, 2 workers / 1, whole command", values, at_least=WORKERS_FACTOR)
    for words, peak in (
        ("peak PSS with 2 workers, GB", results.peak_pss_bytes.get("wdsremux")),
        ("the same from the repeated source", results.repeated_pss_bytes),
    ):
        if peak is not None:
            found = Spread.of([peak / 1e9])
            yield Verdict(size=size, words=words, found=found, quiet_rounds=None, at_most=PSS_LIMIT_BYTES / 1e9)


def peer_factors(size: str, ours: str, peer: str) -> dict[str, float]:
    """How many times faster we are to be, by kind of figure; empty where there is no target."""
    if peer == "forum":
        factor = FORUM_FACTORS.get((size, ours))
        return {"whole": factor, "marginal": factor} if factor else {}
    if ours != "wdsremux":
        return {}
    if peer.endswith("+codec"):
        return {"whole": 1.0, "marginal": 1.0}
    return {"marginal": PEER_FACTOR, **({"whole": PEER_WHOLE_FACTOR} if size == "small" else {})}


def verdicts(size: str, results: Results) -> list[Verdict]:
    """Every target whose runs were made."""
    found = list(own_verdicts(size, results))
    values = {"whole": results.images_per_s, "marginal": results.marginal_images_per_s}
    for ours in ("wdsremux", "wdsremux-fast"):
        for peer in PEERS:
            if ours in results.runs and peer in results.runs:
                for kind, factor in peer_factors(size, ours, peer).items():
                    ratios = ratio(results, ours, peer, values[kind])
                    found.append(judged(size, f"{ours} / {peer}, images/s, {kind}", ratios, at_least=factor))
    return found


# Tables and JSON.


def print_report(all_results: dict[str, Results], left_out: dict[str, str]) -> None:
    """For each size a table of converters, what failed, and a table of targets."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 130)
    for size, results in all_results.items():
        console.print(converters_table(results))
        for name, values in results.limits.items():
            middle, ends = Spread.of([1e3 * value for value in values]).text(".2f")
            console.print(f"{name} alone, one thread: {middle} CPU ms an image ({ends})")
        for name, reason in {**results.failures, **left_out}.items():
            console.print(f"{name} failed: {reason}", markup=False)
        console.print(targets_table(size, results))


def converters_table(results: Results) -> Any:
    """Of a rich table: a row a converter."""
    from rich.table import Table

    table = Table("converter", title=f"{results.images:,} photographs of {results.words}: {results.origin}")
    for heading in ("images/s", "min - max", "one more", "CPU ms", "peak MB", "bytes", "PSNR dB", "quiet"):
        table.add_column(heading, justify="right")
    for name, runs in results.runs.items():
        table.add_row(
            name,
            *results.spread(name, results.images_per_s).text(",.0f"),
            results.spread(name, results.marginal_images_per_s).text(",.0f")[0],
            results.spread(name, results.cpu_ms).text(".2f")[0],
            f"{results.peak_pss_bytes.get(name, 0) / 1e6:,.0f}",
            f"{results.bytes_an_image.get(name, 0):,.0f}",
            f"{results.psnr_db.get(name, 0):.2f}",
            f"{sum(run.quiet for run in runs)}/{len(runs)}",
        )
    table.caption = "one more: images/s, and CPU ms an image, without what is paid once"
    return table


def targets_table(size: str, results: Results) -> Any:
    """Of a rich table: a row a target."""
    from rich.table import Table

    table = Table("target", title=f"targets, {results.words}")
    for heading in ("bound", "median", "min - max", "quiet rounds", "met"):
        table.add_column(heading, justify="right")
    for verdict in verdicts(size, results):
        middle, ends = verdict.found.text(".2f") if verdict.found else ("", "")
        rounds = "" if verdict.quiet_rounds is None else str(verdict.quiet_rounds)
        table.add_row(verdict.words, verdict.bound, middle, ends, rounds, MET[verdict.met])
    return table


def document(all_results: dict[str, Results], left_out: dict[str, str]) -> dict[str, Any]:
    """Everything, for --json."""
    sizes, targets = {}, []
    for size, results in all_results.items():
        limits = {
            name: {"cpu_ms": asdict(Spread.of([1e3 * value for value in values]))}
            for name, values in results.limits.items()
        }
        sizes[size] = {
            "short_side_px": results.words,
            "origin": results.origin,
            "images": results.images,
            "few_images": results.few,
            "converters": {name: results.figures(name) for name in results.runs},
            "limits": limits,
            "failures": {**results.failures, **left_out},
            "repeated_peak_pss_bytes": results.repeated_pss_bytes,
        }
        for verdict in verdicts(size, results):
            targets.append({**asdict(verdict), "bound": verdict.bound, "met": verdict.met})
    return {"sizes": sizes, "targets": targets}
