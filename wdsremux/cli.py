"""The command line: parse, call, exit code.

Exit codes: 0 done; 2 wrong by the command line alone; 1 whatever took a look at a file, the source or OUT; 130 Ctrl-C.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from wdsremux import __version__
from wdsremux.errors import WdsremuxError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convert an image data set once into WebDataset shards, and train without a CPU bottleneck.",
)


def main() -> NoReturn:
    """The console script: errors of ours become one sentence on stderr, and a traceback only with --debug."""
    try:
        app()
    except WdsremuxError as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"wdsremux: {str(error).rstrip('.')}.", err=True)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)


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
        str, typer.Argument(help="A folder of parquet files, laid out as on the Hub, or a glob of them.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder that gets a folder for the split.")],
    split: Annotated[str, typer.Option(help="The split of the source.")] = "train",
    image_column: Annotated[str | None, typer.Option(help="Where there are several.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Where it is not found by itself.")] = None,
    recipe: Annotated[str, typer.Option(help="What is baked in: resize:N, square:N or copy.")] = "resize:256",
    quality: Annotated[int, typer.Option(help="Of the JPEGs, 1 to 100.")] = 90,
    subsampling: Annotated[str, typer.Option(help="Of their chroma: 420 or 444.")] = "420",
    samples_per_shard: Annotated[int | None, typer.Option(help="2,000; fewer for a small source.")] = None,
    samples_per_task: Annotated[int | None, typer.Option(help="Rows that one worker mixes; 8,192.")] = None,
    seed: Annotated[int, typer.Option(help="Of the mixing.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default.")] = None,
    engine: Annotated[str, typer.Option(help="Where tasks run: local.")] = "local",
    max_rejects: Annotated[str, typer.Option(help="Rows that may fail: a number, or a share of all.")] = "1%",
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # main looks for it
) -> None:
    """Convert one split of SOURCE into OUT/SPLIT, or go on where an earlier run was stopped."""
    # What `datasets` would print beside our own sentence and bar; set before it is imported, here and in workers.
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    from wdsremux import api
    from wdsremux.display import Display

    with Display(f"{source} ({split})") as display:
        try:
            api.convert(
                source,
                out,
                tell=display.tell,
                split=split,
                image_column=image_column,
                label_column=label_column,
                recipe=recipe,
                quality=quality,
                subsampling=subsampling,
                samples_per_shard=samples_per_shard,
                samples_per_task=samples_per_task,
                seed=seed,
                workers=workers,
                engine=engine,
                max_rejects=max_rejects,
            )
        except KeyboardInterrupt:
            display.say("stopped; run the same command again to go on")
            raise typer.Exit(130) from None


@app.command()
def info(
    out: Annotated[Path, typer.Argument(help="A converted set.")],
    as_json: Annotated[bool, typer.Option("--json", help="For other programs to read.")] = False,
) -> None:
    """Say what a converted set holds, where it came from, and how well its shards are mixed."""
    from wdsremux.conversion import report
    from wdsremux.display import info_text

    splits = [report.describe(out, manifest) for manifest in report.read_all(out)]
    if as_json:
        typer.echo(json.dumps({split.split: dataclasses.asdict(split) for split in splits}, indent=1))
    else:
        typer.echo("\n\n".join(info_text(split) for split in splits))
