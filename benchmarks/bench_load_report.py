"""What bench_load.py prints: its targets beside what was measured, and the tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench_contenders import CONTENDERS, LEFT_OUT
from bench_load_child import Timing
from bench_machine import CORES, MET, QUIET_CORES, Spread

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contender in one round."""

    timing: Timing
    others: float  #: cores that everybody else took meanwhile

    @property
    def quiet(self) -> bool:
        """Whether the figure may be compared."""
        return self.others <= QUIET_CORES


Runs = dict[str, list[Run]]  #: by contender, a run a round


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that was measured."""

    warm: Runs  #: the rounds, everything in the page cache
    cold: Runs  #: files dropped from the page cache before each run
    store: Runs  #: from a store 20 ms away, 50 MB/s a connection
    large: Runs  #: with --large-source
    peak_pss_bytes: dict[str, int]  #: of all processes of a contender, in a run of its own
    failures: dict[str, str]  #: by contender, with "cold: " and the like before its name


@dataclass(frozen=True, slots=True)
class Figure:
    """A column of the table: what it is called, where it stands in a run, and how it is written."""

    name: str
    heading: str
    of: Callable[[Timing], float | None]
    form: str


FIGURES = (
    Figure("images_per_s", "images/s", lambda timing: timing.images_per_s, ",.0f"),
    Figure("first_epoch_images_per_s", "first epoch", lambda timing: timing.first_epoch_images_per_s, ",.0f"),
    Figure("first_batch_s", "first batch, s", lambda timing: timing.first_batch_s, ".2f"),
    Figure("import_s", "import, s", lambda timing: timing.import_s, ".2f"),
    Figure(
        "start_s", "import to batch, s", lambda timing: timing.import_s + timing.torch_s + timing.first_batch_s, ".2f"
    ),
)
BY_NAME = {figure.name: figure for figure in FIGURES}


@dataclass(frozen=True, slots=True)
class Target:
    """`ours` is to be at least `factor` times as good as `peer` in a figure; without a peer, at most `factor`."""

    ours: str
    peer: str | None
    factor: float
    figure: str = "images_per_s"
    section: str = "warm"

    @property
    def text(self) -> str:
        """As the table names it."""
        place = "" if self.section == "warm" else f"{self.section}: "
        if self.peer is None:
            return f"{place}{self.ours}, {self.figure}"
        return f"{place}{self.ours} / {self.peer}" + ("" if self.figure == "images_per_s" else f", {self.figure}")


#: Peers on the converted data that have no target of their own.
OTHERS = [
    name
    for name, contender in CONTENDERS.items()
    if contender.peer and contender.form != "arrow" and "dali" not in name and name != "peer-webdataset-v2"
]
PEERS = [name for name, contender in CONTENDERS.items() if contender.peer]

TARGETS = (
    Target("auto-float", "peer-webdataset-v2", 2.8),
    Target("auto-float-cl", "peer-webdataset-v2", 3.2),
    Target("auto-uint8-cl", "peer-webdataset-v2", 4.0),
    Target("auto-float", "peer-dali-float", 1.6),
    Target("auto-float-cl", "peer-dali-float-cl", 1.6),
    Target("dali-float", "peer-dali-float", 1.0),
    Target("dali-float-cl", "peer-dali-float-cl", 1.0),
    *(Target("auto-float-cl", peer, 2.5) for peer in OTHERS),
    Target("auto-float-cl", "peer-datasets-source", 5.0),
    Target("auto-float-cl", "peer-datasets-source", 25.0, section="large"),
    *(Target("auto-float-cl", peer, 1.0, "first_batch_s") for peer in PEERS),
    Target("auto-float-cl", None, 1.5, "first_batch_s"),
    Target("auto-float-cl", None, 0.2, "import_s"),
    *(Target("auto-float-cl", peer, 2.0, "peak_pss_bytes") for peer in PEERS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target beside what was measured; ratios are taken round by round, where both saw the same machine."""

    target: Target
    quiet_rounds: int
    found: Spread | None  #: over the quiet rounds; None if there were none
    met: bool | None


def verdicts(results: Results) -> list[Verdict]:
    """Every target whose contenders were run."""
    found = []
    for target in TARGETS:
        values = found_for(target, results)
        if values is None:
            continue
        spread = Spread.of(values) if values else None
        met = None
        if spread:
            met = spread.median >= target.factor if target.peer else spread.median <= target.factor
        found.append(Verdict(target=target, quiet_rounds=len(values), found=spread, met=met))
    return found


