"""`wdsremux plan`: look at a source here and there, try a few ways to convert it, and say what each would cost.

source ── places ──> rows ── looks, outlooks (trials, probes, loaders), today ──> costs ── advice ──> Forecast
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from wdsremux import machine
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.engines import make_engine
from wdsremux.conversion.job import extents, open_for, plan_for
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.source import Source
from wdsremux.conversion.spec import Spec, make_spec
from wdsremux.errors import counted
from wdsremux.forecast import looks, places, taking
from wdsremux.forecast.advice import advise
from wdsremux.forecast.estimates import frame
from wdsremux.forecast.findings import Asked, Costs, Outlook
from wdsremux.forecast.outlooks import Told, outlooks
from wdsremux.forecast.report import Forecast
from wdsremux.forecast.sampled import TakenSample
from wdsremux.forecast.study import Study

_TODAY_IMAGES, TODAY_S = 64, 1.5  #: images, and seconds of training without us
_PARTS = (0.0, 0.05, 0.25, 1.0)  #: of all the time, when: the source is open, read, tried


def forecast(
    source: str | os.PathLike[str],
    options: ConvertOptions,
    train_speed: float | None,
    epochs: int | None,
    told: Told,
    begun_s: float,
) -> Forecast:
    """Plan a conversion. What is written lies in a temporary folder, which is removed.

    Args:
        source, options: see `wdsremux.convert`.
        train_speed: images a second that the model takes; None: not known.
        epochs: to be trained; None: not known.
        told: hears of progress.
        begun_s: when the program began, by `time.perf_counter`: a conversion takes as long until it bakes.

    Raises:
        WdsremuxError: as a conversion would; or if nothing of the sample can be converted.
    """
    with tempfile.TemporaryDirectory(prefix="wdsremux-plan-") as scratch:
        told("reading the source", _PARTS[0])
        spec = make_spec(source, Path(scratch) / "out", **options)
        make_recipe(spec.recipe, spec.settings)  # what is wrong with it is said before anything is read
        opened = open_for(spec)
        plan = plan_for(spec, opened)
        make_engine("local", spec.workers).environment()
        ready_s = time.perf_counter() - begun_s
        wanted = _wanted(opened)
        where = places.places(extents(opened), wanted, spec.seed)
        taken = taking.take(opened, where, lambda part: told("reading rows", _at(1, part)))
        sample, labelled = TakenSample.of(opened, taken), opened.columns.label is not None
        stands_for = frame(extents(opened), taken.places, taken.image_bytes, labelled, spec.limit)
        study = Study(spec, options, sample, stands_for, plan, Path(scratch))
        from wdsremux.forecast import today  # loads torch, which a conversion leaves to its workers

        looked = looks.look(spec, opened, sample.by_place(), taken, stands_for)
        network = taken.rows / taken.wall_s if looked.remote else None
        expected, size = outlooks(study, looked, ready_s, network, lambda doing, part: told(doing, _at(2, part)))
        cautions = [*_too_large(opened, taken, wanted), *_too_many(spec, expected[0])]
        images = looks.images(sample.by_place(), _TODAY_IMAGES)
        costs = Costs(
            looked=replace(looked, warnings=(*looked.warnings, *cautions)),
            asked=Asked(spec.workers, spec.engine, train_speed, epochs),
            size=size,
            expected=expected,
            today=today.measure(images, max(1, int(machine.cores())), TODAY_S, size),
            network_images_per_s=network,
        )
        return Forecast(costs, advise(costs))


def _at(part: int, share: float) -> float:
    return _PARTS[part] + share * (_PARTS[part + 1] - _PARTS[part])


def _wanted(source: Source) -> places.Wanted:
    by_row = source.finding is not None and source.finding.by_row
    return places.wanted(extents(source), remote=source.files.remote, by_row=by_row)


def _too_large(source: Source, taken: taking.Taken, wanted: places.Wanted) -> list[str]:
    """What to say of fragments of which only the beginning was read."""
    if wanted.by_row:
        return []
    sizes = {place.fragment: source.fragments[place.fragment].size_bytes for place in taken.places}
    large = sum(size > wanted.reach_bytes for size in sizes.values())
    if not large:
        return []
    return [
        f"{counted(large, 'fragment')} of the source (row groups or tar files) {'is' if large == 1 else 'are'} so "
        "large that only the first rows were read. If rows are sorted within a fragment, the estimates may be off"
    ]


def _too_many(spec: Spec, asked: Outlook) -> list[str]:
    """What to say if the conversion would stop because of its rejects."""
    rows = asked.rejects.value + asked.samples.value
    allowed = spec.rejects_allowed(int(rows))
    if asked.rejects.value <= allowed:
        return []
    return [
        f"about {asked.rejects.value:,.0f} rows would be rejected, and the conversion stops at {allowed + 1:,}. Find "
        "out why, or allow more with --max-rejects"
    ]
