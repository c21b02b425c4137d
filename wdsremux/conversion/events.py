"""What a conversion tells while it runs: plain values, for a progress bar or a log. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wdsremux.conversion.plan import Plan
    from wdsremux.format.manifest import Manifest
from wdsremux.format.rejects import RejectLine


@dataclass(frozen=True, slots=True)
class Planned:
    """A conversion is about to start, or to resume."""

    plan: Plan
    rows_done: int  #: by an earlier run
    bytes_source: int  #: of the split in the source, in bytes
    engine: str = "local"  #: where tasks run
    workers: int = 1  #: tasks that run at once
    environment: Mapping[str, Any] = field(default_factory=dict)  #: library versions of the workers


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker has done since its last report. Counts are negative if a worker died and its work was lost."""

    task: int
    rows: int
    samples: int
    nrejects: int
    bytes_in: int  #: of images read
    bytes_out: int  #: of images written
    rejects: tuple[RejectLine, ...] = ()  #: the first of them, a bounded number; or of those that were lost


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning about a conversion that continues."""

    text: str


@dataclass(frozen=True, slots=True)
class Noted:
    """An informational message, such as the files that are not converted."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The split is finished."""

    manifest: Manifest
    already: bool  #: it was before this run
    bytes_source: int | None  #: of what was converted of the source; None: not known
    folder: Path  #: OUT/SPLIT, absolute
    unlabelled: int | None = None  #: samples without a label; None: they were not counted now


Event = Planned | Progress | Warned | Noted | Finished