def found_for(target: Target, results: Results) -> list[float] | None:
    """A value a quiet round; None if a contender was not run."""
    names = [target.ours, target.peer or target.ours]
    if target.figure == "peak_pss_bytes":
        peaks = results.peak_pss_bytes
        return [peaks[names[1]] / peaks[names[0]]] if all(name in peaks for name in names) else None
    runs: Runs = getattr(results, target.section)
    if any(name not in runs for name in names):
        return None
    values = []
    for own, peer in zip(runs[names[0]], runs[names[1]], strict=False):
        a, b = BY_NAME[target.figure].of(own.timing), BY_NAME[target.figure].of(peer.timing)
        if own.quiet and peer.quiet and a and b:
            more_is_better = target.figure.endswith("per_s")
            values.append(a if target.peer is None else a / b if more_is_better else b / a)
    return values


def spreads(runs: list[Run]) -> dict[str, Spread]:
    """Of each figure that the runs have."""
    found = {}
    for figure in FIGURES:
        values = [value for run in runs if (value := figure.of(run.timing)) is not None]
        if values:
            found[figure.name] = Spread.of(values)
    return found


def print_report(results: Results) -> None:
    """All tables: a section each, and the targets."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    for title, runs in (
        (f"images/s on {CORES} cores", results.warm),
        ("from a cold page cache", results.cold),
        ("from a store: 20 ms a request, 50 MB/s a connection", results.store),
        ("large photos", results.large),
    ):
        if runs:
            print_runs(console, title, runs, results.peak_pss_bytes if runs is results.warm else {})
    for name, reason in results.failures.items():
        console.print(f"{name} failed: {reason}", markup=False)
    for name, reason in LEFT_OUT.items():
        console.print(f"{name} left out: {reason}", markup=False)
    print_targets(console, verdicts(results))


def print_runs(console: Console, title: str, runs: Runs, peaks: dict[str, int]) -> None:
    """A line a contender; columns are what its runs have."""
    from rich.table import Table

    found = {name: spreads(done) for name, done in runs.items()}
    figures = [figure for figure in FIGURES if all(figure.name in has for has in found.values())]
    table = Table("contender", title=title)
    for figure in figures:
        table.add_column(figure.heading, justify="right")
    for heading in [*(["peak MB"] if peaks else []), "others, cores"]:
        table.add_column(heading, justify="right")
    for name, done in runs.items():
        cells = [_cell(figure, found[name][figure.name]) for figure in figures]
        peak = [f"{peaks[name] / 1e6:,.0f}" if name in peaks else ""] if peaks else []
        table.add_row(name, *cells, *peak, f"{max(run.others for run in done):.2f}")
    console.print(table)


def _cell(figure: Figure, values: Spread) -> str:
    """The median; of rates the ends too."""
    middle, ends = values.text(figure.form)
    return f"{middle}  ({ends})" if figure.name.endswith("per_s") else middle


def print_targets(console: Console, found: Iterable[Verdict]) -> None:
    """A line a target."""
    from rich.table import Table

    table = Table("target", title="ratios, and limits")
    for heading in ("wanted", "median", "min - max", "quiet rounds", "met"):
        table.add_column(heading, justify="right")
    for verdict in found:
        target = verdict.target
        middle, ends = verdict.found.text(".2f") if verdict.found else ("", "")
        wanted = f"{'>=' if target.peer else '<='} {target.factor:.1f}"
        table.add_row(target.text, wanted, middle, ends, str(verdict.quiet_rounds), MET[verdict.met])
    if table.row_count:
        console.print(table)


def document(results: Results) -> dict[str, Any]:
    """What goes into the JSON, but for its header."""
    warm = {name: {**entry, "peak_pss_bytes": results.peak_pss_bytes.get(name)} for name, entry in rows(results.warm)}
    return {
        "contenders": warm,
        **{section: dict(rows(getattr(results, section))) for section in ("cold", "store", "large")},
        "failures": results.failures,
        "left_out": LEFT_OUT,
        "targets": [asdict(verdict) for verdict in verdicts(results)],
    }


def rows(runs: Runs) -> list[tuple[str, dict[str, Any]]]:
    """Spreads and rounds of each contender."""
    return [
        (
            name,
            {**{key: asdict(value) for key, value in spreads(done).items()}, "rounds": [asdict(run) for run in done]},
        )
        for name, done in runs.items()
    ]
