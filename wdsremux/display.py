"""What a person sees: a bar on a terminal or in a notebook, plain lines elsewhere, a summary, and `info` in words."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from wdsremux.conversion import events
from wdsremux.errors import printable
from wdsremux.format.class_list import is_labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wdsremux.inspection.info import SplitInfo
    from wdsremux.loading.bench import Outcome

_LOGGER = logging.getLogger("wdsremux")
LINE_EVERY_S = 10.0  #: between two plain lines where there is no terminal


class _Rates(ProgressColumn):
    """Images a second, MB a second in and out, and rejects: of this run, not of the one it goes on from."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["rates"]))


class _Unbreakable:
    """A stream that is written to as long as it lasts: a conversion of hours does not end with who watches it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a pipe without a reader, a full disk; closed
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _console() -> Console:
    """That of stderr; None stands there where it was closed."""
    lasting = sys.stderr and cast("IO[str]", _Unbreakable(sys.stderr))
    return Console(file=lasting, stderr=True, highlight=False)


class Display:
    """Draws the events of one conversion. Use as a context manager; `tell` takes the events."""

    def __init__(
        self,
        title: str,
        console: Console | None = None,
        *,
        always: bool = True,
        bar: bool = True,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            title: of the conversion.
            console: where to draw; None: stderr.
            bar: whether there may be one, on a terminal or in a notebook.
            always: whether lines are printed where nothing is drawn; they go to the logger in any case.
            warn: what takes warnings; None: they are lines like others.
        """
        self._always, self._warn = always, warn
        self.console = console or _console()
        title = printable(title)
        columns = (TextColumn(title, markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), _Rates())
        self.drawn = bar and (self.console.is_terminal or self.console.is_jupyter)  #: whether there is a bar to look at
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self.console, disable=not self.drawn)
        self._title = title
        self._row = self._bar.add_task(title, total=None, rates="reading the source")
        self._began_s = self._spoke_s = time.monotonic()
        self._rows = self._images = self._rejects = self._bytes_in = self._bytes_out = 0
        self._total: int | None = 0  #: rows; None where nobody knows

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line, above the bar if there is one."""
        _LOGGER.info(printable(text))
        self._print(text)

    def _print(self, text: str) -> None:
        if self.drawn or self._always:
            self.console.print(f"wdsremux: {printable(text)}", markup=False, soft_wrap=True)

    def _caution(self, text: str) -> None:
        _LOGGER.warning(printable(text))
        if self._warn is None:
            self._print(f"warning: {text}")
        else:
            self._warn(text)

    def tell(self, event: events.Event) -> None:
        """Draw what happened."""
        match event:
            case events.Planned():
                self._plan(event)
            case events.Progress():
                self._add(event)
            case events.Warned():
                self._caution(event.text)
            case events.Noted():
                self.say(event.text)
            case events.Finished():
                self._finish(event)

    def _plan(self, event: events.Planned) -> None:
        self._began_s = self._spoke_s = time.monotonic()
        self._rows, self._total = event.rows_done, event.plan.rows
        self._bar.update(self._row, total=event.plan.rows, completed=event.rows_done, rates="starting")
        shards = sum(block.shards for task in event.plan.tasks for block in task.blocks)
        done = f", {event.rows_done:,} of them done by an earlier run" if event.rows_done else ""
        tasks = f"{len(event.plan.tasks)} task{'s' if len(event.plan.tasks) > 1 else ''}"
        rows = "an unknown number of" if self._total is None else f"{self._total:,}"
        upto = "" if self._total is not None else "up to "
        self.say(f"{self._title}: {rows} rows in {tasks} for {upto}{shards:,} shards{done}")

    def _add(self, event: events.Progress) -> None:
        self._rows += event.rows
        self._images += event.samples
        self._rejects += event.nrejects
        self._bytes_in += event.bytes_in
        self._bytes_out += event.bytes_out
        self._bar.update(self._row, completed=self._rows, rates=self._rates())
        now_s = time.monotonic()
        if not self.drawn and now_s - self._spoke_s >= LINE_EVERY_S:
            self._spoke_s = now_s
            of = "" if self._total is None else f" of {self._total:,}"
            self.say(f"{self._title}: {self._rows:,}{of} rows, {self._rates()}, {self._left_s()} left")

    def _seconds(self) -> float:
        return max(time.monotonic() - self._began_s, 1e-3)

    def _rates(self) -> str:
        seconds = self._seconds()
        megabytes = f"{self._bytes_in / seconds / 1e6:,.1f} MB/s in, {self._bytes_out / seconds / 1e6:,.1f} out"
        return f"{self._images / seconds:,.0f} images/s, {megabytes}, {self._rejects} rejects"

    def _left_s(self) -> str:
        rate = self._images / self._seconds()
        return f"{(self._total - self._rows) / rate:,.0f} s" if rate and self._total is not None else "unknown"

    def _finish(self, event: events.Finished) -> None:
        result = event.manifest
        if event.already:
            about = f"already converted, {result.nsamples:,} images in {len(result.shards)} shards{_labels(event)}"
            about += f"; see {event.folder}"
            self.say(f"{self._title}: {about}")
            return
        size = sum(shard.size_bytes for shard in result.shards)
        self._bar.update(self._row, completed=self._total)
        before = f"{event.bytes_source / 1e6:,.1f} MB before, " if event.bytes_source else ""
        dropped = f", {result.ndropped:,} dropped by the recipe" if result.ndropped else ""
        self.say(
            f"{self._title}: {result.nsamples:,} images in {len(result.shards)} shards, "
            f"{before}{size / 1e6:,.1f} MB after, "
            f"{self._images / self._seconds():,.0f} images/s, {result.nrejects} rejects{dropped}{_labels(event)}; "
            f"see {event.folder}"
        )


def _labels(event: events.Finished) -> str:
    """What the summary says of labels that there are not."""
    if not is_labelled(event.manifest):
        return ", labels: none"
    if not event.unlabelled:
        return ""
    if event.unlabelled == event.manifest.nsamples:
        return ", labels: none (every label is null)"
    return f", {event.unlabelled:,} images without a label"


def info_text(split: SplitInfo) -> str:
    """`wdsremux info` of one split, in words."""
    recipe = f"{split.recipe['name']}, quality {split.options['quality']}, subsampling {split.options['subsampling']}"
    recipe += ", restart rows" if split.options.get("restart_rows") else ""
    recipe += ", fast" if split.options.get("fast") else ""
    lines = [
        f"split     {split.split}",
        f"source    {split.source['name']} ({split.source['kind']}), revision {split.source['revision'][:12]}",
        f"recipe    {recipe}, seed {split.seed}",
        f"samples   {split.nsamples:,} in {split.nshards} shards, {split.size_bytes / 1e6:,.1f} MB",
        f"rejects   {split.nrejects:,}, and {split.ndropped:,} dropped by the recipe",
    ]
    if split.worst_mixing is not None:
        lines.append(f"mixing    no class has more than {split.worst_mixing:.2f} times its share in any shard")
    labels = [count for count in split.labels if count.label >= 0]
    unlabelled = sum(count.samples for count in split.labels if count.label < 0)
    if not labels:
        lines.append("labels    none")
    else:
        missing = f", and {unlabelled:,} samples without a label" if unlabelled else ""
        lines.append(f"classes   {len(labels)}{missing}")
        lines += [f"  {count.label:>6}  {count.samples:>9,}  {count.name or ''}".rstrip() for count in labels]
    return "\n".join(map(printable, lines))


def print_outcomes(title: str, outcomes: Sequence[Outcome]) -> None:
    """A table of `wdsremux bench`, on stdout."""
    table = Table("decoder", "pixels", title=printable(title), title_justify="left")
    for heading in ("images/s", "read", "decode", "copy", "first batch"):
        table.add_column(heading, justify="right")
    failures = []
    for outcome in outcomes:
        way = outcome.way
        form = f"{way.dtype} {way.memory_format}".replace("torch.", "")
        if outcome.failure is not None:
            table.add_row(way.decoder, form, "-")
            failures.append(f"{way.decoder}, {form}: {outcome.failure}")
            continue
        shares = (f"{share:.0%}" for share in (outcome.read, outcome.decode, outcome.copy))
        speed, first = f"{outcome.images_per_s:,.0f}", f"{outcome.first_s:.1f} s"
        table.add_row(outcome.decoder or way.decoder, form, speed, *shares, first)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    for failure in failures:
        console.print(printable(failure), markup=False)
