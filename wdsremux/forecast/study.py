"""A source that was looked at, and how its sample is converted: as the source itself would be, only less of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdsremux import machine
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.plan import Plan
from wdsremux.conversion.spec import Spec, make_spec
from wdsremux.forecast import trials
from wdsremux.forecast.choices import Choice
from wdsremux.forecast.estimates import Frame
from wdsremux.forecast.sampled import TakenSample
from wdsremux.forecast.trials import Trial

_TASKS_A_WORKER = 4  #: from so many tasks on, none is shared by workers
_MOST_REPEATED, _MOST_SHARDS = 32_768, 64  #: rows and shards of a trial, about: a file takes a while by itself
LEAST_FITTED = 64  #: places of a trial that would take longer


@dataclass(frozen=True, slots=True)
class Study:
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
    def scaled(self) -> float:
        """Seconds of the real conversion for each second of a trial."""
        return self.workers / self.spec.workers

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
        sample, chosen = self.sample.thinned(max(LEAST_FITTED, int(places * wanted / rows)))
        most = min(_MOST_REPEATED, _MOST_SHARDS * self.plan.samples_per_shard) // rows
        return sample, chosen, max(1, min(round(wanted / rows), most))
