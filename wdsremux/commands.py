"""The commands, and what each prints: results on stdout, all else on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from wdsremux import __version__, stopping
from wdsremux.convert_command import Quiet, Verbose, check_loudness, convert
from wdsremux.errors import counted, printable
from wdsremux.plan_command import plan

_EXIT_CODES = """\b
Exit codes:
  0    done
  1    an error about a file, the source or OUT
  2    a wrong command line
  130  stopped by Ctrl-C
  143  stopped by SIGTERM
"""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convert an image data set once into WebDataset shards, and train without a CPU bottleneck.",
    epilog=_EXIT_CODES,
)
app.command(short_help="Convert a data set, or resume it.")(convert)
app.command(short_help="Estimate what a conversion would cost and give.")(plan)

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of a converted set.")]
#: Of the commands that are called for what they print.
QuietReport = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors, warnings and the result.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for other programs.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wdsremux {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command as a whole."""


@app.command(short_help="Check every file of a converted set.")
def verify(
    out: Out,
    split: Annotated[str | None, typer.Option(help="Name of the split to check. By default all splits.")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image as well.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check every file of a converted set against its manifest, and list those that are damaged, missing or extra."""
    check_loudness(quiet, verbose)
    from wdsremux.inspection import verify as inspection
    from wdsremux.terminal import MovingLine

    place, began_s = out.expanduser(), time.monotonic()
    with MovingLine(f"verify {out}", drawn=False if quiet else None) as line:
        checked = inspection.check(place, split, decode, line.move)
    if verbose:
        stopping.complain(
            f"checked in {time.monotonic() - began_s:,.1f} s with {counted(inspection.threads(), 'thread')}"
        )
    _print_checked(f"{out}{f' ({split})' if split else ''}", checked, decode, as_json, quiet)
    _warn_of_classes(place, split)
    if checked.damages:
        raise typer.Exit(1)


def _print_checked(title: str, checked: Any, decode: bool, as_json: bool, quiet: bool) -> None:
    from wdsremux.reports import checked_text

    if as_json:
        typer.echo(json.dumps({"sound": not checked.damages} | dataclasses.asdict(checked), indent=1))
        return
    for damage in checked.damages:
        typer.echo(damage)
    looked_at = f"{checked_text(checked)}{', every image decoded' if decode else ''}"
    if checked.damages:
        differ = f"{counted(len(checked.damages), 'file')} {'does' if len(checked.damages) == 1 else 'do'} not match"
        stopping.complain(
            f"{differ} the manifest ({looked_at}). Delete what is listed above, and run the same conversion again to "
            "rebuild it."
        )
    elif not quiet:
        typer.echo(printable(f"{title} is undamaged: {looked_at}"))


def _warn_of_classes(out: Path, split: str | None) -> None:
    """Say so if the splits do not number their classes alike."""
    from wdsremux.errors import FormatError
    from wdsremux.format import class_list, manifest

    with contextlib.suppress(FormatError):  # a manifest that cannot be read is among the damages
        if split is None and (warning := class_list.disagreement(manifest.read_all(out))):
            stopping.complain(f"warning: {warning}.")


@app.command(short_help="Measure how fast a converted set can be read on this machine.")
def bench(
    out: Out,
    split: Annotated[str, typer.Option(help="Name of the split to read.")] = "train",
    batch_size: Annotated[int, typer.Option(help="Number of samples in each batch.")] = 256,
    size: Annotated[int, typer.Option(help="Width and height of the training images, in pixels.")] = 224,
    seconds: Annotated[float, typer.Option(help="Seconds for which each way of reading is measured.")] = 5.0,
    as_json: AsJson = False,
    quiet: QuietReport = False,
    verbose: Verbose = False,
) -> None:
    """Read a converted set as in training, in each way that works on this machine, and report the speed of each."""
    check_loudness(quiet, verbose)
    from wdsremux.format import manifest
    from wdsremux.terminal import MovingLine

    place = out.expanduser()
    manifest.read(place / split)  # before all that is loaded for nothing
    with MovingLine(f"bench {out}", drawn=False if quiet else None) as line:
        line.facts = ("loading libraries",)
        from wdsremux.loading import bench as trials

        outcomes, ways = [], trials.ways()
        for number, way in enumerate(ways):
            line.fraction = number / len(ways)
            line.facts = (f"{number + 1} of {len(ways)}: {way.decoder}, {way.pixels}",)
            outcomes.append(trials.measure(place, split, way, batch_size=batch_size, size=size, seconds=seconds))
    if verbose:
        stopping.complain(trials.surroundings())
    _print_outcomes(f"{out} ({split})", outcomes, trials.advice(outcomes), as_json)


def _print_outcomes(title: str, outcomes: Any, advice: list[str], as_json: bool) -> None:
    from rich.console import Console

    from wdsremux import reports

    if as_json:
        typer.echo(json.dumps({"ways": reports.outcomes_json(outcomes), "advice": advice}, indent=1))
        return
    Console().print(reports.outcomes_table(title, outcomes))
    for sentence in (*reports.failures(outcomes), "", *advice):
        typer.echo(sentence)


@app.command(short_help="Show what a converted set contains, in one image.")
def preview(
    out: Out,
    n: Annotated[int, typer.Option("-n", help="Number of samples to show.")] = 12,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.png", help="The file to write.")] = Path(
        "preview.png"
    ),
    split: Annotated[str, typer.Option(help="Name of the split to show.")] = "train",
    size: Annotated[int, typer.Option(help="Width and height of the training images, in pixels.")] = 224,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what a converted split contains, in one image.

    Some of its samples as they are stored and as a loader gives them, the number of samples per class, the sizes of
    all images, and why rows were rejected.
    """
    check_loudness(quiet, verbose)
    from wdsremux import api
    from wdsremux.showing.png import check_place

    began_s = time.monotonic()
    check_place(output.expanduser())
    made = api.preview(out, split, n=n, size=size)
    made.save(output)
    for note in made.notes:
        stopping.complain(f"warning: {note}.")
    if verbose:
        stopping.complain(f"drawn in {time.monotonic() - began_s:,.1f} s")
    if not quiet:
        typer.echo(printable(f"{out} ({split}) is shown in {output}"))


@app.command(short_help="Report what a converted set contains.")
def info(out: Out, as_json: AsJson = False, quiet: QuietReport = False, verbose: Verbose = False) -> None:
    """Report what a converted set contains, where it came from, and how well its shards are shuffled."""
    check_loudness(quiet, verbose)
    from wdsremux.format import class_list, manifest, underway
    from wdsremux.inspection.info import describe
    from wdsremux.reports import info_text, underway_text

    place = out.expanduser()
    unfinished = underway.read_all(place)
    manifests = [] if unfinished and not any(place.glob(f"*/{manifest.NAME}")) else manifest.read_all(place)
    if warning := class_list.disagreement(manifests):
        stopping.complain(f"warning: {warning}.")
    splits = [describe(place, split) for split in manifests]
    if as_json:
        found = {split.split: {"finished": True} | dataclasses.asdict(split) for split in splits}
        found |= {split.split: {"finished": False} | dataclasses.asdict(split) for split in unfinished}
        typer.echo(json.dumps(found, indent=1))
    else:
        texts = [info_text(split, verbose=verbose) for split in splits]
        hint = f"`wdsremux preview {out}` shows its images. `wdsremux plan` estimates what other recipes would give."
        typer.echo("\n\n".join([*texts, *map(underway_text, unfinished), *([printable(hint)] if splits else [])]))
