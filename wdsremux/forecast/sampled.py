"""The rows that were taken, as a source of their own: small conversions of it measure what a large one will cost."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wdsremux import files
from wdsremux.conversion.source import Fault, Fragment, Source
from wdsremux.conversion.source.base import STORED, Piece
from wdsremux.conversion.source.image_files import Files
from wdsremux.forecast.taking import Taken

_ROWS_A_FRAGMENT = 100  #: of a trial: as many as a row group of the Hub's image sets


@dataclass(frozen=True, slots=True)
class SampleReader:
    """Gives the rows of the sample; a fragment is a run of them."""

    firsts: tuple[int, ...]  #: rows of the table, with which the fragments begin
    faults: Mapping[int, Fault]  #: by row of the table
    table: pa.Table | None = field(default=None, repr=False)  #: in the process that took the rows
    stored_in: Path | None = None  #: where the others find it

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        table = (_mapped(self.stored_in) if self.table is None else self.table).select(list(names))
        begin, stop = self.firsts[fragment.part], self.firsts[fragment.part] + (fragment.rows or 0)
        for first in range(begin, stop, batch_rows):
            count = min(batch_rows, stop - first)
            faults = {at: self.faults[first + at] for at in range(count) if first + at in self.faults}
            yield Piece(table.slice(first, count).combine_chunks(), faults)

    def values(self, column: str) -> Iterator[tuple[int, pa.Array]]:
        """See `SourceReader.values`; labels are numbered by the whole source, and nobody asks here."""
        raise NotImplementedError(f"the values of {column} were counted before")

    def where(self, fragment: Fragment) -> str:
        return f"part {fragment.part} of the sample"

    def stored(self, folder: Path) -> SampleReader:
        if self.table is None:
            return self
        with files.atomic(folder / STORED) as file, pa.ipc.new_file(file, self.table.schema) as writer:
            writer.write_table(self.table)
        return replace(self, table=None, stored_in=folder / STORED)

    def sparing(self, rows: int) -> SampleReader:
        return self


@functools.lru_cache(maxsize=2)
def _mapped(path: Path | None) -> pa.Table:
    with pa.memory_map(str(path)) as mapped:  # the table keeps the mapping alive
        return pa.ipc.open_file(mapped).read_all()


@dataclass(frozen=True, slots=True)
class TakenSample:
    """The rows that were taken of a source, with its labels and kept columns."""

    source: Source  #: without fragments
    table: pa.Table = field(repr=False)
    faults: Mapping[int, Fault]  #: by row of the table
    rows_at: tuple[int, ...]  #: of each place; they follow each other in the table
    file_at: tuple[int, ...]  #: of the source: one that names its classes as that of the place does

    @staticmethod
    def of(source: Source, taken: Taken) -> TakenSample:
        """All rows that were taken."""
        rows_at = tuple(place.rows for place in taken.places)
        faults = {
            first + at: fault
            for first, piece in zip(_firsts(rows_at), taken.pieces, strict=False)
            for at, fault in piece.faults.items()
        }
        table = pa.concat_tables([piece.table for piece in taken.pieces], promote_options="permissive")
        names = source.labels.names if source.labels is not None else {}
        alike: dict[tuple[str, ...] | None, int] = {}
        files_ = [source.fragments[place.fragment].file for place in taken.places]
        file_at = tuple(alike.setdefault(names.get(file), file) for file in files_)
        bare = replace(source, fragments=(), local_files=(), stamp=None, finding=None, notes=(), warnings=())
        return TakenSample(replace(bare, files=Files("", remote=False)), table, faults, rows_at, file_at)

    @property
    def rows(self) -> int:
        return sum(self.rows_at)

    def thinned(self, count: int) -> tuple[TakenSample, NDArray[np.int64]]:
        """The rows of some places, spread evenly; and which places these are, int64 [C]."""
        places = len(self.rows_at)
        chosen = np.unique(np.linspace(0, places - 1, min(count, places)).astype(np.int64))
        if len(chosen) == places:
            return self, chosen
        firsts, rows_at = _firsts(self.rows_at), tuple(self.rows_at[number] for number in chosen)
        moved = {
            first + at: self.faults[firsts[number] + at]
            for number, first in zip(chosen.tolist(), _firsts(rows_at), strict=False)
            for at in range(self.rows_at[number])
            if firsts[number] + at in self.faults
        }
        table = pa.concat_tables([self.table.slice(firsts[number], self.rows_at[number]) for number in chosen.tolist()])
        return TakenSample(self.source, table, moved, rows_at, tuple(self.file_at[number] for number in chosen)), chosen

    def by_place(self) -> Source:
        """A source of which each place is a fragment."""
        return self._source(self.rows_at, self.file_at, 1)

    def in_runs(self, times: int) -> Source:
        """A source of these rows so many times, with as many rows in a fragment as others have."""
        rows, files_ = zip(*self._runs(), strict=True)
        return self._source(rows, files_, times)

    def places_of(self, fragments: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of rows of `in_runs`, int64 [N]; of the first of several times.

        Args:
            fragments: int64 [N], below the number of runs.
            rows: of the fragments, int64 [N].
        """
        firsts = np.array(_firsts([count for count, _ in self._runs()]), np.int64)
        return np.searchsorted(np.cumsum(self.rows_at), firsts[fragments] + rows, "right")

    @property
    def nruns(self) -> int:
        return len(self._runs())

    def _runs(self) -> list[tuple[int, int]]:
        """(rows, file) of places that are one fragment together."""
        found: list[tuple[int, int]] = []
        for rows, file in zip(self.rows_at, self.file_at, strict=True):
            before = found[-1] if found else (0, -1)
            if before[1] == file and before[0] + rows <= _ROWS_A_FRAGMENT:
                found[-1] = (before[0] + rows, file)
            else:
                found.append((rows, file))
        return found

    def _source(self, rows: Sequence[int], files_: Sequence[int], times: int) -> Source:
        fragments = tuple(
            Fragment(file, number, len(rows), count, self.table.nbytes * count // max(1, self.rows))
            for number, (count, file) in enumerate(zip(rows, files_, strict=True))
        )
        reader = SampleReader(tuple(_firsts(rows)), self.faults, self.table)
        return replace(self.source, fragments=fragments * times, reader=reader)


def _firsts(counts: Sequence[int]) -> list[int]:
    """Where each of several runs begins, and where the last one ends."""
    return [0, *itertools.accumulate(counts)]
