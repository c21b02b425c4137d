"""`wdsremux plan`: look at a source here and there, try a few ways to convert it, and say what each would cost.

source ── places ──> rows ── looks, trials, probes, loaders, today ──> costs ── advice ──> Forecast
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdsremux import machine
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.engines import local, make_engine
from wdsremux.conversion.job import extents, open_for, plan_for
from wdsremux.conversion.plan import Plan
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.recipes.names import COPY
from wdsremux.conversion.source import Source
from wdsremux.conversion.spec import Spec, make_spec
from wdsremux.errors import ConversionError, counted
from wdsremux.forecast import interval, looks, places, taking, trials
from wdsremux.forecast.advice import advise
from wdsremux.forecast.choices import Choice, choices
from wdsremux.forecast.estimates import Frame, Line, frame, ratio
from wdsremux.forecast.findings import Asked, Costs, Looked, Outlook
from wdsremux.forecast.interval import Interval
from wdsremux.forecast.probes import BakingTimes, Quality, finest
from wdsremux.forecast.report import Forecast
from wdsremux.forecast.sampled import TakenSample
from wdsremux.forecast.trials import Trial

Told = Callable[[str, float], None]  #: called with what is being done, and with the share of all that is done

LEAST_ROWS, MOST_ROWS = 400, 1_000  #: to look at
LEAST_PLACES, LOCAL_PLACES = 32, 128  #: where rows are not read by themselves; the latter on this machine
MOST_SHARE, MOST_BYTES = 0.01, 500 * 10**6  #: of the source, to read beyond the least rows
LEAST_BYTES = 16 * 10**6  #: likewise, of a small source
WHOLE_BYTES = 200 * 10**6  #: a source that is read to its end, where rows lie at the end of a fragment
_TASKS_A_WORKER = 4  #: from so many tasks on, none is shared by workers
_LONGER_S, _SHORTER_S = 2.0, 0.7  #: of baking in a trial, about; rows are repeated for it
_MOST_REPEATED, _MOST_SHARDS = 32_768, 64  #: rows and shards of a trial, about: a file takes a while by itself
_LEAST_FITTED = 64  #: places of a trial that would take longer
_ROUNDING = 0.005  #: of a size: padding, and a manifest that names more shards
_PROBED_S, _PROBED_PLACES = 3.0, 64  #: of baking at some places, one after the other; so many places at least
_QUALITY_PLACES = 32
_LOADED_S = 1.5  #: of a loader, once it is under way
_TODAY_IMAGES, _TODAY_S = 64, 1.5
_BATCH, _BATCH_OF_LARGE, _LARGE_BYTES = 256, 32, 50_000  #: samples of a loader's batch; of an image on average
_PARTS = (0.0, 0.05, 0.25, 0.9, 1.0)  #: of all the time, when: the source is open, read, tried, compared


@dataclass(frozen=True, slots=True)
class _Study:
    """A source that was looked at, and what trials of it have in common."""

    spec: Spec
    options: ConvertOptions
    sample: TakenSample
    frame: Frame
    plan: Plan
    scratch: Path

    @property
    def workers(self) -> int:
        """Of a trial: those of this machine stand for those of a cluster."""
        return self.spec.workers if self.spec.engine == "local" else min(self.spec.workers, int(machine.cores()) or 1)

    @property
    def nshards(self) -> int:
        """Of the real conversion, as far as its rows are known."""
        return sum(len(task.shards) for task in self.plan.tasks)

    def spec_of(self, choice: Choice) -> Spec:
        """That of the real conversion."""
        options: dict[str, Any] = {**self.options, **choice.changes}
        return make_spec(self.spec.selection.source, self.spec.out, **options)

    def convert(self, spec: Spec, sample: TakenSample, times: int) -> Trial:
        """A small conversion."""
        tasks = min(len(self.plan.tasks), _TASKS_A_WORKER * self.workers)
        small = replace(
            spec,
            engine="local",
            workers=self.workers,
            samples_per_shard=self.plan.samples_per_shard,
            samples_per_task=-(-sample.rows * times // tasks),
            limit=None,
            max_rejects="100%",
            strict=False,
            overwrite=True,
        )
        return trials.convert(small, sample, times)

    def fitted(self, a_row_s: float, seconds: float) -> tuple[TakenSample, NDArray[np.int64], int]:
        """As much of the sample as is baked in about so long: its rows, the places that they are of, and how often
        they are to come."""
        rows, places = self.sample.rows, len(self.sample.rows_at)
        wanted = seconds * self.workers / max(a_row_s, 1e-6)
        sample, chosen = self.sample.thinned(max(_LEAST_FITTED, int(places * wanted / rows)))
        most = min(_MOST_REPEATED, _MOST_SHARDS * self.plan.samples_per_shard) // rows
        return sample, chosen, max(1, min(round(wanted / rows), most))


def forecast(
    source: str | os.PathLike[str],
    options: ConvertOptions,
    train_speed: float | None,
    epochs: int | None,
    told: Told,
    begun_s: float,
) -> Forecast:
    """Plan a conversion. All that is written lies in a temporary folder, which is removed.

    Args:
        source: see `wdsremux.convert`.
        options: likewise.
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
        study = _Study(spec, options, sample, stands_for, plan, Path(scratch))
        from wdsremux.forecast import today  # loads torch, which a conversion leaves to its workers

        looked = looks.look(spec, opened, sample.by_place(), taken, stands_for)
        looked = replace(looked, warnings=(*looked.warnings, *_cautions(opened, taken, wanted)))
        costs = Costs(
            looked=looked,
            asked=Asked(workers=spec.workers, engine=spec.engine, train_images_per_s=train_speed, epochs=epochs),
            expected=_outlooks(study, looked, ready_s, taken.rows / taken.wall_s if looked.remote else None, told),
            today=today.measure(looks.images(sample.by_place(), _TODAY_IMAGES), max(1, int(machine.cores())), _TODAY_S),
            network_images_per_s=taken.rows / taken.wall_s if looked.remote else None,
        )
        return Forecast(costs, advise(costs))


