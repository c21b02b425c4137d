"""What `info`, `verify` and `bench` print, in words and tables."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.table import Table

from wdsremux.errors import counted, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wdsremux.format.underway import Underway
    from wdsremux.inspection.info import ClassCount, SplitInfo
    from wdsremux.inspection.verify import Checked
    from wdsremux.loading.bench import Outcome

LISTED = 10  #: classes that are listed from either end of a long list


def info_text(split: SplitInfo, *, verbose: bool = False) -> str:
    """`wdsremux info` of one split, in words.

    Args:
        split: what is known of it.
        verbose: whether to list all classes, and the library versions that it was converted with.
    """
    recipe = f"{split.recipe['name']}, quality {split.options['quality']}, subsampling {split.options['subsampling']}"
    recipe += ", restart rows" if split.options.get("restart_rows") else ""
    recipe += ", fast" if split.options.get("fast") else ""
    lines = [
        f"split     {split.split}",
        f"source    {split.source['name']} ({split.source['kind']}), revision {split.source['revision'][:12]}",
        f"recipe    {recipe}, seed {split.seed}",
        f"samples   {split.nsamples:,} in {counted(split.nshards, 'shard')}, {split.size_bytes / 1e6:,.1f} MB",
        f"rejects   {split.nrejects:,}, and {split.ndropped:,} dropped by the recipe",
        *_mixing(split),
        *_classes(split, verbose),
    ]
    if verbose:
        versions = ", ".join(f"{name} {value}" for name, value in split.environment.items())
        lines.append(f"made with {versions}")
    return "\n".join(map(printable, lines))


def _mixing(split: SplitInfo) -> list[str]:
    if split.well_mixed is None:
        return []
    if split.well_mixed:
        return ["mixing    well shuffled: each shard has about the same share of each class as the whole split"]
    worst = split.worst_mixing or 1.0
    times = f"{worst:,.1f}" if worst < 10 else f"{worst:,.0f}"
    return [
        f'mixing    poorly shuffled: one shard has {times} times the average share of a class; use window="all" to '
        "train"
    ]


def _classes(split: SplitInfo, verbose: bool) -> list[str]:
    labels = [count for count in split.labels if count.label >= 0]
    if not labels:
        return ["labels    none"]
    unlabelled = sum(count.samples for count in split.labels if count.label < 0)
    missing = f", and {counted(unlabelled, 'sample')} without a label" if unlabelled else ""
    head = f"classes   {len(labels):,}{missing}"
    left_out = len(labels) - 2 * LISTED
    if verbose or left_out <= 1:
        return [head, *map(_class, labels)]
    between = f"          … {left_out:,} more; --json or --verbose lists them all"
    return [head, *map(_class, labels[:LISTED]), between, *map(_class, labels[-LISTED:])]


def _class(count: ClassCount) -> str:
    return f"  {count.label:>6}  {count.samples:>9,}  {count.name or ''}".rstrip()


def underway_text(split: Underway) -> str:
    """`wdsremux info` of a split that is not finished."""
    name = printable(split.split)
    return f"split     {name}\nstate     unfinished: {split}; run the same conversion again to resume"


def checked_text(checked: Checked) -> str:
    """What `wdsremux verify` has looked at."""
    files = f"{counted(checked.shards, 'shard')}, {counted(checked.files, 'file')}, {checked.size_bytes / 1e6:,.1f} MB"
    return f"{counted(checked.splits, 'split')}, {files} checked"


def outcomes_table(title: str, outcomes: Sequence[Outcome]) -> Table:
    """The table of `wdsremux bench`: no wider than 80 columns, and no word of it cut."""
    table = Table(title=printable(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("decoder", overflow="fold")
    table.add_column("pixels", no_wrap=True)
    for heading in ("images/s", "read", "decode", "copy", "first"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in outcomes:
        decoder, pixels = outcome.decoder or outcome.way.decoder, outcome.way.pixels
        if outcome.failure is not None:
            table.add_row(decoder, pixels, "-")
            continue
        shares = (f"{share:.0%}" for share in (outcome.read, outcome.decode, outcome.copy))
        table.add_row(decoder, pixels, f"{outcome.images_per_s:,.0f}", *shares, f"{outcome.first_s:.1f} s")
    return table


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Why some ways do not work here."""
    failed = (outcome for outcome in outcomes if outcome.failure is not None)
    return [printable(f"{outcome.way.decoder}, {outcome.way.pixels}: {outcome.failure}") for outcome in failed]


def outcomes_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {field.name: getattr(outcome, field.name) for field in dataclasses.fields(outcome)} | {"way": outcome.way.plain}
        for outcome in outcomes
    ]
