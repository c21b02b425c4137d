"""`wdsremux convert`: its options, what is shown meanwhile, and how it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wdsremux import stopping
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.errors import OptionError

if TYPE_CHECKING:
    from wdsremux.conversion.events import Event

Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only errors and warnings. The exit code tells the result."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print details that are normally omitted.")]


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The data set to convert: a Hub id; a folder of parquet, Arrow, image or WebDataset tar files; one "
            "such file; or a glob.",
        ),
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="The folder to write to; each split gets a folder of its own in it.")
    ],
    config: Annotated[
        str | None, typer.Option(help="Name of the dataset configuration, if the source has several.")
    ] = None,
    split: Annotated[str, typer.Option(help="Name of the split to convert.")] = "train",
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a Hub id. By default the newest commit.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="Name of the column with the images, if there are several.")
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="Name of the column with the labels, if it is not detected. 'none' converts without labels."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names in the order of their labels, separated by commas, or a file with one name per line. By "
            "default the source's own."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Names of columns to keep beside each image (in tars as JSON), separated by commas. May be given "
            "several times."
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="How each image is processed: resize:N (short side of N pixels), square:N (the largest central "
            "square), copy (the source's bytes), or your own function as FILE.py:FUNC or pkg.mod:FUNC."
        ),
    ] = "resize:256",
    recipe_version: Annotated[
        str | None,
        typer.Option(
            help="Version of your own recipe. Runs are then compared by it, not by the source code of the recipe."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Number of rows passed to your own recipe at once.")] = 64,
    quality: Annotated[int, typer.Option(help="JPEG quality of the converted images, from 1 to 100.")] = 90,
    subsampling: Annotated[str, typer.Option(help="Chroma subsampling of the converted images: 420 or 444.")] = "420",
    restart_rows: Annotated[
        bool,
        typer.Option(
            "--restart-rows",
            help="End each row of JPEG blocks with a restart marker, so that a loader on a CPU can decode only the "
            "rows of a crop.",
        ),
    ] = False,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Resize about 17 % faster, at a cost of 0.2 to 2 dB in image quality."),
    ] = False,
    container: Annotated[
        str,
        typer.Option(
            help="What the samples are written to: tar (WebDataset shards) or parquet. All splits in one folder have "
            "the same.",
            metavar="[tar|parquet]",
        ),
    ] = "tar",
    samples_per_shard: Annotated[
        int | None,
        typer.Option(help="Number of samples in each shard. By default 2,000, and fewer for a small source."),
    ] = None,
    samples_per_task: Annotated[
        int | None,
        typer.Option(help="Number of rows that are shuffled together. By default 8,192."),
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle/--no-shuffle", help="Shuffle the rows of the source, or keep their order.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the shuffle and of random transforms in your own recipe.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes. By default one per CPU core.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Engine that runs the tasks: local (processes on this machine) or ray (a Ray cluster).")
    ] = "local",
    max_rejects: Annotated[
        str,
        typer.Option(
            help="How many rows may fail before the run stops: an integer, or a share such as 1% or 0.01, which "
            "allows at least 10."
        ),
    ] = "1%",
    limit: Annotated[
        int | None,
        typer.Option(help="Convert only this many rows, taken evenly from the whole source: a trial run."),
    ] = None,
    patience: Annotated[float, typer.Option(help="Seconds for which network errors are retried.")] = 600,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Refuse to resume if library versions or files of the source have changed meanwhile."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again from scratch, in place of an earlier conversion.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Annotated[  # the console script looks for it
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Convert one split of SOURCE into OUT/SPLIT, or resume a conversion that was stopped."""
    check_loudness(quiet, verbose)
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
        container=container,
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
    stopping.hear_terminations()
    try:
        _run(source, out, options, quiet=quiet, verbose=verbose)
    except BaseException as error:  # whatever a library that was half loaded has made of a Ctrl-C
        if stopping.asked() is None and not isinstance(error, KeyboardInterrupt):
            raise
        from wdsremux.display import stopped_text

        stopping.announce(stopped_text(Path(out).expanduser() / split, overwrite=overwrite))
        raise typer.Exit(stopping.exit_code()) from None


def _run(source: str, out: str, options: ConvertOptions, *, quiet: bool, verbose: bool) -> None:
    from wdsremux import api
    from wdsremux.display import Display

    with Display(f"{source} ({options['split']})", show=not quiet, verbose=verbose) as display:

        def told(event: Event) -> None:
            stopping.check()
            display.tell(event)

        api.run(source, out, told, options)


def check_loudness(quiet: bool, verbose: bool) -> None:
    """
    Raises:
        OptionError: if a command is to print both less and more.
    """
    if quiet and verbose:
        raise OptionError("--quiet and --verbose cannot be used together. Choose one of them")