def _at(part: int, share: float) -> float:
    return _PARTS[part] + share * (_PARTS[part + 1] - _PARTS[part])


def _wanted(source: Source) -> places.Wanted:
    """How much to look at: 400 rows, and more of a large source as long as that is little of it."""
    found = extents(source)
    rows = sum(extent.rows or 0 for extent in found)
    budget = max(LEAST_BYTES, min(MOST_BYTES, int(MOST_SHARE * source.size_bytes)))
    a_row = source.size_bytes / rows if rows and source.size_bytes else None
    more = int(min(MOST_BYTES, MOST_SHARE * source.size_bytes) / a_row) if a_row else int(MOST_SHARE * rows)
    by_row = source.finding is not None and source.finding.by_row
    count = LEAST_PLACES if source.files.remote else LOCAL_PLACES
    # What lies before a place is read, too; of places in one fragment, only once.
    passed = (budget if source.files.remote else 2 * MOST_BYTES) // min(count, len(found))
    reach_bytes = source.size_bytes if source.size_bytes <= WHOLE_BYTES else passed
    most = LEAST_ROWS if source.files.remote and not by_row else MOST_ROWS  # pages are read there, not rows
    return places.Wanted(max(LEAST_ROWS, min(most, more)), count, by_row, reach_bytes)


def _cautions(source: Source, taken: taking.Taken, wanted: places.Wanted) -> list[str]:
    """What may make estimates wrong."""
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


