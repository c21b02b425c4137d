"""A plan as people and programs read it."""

from __future__ import annotations

import dataclasses
import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from wdsremux.errors import counted, printable
from wdsremux.forecast.findings import Advice, Costs, Looked, Outlook
from wdsremux.forecast.interval import Interval
from wdsremux.forecast.wording import brief, bytes_text, count_text, psnr_text, rounded, time_text
from wdsremux.html_table import html_table

_COLUMNS = 80  #: of a report
_REASONS = 3  #: of rejects that are listed


@dataclass(frozen=True, slots=True, repr=False)
class Forecast:
    """What a conversion would cost and what it would give. Printing it shows the report of `wdsremux plan`."""

    costs: Costs
    advice: Advice

    def __repr__(self) -> str:
        return f"wdsremux.Forecast({', '.join(f'{name} {value}' for name, value in self._about().items())})"

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return html_table("wdsremux.Forecast", self._about())

    def _about(self) -> dict[str, str]:
        asked = self.costs.expected[0]
        return {
            "source": self.costs.looked.name,
            "recipe": asked.name,
            "size": bytes_text(asked.size_bytes),
            "time": time_text(asked.seconds),
            "choice": self.advice.choice,
        }

    def json(self) -> dict[str, Any]:
        """Plain values, as `wdsremux plan --json` prints them: what is asked for, its alternatives, the source."""
        first, *others = self.costs.expected
        return {
            **_expected_json(first),
            "alternatives": [_expected_json(each) for each in others],
            "source": _plain(dataclasses.asdict(self.costs.looked)),
            "today": None if self.costs.today is None else _plain(dataclasses.asdict(self.costs.today)),
            "network_images_per_s": self.costs.network_images_per_s,
            "training_image_size": self.costs.size,
            **dataclasses.asdict(self.costs.asked),
            "advice": dataclasses.asdict(self.advice),
        }


def _expected_json(expected: Outlook) -> dict[str, Any]:
    hours = expected.seconds.map(lambda value: value / 3600)
    return _plain(
        {
            "name": expected.name,
            "options": dict(expected.changes),
            "samples": expected.samples,
            "rejects": expected.rejects,
            "reasons": dict(expected.reasons),
            "size_bytes": expected.size_bytes,
            "hours": hours,
            "loader_images_per_s": expected.loader_images_per_s,
            "decoder": expected.decoder,
            "psnr_db": expected.psnr_db,
        }
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """An estimate as its value, and beside it NAME_interval: [low, high]."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and set(value) == {"value", "low", "high"}:
            value = Interval(**value)
        if not isinstance(value, Interval):
            found[name] = list(value) if isinstance(value, tuple) else value
            continue
        edges = [edge if math.isfinite(edge) else None for edge in (value.low, value.high)]
        found[name], found[f"{name}_interval"] = value.value, edges
    return found


def text(forecast: Forecast) -> str:
    """The report of `wdsremux plan`."""
    costs = forecast.costs
    lines = [*_source_lines(costs.looked), *_reject_lines(costs.expected[0], costs.looked), ""]
    file = io.StringIO()
    Console(file=file, width=_COLUMNS, color_system=None).print(_table(costs.expected, forecast.advice.choice))
    cautions = [f"warning: {each}" for each in costs.looked.warnings] + list(costs.looked.notes)
    table = [line.rstrip() for line in file.getvalue().splitlines()]
    said = [_wrapped(printable(each)) for each in (*forecast.advice.sentences, *cautions)]
    return "\n".join([*(_wrapped(printable(line), " " * 10) for line in lines), *table, "", *said])


def _wrapped(line: str, indent: str = "") -> str:
    return textwrap.fill(line, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _source_lines(looked: Looked) -> list[str]:
    size = f", {bytes_text(looked.size_bytes)}" if looked.size_bytes else ""
    how = f", told apart by {looked.splits_how}" if looked.splits_how and len(looked.splits) > 1 else ""
    formats = ", ".join(f"{kind} {share:.0%}" for kind, share in looked.formats.items())
    (low_w, mid_w, high_w), (low_h, mid_h, high_h) = looked.width, looked.height
    return [
        f"source    {looked.name}, split {looked.split}: {count_text(looked.rows)} rows in "
        f"{counted(looked.fragments, 'fragment')}{size}",
        f"looked at {counted(looked.rows_looked_at, 'row')} from {counted(looked.places, 'place')}, "
        f"{bytes_text(looked.bytes_looked_at)}",
        f"splits    {', '.join(looked.splits)}{how}",
        f"image     column {looked.image_column!r}: {looked.image_how}",
        _label_line(looked),
        f"formats   {formats}",
        f"pixels    {low_w} to {high_w} wide, {low_h} to {high_h} high, {mid_w} x {mid_h} in the middle; "
        f"{bytes_text(looked.image_bytes)} per image",
    ]


def _label_line(looked: Looked) -> str:
    if looked.label_column is None:
        return f"label     none: {looked.label_how}"
    known = looked.classes
    classes = counted(known, "class", "classes") if known is not None else ""
    seen = f"{looked.classes_seen:,} of them seen" if known is not None else f"{looked.classes_seen:,} values seen"
    without = f"; about {count_text(looked.unlabelled)} without a label" if looked.unlabelled.value else ""
    line = ", ".join(filter(None, (classes, seen)))
    return f"label     column {looked.label_column!r}: {looked.label_how}; {line}{without}"


def _reject_lines(asked: Outlook, looked: Looked) -> list[str]:
    if not asked.rejects.value:
        most = f"none seen, {asked.rejects.high:,.0f} at most" if asked.rejects.high >= 1 else "none"
        return [f"rejects   {most}"]
    common = sorted(asked.reasons.items(), key=lambda item: -item[1])[:_REASONS]
    return [f"rejects   about {count_text(asked.rejects)}: {'; '.join(reason for reason, _ in common)}"]


def _table(expected: Sequence[Outlook], chosen: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "on the disk", "conversion", "loader, images/s", "JPEG step"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for each in expected:
        mark = " *" if each.name == chosen else ""
        table.add_row(
            printable(each.name) + mark,
            brief(bytes_text, each.size_bytes),
            brief(time_text, each.seconds),
            brief(rounded, each.loader_images_per_s),
            psnr_text(each.psnr_db),
        )
    return table
