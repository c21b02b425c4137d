"""Small conversions of the sample, as the real one will be: their sizes and their times."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wdsremux.conversion.events import Event, Finished, Planned
from wdsremux.conversion.job import convert_source
from wdsremux.conversion.spec import Spec
from wdsremux.forecast.sampled import TakenSample
from wdsremux.format import manifest, samples

_OTHERS = (manifest.NAME, manifest.REJECTS)  #: files that hardly grow with the samples


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a small conversion."""

    rows: int  #: that were converted, those of all repetitions
    rows_at: NDArray[np.int64]  #: int64 [P], of each place, once
    samples_at: NDArray[np.int64]  #: int64 [P], made of them
    bytes_at: NDArray[np.int64]  #: int64 [P], of their images
    nrejects: int  #: of them
    reasons: Mapping[str, int]  #: of the rejects of all repetitions: how often each came
    short_side: int  #: median of the images, in pixels; 0 where there are none
    beside_bytes: float  #: that a sample takes on the disk beside its image
    other_bytes: int  #: of the files that hardly grow
    nshards: int
    seconds: float  #: from before the first worker is started to the finished split


def convert(spec: Spec, sample: TakenSample, times: int) -> Trial:
    """Convert a sample.

    Args:
        spec: how; its `out` is where to.
        sample: what.
        times: how often its rows come.

    Raises:
        WdsremuxError: as the real conversion would.
    """
    at: dict[type[Event], float] = {}

    def told(event: Event) -> None:
        at[type(event)] = time.perf_counter()

    split = convert_source(spec, sample.in_runs(times), told)
    folder, places = spec.folder, len(sample.rows_at)
    table = samples.read(folder / samples.NAME)
    lines = [json.loads(line) for line in (folder / manifest.REJECTS).read_text(encoding="utf-8").splitlines()]
    fragments, sizes = np.asarray(table["fragment"]).astype(np.int64), np.asarray(table["size"]).astype(np.int64)
    once = fragments < sample.nruns
    place = sample.places_of(fragments[once], np.asarray(table["row"])[once].astype(np.int64))
    sizes_on_disk = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    other_bytes = sum(sizes_on_disk.pop(name, 0) for name in _OTHERS)
    beside_bytes = sum(sizes_on_disk.values()) - int(sizes.sum())
    return Trial(
        rows=sample.rows * times,
        rows_at=np.array(sample.rows_at, np.int64),
        samples_at=np.bincount(place, minlength=places),
        bytes_at=np.bincount(place, sizes[once], places).astype(np.int64),
        nrejects=sum(line["fragment"] < sample.nruns for line in lines),
        reasons=Counter(str(line["reason"]) for line in lines),
        short_side=int(np.median(np.minimum(table["width"], table["height"]))) if len(table) else 0,
        beside_bytes=beside_bytes / split.nsamples if split.nsamples else 0.0,
        other_bytes=other_bytes,
        nshards=len(split.shards),
        seconds=at[Finished] - at[Planned],
    )
