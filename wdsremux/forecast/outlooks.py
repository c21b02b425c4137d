"""What comes of each way to convert a source: size, time, speed of the loader, loss of quality."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wdsremux.conversion.engines import local
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.recipes.names import COPY
from wdsremux.conversion.spec import Spec
from wdsremux.errors import ConversionError, counted
from wdsremux.forecast import interval
from wdsremux.forecast.choices import Choice, choices
from wdsremux.forecast.estimates import Line, ratio
from wdsremux.forecast.findings import Looked, Outlook
from wdsremux.forecast.interval import Interval
from wdsremux.forecast.probes import BakingTimes, Quality, finest
from wdsremux.forecast.study import Study
from wdsremux.forecast.trials import Trial

Told = Callable[[str, float], None]  #: called with what is being done, and with the share of all that is done
LONGER_S, SHORTER_S = 2.0, 0.7  #: of baking in a trial, about; rows are repeated for it
PROBED_S, PROBED_PLACES = 3.0, 64  #: of baking at some places, one after the other; so many places at least
QUALITY_PLACES = 32
LOADED_S = 1.5  #: of a loader, once it is under way
USUAL_SIZE = 224  #: of training images, in pixels, where images are large enough
_ROUNDING = 0.005  #: of a size: padding, and a manifest that names more shards
_BATCH, _BATCH_OF_LARGE, _LARGE_BYTES = 256, 32, 50_000  #: samples of a loader's batch; of an image on average


def outlooks(
    study: Study, looked: Looked, ready_s: float, network: float | None, told: Told
) -> tuple[tuple[Outlook, ...], int]:
    """Try what is asked for, and what differs from it in one thing.

    Args:
        study: of the source.
        looked: what the source is.
        ready_s: before the first worker of a conversion can begin.
        network: rows a second that come; None of a source on this machine.
        told: hears of progress.

    Returns:
        What comes of each; and the size for which loaders were measured, in pixels.

    Raises:
        ConversionError: if nothing of the sample can be converted, or as a conversion would.
    """
    ways = choices(study.spec, looked.short_side, looked.jpegs)
    told(f"trying {ways[0].name}", 0.0)
    spec = study.spec_of(ways[0])
    baking = _baking(study, spec)
    half, _, times = study.fitted(baking.value, LONGER_S / 2)
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
    size = min(USUAL_SIZE, longer.short_side, max(1, looked.short_side))
    base = _Base(longer, size, pace, study.scaled, varying, beside.at(study.nshards), ready_s, network)
    every = np.arange(len(study.sample.rows_at))
    found = [_one(study, ways[0], spec, longer, every, base)]
    for number, way in enumerate(ways[1:], 1):
        told(f"trying {way.name} ({number + 1} of {len(ways)})", number / len(ways))
        spec = study.spec_of(way)
        some, chosen, times = study.fitted(baking.value, SHORTER_S)
        trial = study.convert(spec, some, times)
        found.append(_one(study, way, spec, trial, chosen, base))
    told("comparing with training from the source", 1.0)
    return tuple(found), size


@dataclass(frozen=True, slots=True)
class _Base:
    """What a choice is reckoned from, beside its own trial."""

    asked: Trial  #: of what is asked for
    size: int  #: of training images, in pixels
    pace: Line  #: seconds by rows of what is asked for
    scaled: float  #: seconds of the real conversion for each of the trial's: it may have other workers
    varying: Interval  #: the cost of a row, by the places that were timed; 1 on average
    other_bytes: float  #: of the files that hardly grow
    ready_s: float  #: before the first worker can begin, as it was here
    network: float | None  #: rows a second that come; None of a source on this machine

    def seconds(self, rows: Interval, a_row_s: float) -> Interval:
        """Of the whole conversion."""
        baking = (rows * self.varying).map(lambda value: value * a_row_s * self.scaled)
        coming = None if self.network is None else rows.map(lambda value: value / (self.network or 1.0))
        work = baking if coming is None or coming.value < baking.value else coming
        return work.map(lambda value: value + self.pace.fixed + self.ready_s)


def _baking(study: Study, spec: Spec) -> Interval:
    """Seconds that a row takes in one worker, by the places of the sample."""
    source, recipe = study.sample.by_place().stored(study.scratch), make_recipe(spec.recipe, spec.settings)
    found = local.answered(BakingTimes(source, recipe, PROBED_S, PROBED_PLACES))
    taken = study.frame.taken * len(found) / len(study.sample.rows_at)
    return interval.mean([seconds for _, seconds in found], taken)


def _one(study: Study, way: Choice, spec: Spec, trial: Trial, chosen: NDArray[np.int64], base: _Base) -> Outlook:
    """What comes of a choice, by its trial; which is removed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a sample that is small or has few classes
        from wdsremux.loading import bench

        large = trial.bytes_at.sum() > _LARGE_BYTES * trial.samples_at.sum()
        batch_size = _BATCH_OF_LARGE if large else _BATCH
        speed = bench.speed(spec.out, spec.selection.split, batch_size, base.size, LOADED_S)
    shutil.rmtree(spec.out)
    stands_for, asked = study.frame.at(chosen), base.asked
    before, a_row_s = _on_disk(asked, asked.beside_bytes), base.pace.each
    size = study.frame.total(before)
    if trial is not asked:
        now = _on_disk(trial, asked.beside_bytes if spec.container == study.spec.container else trial.beside_bytes)
        size *= ratio(before[chosen], now, stands_for)
        a_row_s = base.pace.each_of(trial.rows, trial.seconds)
    rows = int(trial.rows_at.sum())
    return Outlook(
        name=way.name,
        changes=way.changes,
        samples=stands_for.total(trial.samples_at / trial.rows_at),
        rejects=stands_for.count(min(rows, trial.nrejects), rows),
        reasons=trial.reasons,
        short_side=trial.short_side,
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


def _quality(study: Study, spec: Spec) -> Interval | None:
    if spec.recipe == COPY:
        return None
    finer = finest(spec)
    recipe = make_recipe(finer.recipe, finer.settings)
    some, _ = study.sample.thinned(QUALITY_PLACES)
    found = local.answered(Quality(some.by_place().stored(study.scratch), recipe, spec.encoding))
    return interval.mean(found) if found else None
