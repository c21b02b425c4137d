"""What a person sees of a conversion: a line that moves on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wdsremux.conversion import events
from wdsremux.errors import counted, printable
from wdsremux.format import underway
from wdsremux.format.class_list import is_labelled
from wdsremux.terminal import MovingLine, can_draw, clock, console_on_stderr, is_watched, percent

if TYPE_CHECKING:
    from rich.console import Console

    from wdsremux.format.manifest import Manifest

_LOGGER = logging.getLogger("wdsremux")
LINE_EVERY_S = 10.0  #: between two plain lines where there is no terminal


class Display:
    """Draws the events of one conversion. Use as a context manager; `tell` takes the events."""

    def __init__(
        self,
        title: str,
        console: Console | None = None,
        *,
        show: bool | None = True,
        verbose: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            title: of the conversion.
            console: where to draw; None: stderr.
            show: whether progress is shown, by a moving line where there can be one and by plain lines elsewhere; None:
                only if somebody watches, on a terminal or in a notebook. The logger gets all lines in any case.
            verbose: whether plan, engine and environment are shown, too.
            warn: called with each warning; None: they are printed, whatever is shown beside them.
        """
        console = console or console_on_stderr()
        self._shows = is_watched(console) if show is None else show
        self._verbose, self._warn = verbose, warn
        self._title = printable(title)
        self.drawn = self._shows and can_draw(console)  #: whether there is a moving line to look at
        self._line = MovingLine(title, console, drawn=self.drawn)
        self._line.facts = ("reading the source",)
        self._began_s = self._spoke_s = time.monotonic()
        self._rows = self._rows_before = 0
        self._images = self._rejects = self._bytes_in = self._bytes_out = 0
        self._total: int | None = 0  #: rows; None where nobody knows

    def __enter__(self) -> Self:
        self._line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """One line, above the one that moves if there is one."""
        _LOGGER.info(printable(text))
        if self._shows:
            self._print(text)

    def _detail(self, text: str) -> None:
        """A line that most people do not want to see."""
        _LOGGER.debug(printable(text))
        if self._shows and self._verbose:
            self._print(text)

    def _print(self, text: str) -> None:
        self._line.console.print(f"wdsremux: {printable(text)}", markup=False, soft_wrap=True)

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
        self._rows = self._rows_before = event.rows_done
        self._total = event.plan.rows
        shards = sum(len(task.shards) for task in event.plan.tasks)
        done = f", {event.rows_done:,} of them converted by an earlier run" if event.rows_done else ""
        tasks = counted(len(event.plan.tasks), "task")
        rows = "an unknown number of rows" if self._total is None else counted(self._total, "row")
        upto = "" if self._total is not None else "up to "
        self.say(f"{self._title}: {rows} in {tasks} for {upto}{counted(shards, 'shard')}{done}")
        for text in _details(event):
            self._detail(text)
        self._draw()

    def _add(self, event: events.Progress) -> None:
        self._rows += event.rows
        self._images += event.samples
        self._rejects += event.nrejects
        self._bytes_in += event.bytes_in
        self._bytes_out += event.bytes_out
        self._draw()
        now_s = time.monotonic()
        if not self.drawn and now_s - self._spoke_s >= LINE_EVERY_S:
            self._spoke_s = now_s
            rows = (
                counted(self._rows, "row")
                if self._total is None
                else f"{self._rows:,} of {counted(self._total, 'row')}"
            )
            left = f", {left} left" if (left := self._left()) else ""
            rates = ", ".join((self._rate(), *self._more()))
            self.say(f"{self._title}: {rows}, {rates}{left}")

    def _draw(self) -> None:
        fraction = None if self._total is None else self._rows / max(self._total, 1)
        share = () if fraction is None else (percent(fraction),)
        left = (f"{left} left",) if (left := self._left()) else ()
        self._line.fraction = fraction
        self._line.facts = (*share, self._rate() if self._images else "starting", *left)
        self._line.extras = self._more()

    def _seconds(self) -> float:
        return max(time.monotonic() - self._began_s, 1e-3)

    def _rate(self) -> str:
        """Of this run, not of the one that it resumes."""
        return f"{self._images / self._seconds():,.0f} images/s"

    def _more(self) -> tuple[str, str, str]:
        into, out = (count / self._seconds() / 1e6 for count in (self._bytes_in, self._bytes_out))
        return counted(self._rejects, "reject"), f"{into:,.1f} MB/s in", f"{out:,.1f} MB/s out"

    def _left(self) -> str:
        """The time that the rest will take; empty where that cannot be told."""
        rate = (self._rows - self._rows_before) / self._seconds()
        return clock((self._total - self._rows) / rate) if rate > 0 and self._total is not None else ""

    def _finish(self, event: events.Finished) -> None:
        result = event.manifest
        if event.already:
            about = f"already converted, {_size(result)}{_labels(event)}"
            about += f"; see {event.folder}"
            self.say(f"{self._title}: {about}")
            return
        size = sum(shard.size_bytes for shard in result.shards)
        before = f"{event.bytes_source / 1e6:,.1f} MB before, " if event.bytes_source else ""
        dropped = f", {result.ndropped:,} dropped by the recipe" if result.ndropped else ""
        self.say(
            f"{self._title}: {_size(result)}, "
            f"{before}{size / 1e6:,.1f} MB after, "
            f"{self._images / self._seconds():,.0f} images/s, "
            f"{counted(result.nrejects, 'reject')}{dropped}{_labels(event)}; see {event.folder}"
        )


def _size(result: Manifest) -> str:
    return f"{counted(result.nsamples, 'image')} in {counted(len(result.shards), 'shard')}"


def _labels(event: events.Finished) -> str:
    """What the summary says of labels that there are not."""
    if not is_labelled(event.manifest):
        return ", labels: none"
    if not event.unlabelled:
        return ""
    if event.unlabelled == event.manifest.nsamples:
        return ", labels: none (every label is null)"
    return f", {counted(event.unlabelled, 'image')} without a label"


def _details(event: events.Planned) -> list[str]:
    """What `--verbose` adds: how work is dealt out, where it runs, and with which libraries."""
    versions = ", ".join(f"{name} {value}" for name, value in event.environment.items())
    plan, workers = event.plan, counted(event.workers, "worker")
    size = f", {event.bytes_source / 1e6:,.1f} MB in the source" if event.bytes_source else ""
    rows, samples = counted(plan.samples_per_task, "row"), counted(plan.samples_per_shard, "sample")
    return [
        f"plan: up to {rows} per task, up to {samples} per shard{size}",
        f"engine: {event.engine}, {workers}",
        f"environment: {versions}",
    ]


def stopped_text(folder: Path, *, overwrite: bool = False) -> str:
    """What to say after Ctrl-C: how much is kept, and how to resume.

    Args:
        folder: OUT/SPLIT.
        overwrite: whether the run began with --overwrite, which would remove what is kept.
    """
    again = f"Run the same command again{' without --overwrite' if overwrite else ''} to resume"
    begun = underway.read(folder)
    if begun is None:
        return "Stopped. Run the same command again to resume."
    if not begun.rows_done:
        return "Stopped before the first task was finished; no rows are kept. Run the same command again to start over."
    rows = (
        counted(begun.rows_done, "row")
        if begun.rows is None
        else f"{begun.rows_done:,} of {counted(begun.rows, 'row')}"
    )
    return f"Stopped; {rows} {'is' if begun.rows_done == 1 else 'are'} kept. {again}."
