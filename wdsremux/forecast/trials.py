"""Small conversions of the sample, as the real one will be: their sizes, their times, and how quickly they load."""

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
from wdsremux.conversion.source import Source
from wdsremux.conversion.spec import Spec
from wdsremux.format import manifest, samples

_OTHERS = (manifest.NAME, manifest.REJECTS)  #: files that hardly grow with the samples


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a small conversion."""

    rows: int  #: of the sample, those of all repetitions
    rows_at: NDArray[np.int64]  #: int64 [P], rows of each place, once
    samples_at: NDArray[np.int64]  #: int64 [P], samples made of them
    bytes_at: NDArray[np.int64]  #: int64 [P], of their images
    rejects_at: NDArray[np.int64]  #: int64 [P]
    reasons: Mapping[str, int]  #: of the rejects of all repetitions, by how often they came
    beside_bytes: float  #: that a sample takes on the disk beside its image
    seconds: float  #: from before the first worker is started to the finished split

    @property
    def nsamples(self) -> int:
        """Of the places, once."""
        return int(self.samples_at.sum())


def convert(spec: Spec, source: Source, places: int) -> Trial:
    """Convert a sample.

    Args:
        spec: how; its `out` is where to.
        source: the sample; its fragments are places, all of them once or several times.
        places: how many there are.

    Raises:
        WdsremuxError: as the real conversion would.
    """
    times: dict[type[Event], float] = {}

    def told(event: Event) -> None:
        times[type(event)] = time.perf_counter()

    split = convert_source(spec, source, told)
    folder = spec.folder
    table = samples.read(folder / samples.NAME)
    lines = [json.loads(line) for line in (folder / manifest.REJECTS).read_text(encoding="utf-8").splitlines()]
    fragments, sizes = np.asarray(table["fragment"]).astype(np.int64), np.asarray(table["size"]).astype(np.int64)
    first = fragments < places  # of several repetitions
    rejected = np.array([line["fragment"] for line in lines], np.int64)
    files = [path for path in folder.iterdir() if path.is_file() and path.name not in _OTHERS]
    on_disk = sum(path.stat().st_size for path in files)
    return Trial(
        rows=sum(fragment.rows or 0 for fragment in source.fragments),
        rows_at=np.array([fragment.rows for fragment in source.fragments[:places]], np.int64),
        samples_at=np.bincount(fragments[first], minlength=places)[:places],
        bytes_at=np.bincount(fragments[first], sizes[first], places)[:places].astype(np.int64),
        rejects_at=np.bincount(rejected[rejected < places], minlength=places)[:places],
        reasons=Counter(str(line["reason"]) for line in lines),
        beside_bytes=(on_disk - int(sizes.sum())) / split.nsamples if split.nsamples else 0.0,
        seconds=times[Finished] - times[Planned],
    )
