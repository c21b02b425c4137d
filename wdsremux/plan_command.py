"""`wdsremux plan`: its options, most of which are those of `convert`."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from wdsremux import stopping
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.convert_command import Verbose, check_loudness, convert

_CONVERTS_OWN = {"out", "strict", "overwrite", "quiet", "verbose", "debug"}  #: options that a plan has no use for


def _with_convert_options(command: Callable[..., None]) -> Callable[..., None]:
    """Have typer see the options of `convert`, as they are defined there, in place of `**options`."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    shared = inspect.signature(convert, eval_str=True).parameters.values()
    taken = [each for each in shared if each.name not in _CONVERTS_OWN]
    rest = [each for each in own if each.kind is not inspect.Parameter.VAR_KEYWORD and each.name != "source"]
    command.__signature__ = inspect.Signature([*taken, *rest])  # type: ignore[attr-defined]
    return command


@_with_convert_options
def plan(
    source: str,
    train_speed: Annotated[
        float | None,
        typer.Option(help="Images per second that your model can train on. Without it, a model that never waits."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs that you want to train.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, for other programs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors, warnings and the result.")] = False,
    verbose: Verbose = False,
    debug: Annotated[  # the console script looks for it
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
    **options: Any,
) -> None:
    """Estimate what a conversion would cost and give, before it is begun. Nothing is converted.

    Some rows of SOURCE are read and converted in a few ways in a temporary folder. The report says what the source
    contains, how large the result and how long the conversion would be, how fast it would load on this machine, and
    what to choose.
    """
    check_loudness(quiet, verbose)
    from wdsremux.planning import planned
    from wdsremux.terminal import MovingLine

    began_s = time.perf_counter() - time.process_time()  # when the program was started: it has only worked since
    chosen = ConvertOptions(**options)  # type: ignore[typeddict-item]  # those that typer has checked
    stopping.hear_terminations()
    with MovingLine(f"plan {source}", drawn=False if quiet else None) as line:

        def told(doing: str, share: float) -> None:
            stopping.check()
            line.fraction, line.facts = share, (doing,)

        found = planned(source, chosen, train_speed, epochs, told, began_s)
    if verbose:
        stopping.complain(f"planned in {time.perf_counter() - began_s:,.1f} s")
    typer.echo(json.dumps(found.json(), indent=1) if as_json else found)
