"""The deterministic work that is baked in: a batch of rows in, samples and rejects out.

A built-in recipe treats each row by itself; a recipe of the user's may use the whole batch, drop rows, or make several
samples of one. Both have the same shape, `bake(rows) -> list[Sample | Reject]`, and give the same for the same rows in
every process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from wdsremux import codec
from wdsremux.conversion.source import Fault, Rows

ROWS_A_BATCH = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded sample, ready for a shard."""

    row: int  #: of the fragment
    part: int  #: which of the samples made of that row
    image: codec.Jpeg
    label: int  #: -1 where there is none
    kept: dict[str, Any] | None = None  #: the kept columns by name, in the order of --keep


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that could not be baked, as it stands in rejects.jsonl."""

    row: int  #: of the fragment
    part: int | None  #: None: the whole row
    where: str | None  #: what the source calls the image
    column: str | None  #: whose value was at fault
    reason: str


def reject_of(rows: Rows, place: int) -> Reject:
    """The reject that a row at fault makes; one without an image is at fault, too."""
    fault = rows.faults.get(place) or Fault(rows.image_column, "no image: null")
    return Reject(rows.first + place, None, rows.paths[place].as_py(), fault.column, fault.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a recipe is made with, beside its name."""

    encoding: codec.Encoding = field(default_factory=codec.Encoding)  #: of the JPEGs
    fast: bool = False  #: whether a built-in recipe decodes JPEGs to fewer pixels before it resizes them
    seed: int = 0  #: what a user's random transforms are seeded from
    batch_size: int = ROWS_A_BATCH  #: rows that a user's recipe gets at once
    version: str | None = None  #: stands in for a user's source text in the hash
    keep: tuple[str, ...] = ()  #: columns that go into the samples' JSON


class Recipe(Protocol):
    """What bakes the rows. It travels to workers, so it pickles."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the manifest says of it: name, sha256, and what else tells it from others."""

    @property
    def batch_size(self) -> int:
        """How many rows `bake` gets at once; fewer at the end of a fragment."""

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        """Samples and rejects of some consecutive rows of one fragment, in the order of the rows."""
