"""The command line: parse, call, exit code.

Exit codes: 0 done; 2 wrong by the command line alone; 1 whatever took a look at a file, the source or OUT; 130 Ctrl-C,
143 SIGTERM.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from wdsremux import __version__
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.errors import WdsremuxError, printable

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convert an image data set once into WebDataset shards, and train without a CPU bottleneck.",
)


def main() -> NoReturn:
    """The console script: errors become one sentence on stderr, and a traceback only with --debug."""
    _hold_standard_streams()
    try:
        app()
    except (WdsremuxError, OSError) as error:  # an OSError is what no module has met, such as stdout on a full disk
        if "--debug" in sys.argv:
            raise
        ours = isinstance(error, WdsremuxError)
        text = printable(str(error) if ours else f"stopped by the system: {error}").rstrip(".")
        with contextlib.suppress(OSError):  # stderr is gone: the exit code says it all the same
            typer.echo(f"wdsremux: {text}.", err=True)
        raise SystemExit(error.exit_code if isinstance(error, WdsremuxError) else 1) from None
    raise SystemExit(0)


def _hold_standard_streams() -> None:
    """Open what was closed by the caller: the next file would take its number, and get what libraries print to it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # by the workers, too
    os.close(descriptor)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wdsremux {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Options of the command as a whole."""


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A Hub id; a folder of parquet, Arrow, image or WebDataset tar files; or one such file, or a glob."
        ),
    ],
    out: Annotated[str, typer.Argument(help="The folder that gets a folder for the split.")],
    config: Annotated[str | None, typer.Option(help="Of a source that has several.")] = None,
    split: Annotated[str, typer.Option(help="The split of the source.")] = "train",
    revision: Annotated[str | None, typer.Option(help="Of a Hub id: a branch, tag or commit.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Where there are several.")] = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="The column with the label, where it is not found by itself; none: no labels."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Class names in the order of their numbers, with commas between, or a file of lines."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Columns to keep as JSON beside each image, with commas between, or given again."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="What is baked in: resize:N, square:N, copy, FILE.py:FUNC or pkg.mod:FUNC.")
    ] = "resize:256",
    recipe_version: Annotated[
        str | None, typer.Option(help="Of a recipe of your own; stands in for its source text.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Rows that a recipe of your own gets at once.")] = 64,
    quality: Annotated[int, typer.Option(help="Of the JPEGs, 1 to 100.")] = 90,
    subsampling: Annotated[str, typer.Option(help="Of their chroma: 420 or 444.")] = "420",
    restart_rows: Annotated[
        bool, typer.Option("--restart-rows", help="Let a loader on a CPU decode the rows of a crop only.")
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Resize a sixth quicker, 0.2 to 2 dB worse.")] = False,
    samples_per_shard: Annotated[int | None, typer.Option(help="2,000; fewer for a small source.")] = None,
    samples_per_task: Annotated[int | None, typer.Option(help="Rows that one worker mixes; 8,192.")] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle/--no-shuffle", help="Mix the rows of the source, or keep their order.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the mixing, and of a recipe's random transforms.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default.")] = None,
    engine: Annotated[str, typer.Option(help="Where tasks run: local or ray.")] = "local",
    max_rejects: Annotated[
        str,
        typer.Option(help="Rows that may fail: an integer, or a share such as 1% or 0.01, which allows at least 10."),
    ] = "1%",
    limit: Annotated[int | None, typer.Option(help="Convert so many rows only, from all over the source.")] = None,
    patience: Annotated[float, typer.Option(help="Seconds to meet faults of the network with another try.")] = 600,
    strict: Annotated[
        bool, typer.Option("--strict", help="Do not go on under other library versions, or from touched files.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew in place of an earlier conversion.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # main looks for it
) -> None:
    """Convert one split of SOURCE into OUT/SPLIT, or go on where an earlier run was stopped."""
    options = ConvertOptions(
        config=config,
        split=split,
        revision=revision,
        image_column=image_column,
        label_column=label_column,
        classes=classes,
        keep=keep,
        recipe=recipe,
        recipe_version=recipe_version,
        batch_size=batch_size,
        quality=quality,
        subsampling=subsampling,
        restart_rows=restart_rows,
        fast=fast,
        samples_per_shard=samples_per_shard,
        samples_per_task=samples_per_task,
        shuffle=shuffle,
        seed=seed,
        workers=workers,
        engine=engine,
        max_rejects=max_rejects,
        limit=limit,
        patience=patience,
        strict=strict,
        overwrite=overwrite,
    )
    from wdsremux import api
    from wdsremux.conversion.datasets_quirks import quiet
    from wdsremux.display import Display

    signal.signal(signal.SIGTERM, _terminated)
    with Display(f"{source} ({split})") as display, quiet():
        try:
            api.run(source, out, display.tell, options)
        except KeyboardInterrupt as stop:
            display.say("stopped; run the same command again to go on")
            raise typer.Exit(stop.args[0] if stop.args else 128 + signal.SIGINT) from None


def _terminated(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does: workers first, nothing left half-written."""
    raise KeyboardInterrupt(128 + number)


@app.command()
def verify(
    out: Annotated[Path, typer.Argument(help="A converted set.")],
    split: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image, too.")] = False,
) -> None:
    """Check every file of a converted set against its manifest; name each that is damaged, missing or extra."""
    from wdsremux import api

    damages = api.verify(out, split, decode=decode)
    for damage in damages:
        typer.echo(damage)
    if damages:
        typer.echo("Delete what is named, and run the same conversion again to rebuild it.", err=True)
        raise typer.Exit(1)
    typer.echo(printable(f"{out}{f' ({split})' if split else ''} is sound"))
    from wdsremux.format import class_list, manifest

    if split is None and (warning := class_list.disagreement(manifest.read_all(out))):
        typer.echo(printable(f"wdsremux: warning: {warning}."), err=True)


@app.command()
def bench(
    out: Annotated[Path, typer.Argument(help="A converted set.")],
    split: Annotated[str, typer.Option(help="Which of its splits.")] = "train",
    batch_size: Annotated[int, typer.Option(help="Samples of a batch.")] = 256,
    size: Annotated[int, typer.Option(help="Pixels a side of what is trained on.")] = 224,
    seconds: Annotated[float, typer.Option(help="How long each way is tried.")] = 5.0,
) -> None:
    """Read a converted set as a training would, in each way that works here; say how quick each is."""
    from wdsremux.display import print_outcomes
    from wdsremux.loading import bench as trials

    outcomes = [
        trials.measure(out, split, way, batch_size=batch_size, size=size, seconds=seconds) for way in trials.ways()
    ]
    print_outcomes(f"{out} ({split})", outcomes)
    for sentence in trials.advice(outcomes):
        typer.echo(sentence)


@app.command()
def info(
    out: Annotated[Path, typer.Argument(help="A converted set.")],
    as_json: Annotated[bool, typer.Option("--json", help="For other programs to read.")] = False,
) -> None:
    """Say what a converted set holds, where it came from, and how well its shards are mixed."""
    from wdsremux.display import info_text
    from wdsremux.format import class_list, manifest
    from wdsremux.inspection.info import describe

    manifests = manifest.read_all(out)
    if warning := class_list.disagreement(manifests):
        typer.echo(printable(f"wdsremux: warning: {warning}."), err=True)
    splits = [describe(out, split) for split in manifests]
    if as_json:
        typer.echo(json.dumps({split.split: dataclasses.asdict(split) for split in splits}, indent=1))
    else:
        typer.echo("\n\n".join(info_text(split) for split in splits))