def _outlooks(study: _Study, looked: Looked, ready_s: float, network: float | None, told: Told) -> tuple[Outlook, ...]:
    """Of what is asked for, and of what differs from it in one thing."""
    ways = choices(study.spec, looks.short_side(looked), looks.jpegs(looked))
    told(f"trying {ways[0].name}", _PARTS[2])
    spec = study.spec_of(ways[0])
    baking = _baking(study, spec)
    half, _, times = study.fitted(baking.value, _LONGER_S / 2)
    shorter = study.convert(spec, half, 1)
    if not shorter.samples_at.any():
        reason = next(iter(shorter.reasons), "the recipe dropped them")
        raise ConversionError(
            f"none of the {counted(shorter.rows, 'row')} of {looked.name} that were looked at can be converted: "
            f"{reason}. Choose other columns or another recipe"
        )
    longer = study.convert(spec, study.sample, 2 * times)
    pace = Line.through((shorter.rows, shorter.seconds), (longer.rows, longer.seconds))
    beside = Line.through((shorter.nshards, shorter.other_bytes), (longer.nshards, longer.other_bytes))
    varying = baking.map(lambda value: value / baking.value)
    base = _Base(longer, pace, varying, beside.at(study.nshards), ready_s, network)
    every = np.arange(len(study.sample.rows_at))
    found = [_one(study, ways[0], spec, longer, every, base)]
    for number, way in enumerate(ways[1:], 1):
        told(f"trying {way.name} ({number + 1} of {len(ways)})", _at(2, number / len(ways)))
        spec = study.spec_of(way)
        some, chosen, times = study.fitted(baking.value, _SHORTER_S)
        trial = study.convert(spec, some, times)
        found.append(_one(study, way, spec, trial, chosen, base))
    told("comparing with training from the source", _PARTS[3])
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Base:
    """What a choice is reckoned from, beside its own trial."""

    asked: Trial  #: of what is asked for
    pace: Line  #: likewise: seconds by rows
    varying: Interval  #: the cost of a row, by the places that were timed; 1 on average
    other_bytes: float  #: of the files that hardly grow
    ready_s: float  #: before the first worker can begin, as it was here
    network: float | None  #: rows a second that come; None of a source on this machine

    def seconds(self, rows: Interval, a_row_s: float) -> Interval:
        """Of the whole conversion."""
        baking = (rows * self.varying).map(lambda value: value * a_row_s)
        coming = None if self.network is None else rows.map(lambda value: value / (self.network or 1.0))
        work = baking if coming is None or coming.value < baking.value else coming
        return work.map(lambda value: value + self.pace.fixed + self.ready_s)


def _baking(study: _Study, spec: Spec) -> Interval:
    """Seconds that a row takes in one worker, by the places of the sample."""
    source, recipe = study.sample.by_place().stored(study.scratch), make_recipe(spec.recipe, spec.settings)
    found = local.answered(BakingTimes(source, recipe, _PROBED_S, _PROBED_PLACES))
    taken = study.frame.taken * len(found) / len(study.sample.rows_at)
    return interval.mean([seconds for _, seconds in found], taken)


def _one(study: _Study, way: Choice, spec: Spec, trial: Trial, chosen: NDArray[np.int64], base: _Base) -> Outlook:
    """What comes of a choice, by its trial; which is removed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a sample that is small or has few classes
        from wdsremux.loading import bench

        large = trial.bytes_at.sum() > _LARGE_BYTES * trial.samples_at.sum()
        batch_size = _BATCH_OF_LARGE if large else _BATCH
        speed = bench.speed(spec.out, spec.selection.split, batch_size, _LOADED_S)
    shutil.rmtree(spec.out)
    stands_for, asked = study.frame.at(chosen), base.asked
    same = spec.container == study.spec.container
    size = stands_for.total(_on_disk(trial, asked.beside_bytes if same else trial.beside_bytes))
    a_row_s = base.pace.each
    if trial is not asked:
        before = _on_disk(asked, asked.beside_bytes)
        now = _on_disk(trial, asked.beside_bytes if same else trial.beside_bytes)
        size = study.frame.total(before) * ratio(before[chosen], now, stands_for)
        a_row_s = base.pace.each_of(trial.rows, trial.seconds)
    rows = int(trial.rows_at.sum())
    return Outlook(
        name=way.name,
        changes=way.changes,
        samples=stands_for.total(trial.samples_at / trial.rows_at),
        rejects=stands_for.count(min(rows, trial.nrejects), rows),
        reasons=trial.reasons,
        size_bytes=Interval(size.value, size.low * (1 - _ROUNDING), size.high * (1 + _ROUNDING)).map(
            lambda value: value + base.other_bytes
        ),
        seconds=base.seconds(study.frame.rows, a_row_s),
        loader_images_per_s=interval.mean(speed.images_per_s),
        decoder=speed.decoder,
        psnr_db=_quality(study, spec),
    )


def _on_disk(trial: Trial, beside_bytes: float) -> NDArray[np.float64]:
    """Bytes a row at each place, float64 [P]."""
    found: NDArray[np.float64] = (trial.bytes_at + beside_bytes * trial.samples_at) / trial.rows_at
    return found


def _quality(study: _Study, spec: Spec) -> Interval | None:
    if spec.recipe == COPY:
        return None
    finer = finest(spec)
    recipe = make_recipe(finer.recipe, finer.settings)
    some, _ = study.sample.thinned(_QUALITY_PLACES)
    found = local.answered(Quality(some.by_place().stored(study.scratch), recipe, spec.encoding))
    return interval.mean(found) if found else None
