"""The function behind `wdsremux.plan`, and what the command line shares with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from wdsremux import arguments
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.datasets_quirks import quiet
from wdsremux.python_names import errors_in_python, in_python

if TYPE_CHECKING:
    from wdsremux.forecast.report import Forecast


def plan(
    source: str | os.PathLike[str],
    *,
    train_speed: float | None = None,
    epochs: int | None = None,
    progress: bool | None = None,
    **options: Unpack[ConvertOptions],
) -> Forecast:
    """Estimate what a conversion would cost and give, before it is begun. Nothing is converted.

    At least 400 rows are read, from places that are spread over the source, and beyond that at most 1 % of it and
    500 MB. They are converted in a temporary folder with the recipe that is asked for and with a few others, and each
    result is read by a loader. Every estimate has a 95 % interval.

    Args:
        source: as for `convert`.
        train_speed: number of images per second that your model can train on. By default a model that never waits.
        epochs: number of epochs that you want to train.
        progress: whether to show progress. By default it is shown on a terminal and in a notebook.
        **options: those of `convert`, except `strict` and `overwrite`.

    Returns:
        A `Forecast`. Print it to read the report; `json()` returns its figures.

    Raises:
        WdsremuxError: as `convert`, if the source cannot be read or an option is not valid; or if none of the rows
            can be converted.
    """
    from wdsremux.terminal import MovingLine

    known = [name for name in ConvertOptions.__annotations__ if name not in ("strict", "overwrite")]
    arguments.names("wdsremux.plan", options, known)
    drawn = None if progress is None else arguments.flag("progress", progress)
    with errors_in_python(), MovingLine(f"plan {source}", drawn=drawn) as line:

        def told(doing: str, share: float) -> None:
            line.fraction, line.facts = share, (doing,)

        return _in_python(planned(source, options, train_speed, epochs, told, time.perf_counter()))


def _in_python(found: Forecast) -> Forecast:
    """With arguments of a call in place of options of the command line."""
    looked = found.costs.looked
    warnings, notes = tuple(map(in_python, looked.warnings)), tuple(map(in_python, looked.notes))
    return replace(found, costs=replace(found.costs, looked=replace(looked, warnings=warnings, notes=notes)))


def planned(
    source: str | os.PathLike[str],
    options: ConvertOptions,
    train_speed: float | None,
    epochs: int | None,
    told: Callable[[str, float], None],
    begun_s: float,
) -> Forecast:
    """`plan` with nothing drawn but what `told` makes of it; `begun_s` is when it began, by `time.perf_counter`."""
    speed = None if train_speed is None else arguments.number("train_speed", train_speed, 0.01)
    count = None if epochs is None else arguments.integer("epochs", epochs)
    from wdsremux.conversion.engines import forkserver

    with quiet(), forkserver.beside():
        from wdsremux.forecast.forecast import forecast

        return forecast(source, options, speed, count, told, begun_s)
