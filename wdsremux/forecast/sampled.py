"""The rows that were taken, as a source of their own: small conversions of it measure what a large one will cost."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from wdsremux import files
from wdsremux.conversion.source import Fault, Fragment, Source
from wdsremux.conversion.source.base import STORED, Piece
from wdsremux.conversion.source.image_files import Files
from wdsremux.forecast.taking import Taken


@dataclass(frozen=True, slots=True)
class SampleReader:
    """Gives the rows of a place; a fragment is a place."""

    ends: tuple[int, ...]  #: of the places in the table
    faults: Mapping[int, Fault]  #: by row of the table
    table: pa.Table | None = field(default=None, repr=False)  #: in the process that took the rows
    stored_in: Path | None = None  #: where the others find it

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        table = (_mapped(self.stored_in) if self.table is None else self.table).select(list(names))
        stop = self.ends[fragment.part]
        for first in range(stop - (fragment.rows or 0), stop, batch_rows):
            count = min(batch_rows, stop - first)
            faults = {at: self.faults[first + at] for at in range(count) if first + at in self.faults}
            yield Piece(table.slice(first, count), faults)

    def values(self, column: str) -> Iterator[tuple[int, pa.Array]]:
        """See `SourceReader.values`; labels are numbered by the whole source, and nobody asks here."""
        raise NotImplementedError(f"the values of {column} were counted before")

    def where(self, fragment: Fragment) -> str:
        return f"place {fragment.part} of the sample"

    def stored(self, folder: Path) -> SampleReader:
        if self.table is None:
            return self
        with files.atomic(folder / STORED) as file, pa.ipc.new_file(file, self.table.schema) as writer:
            writer.write_table(self.table)
        return replace(self, table=None, stored_in=folder / STORED)

    def sparing(self) -> SampleReader:
        return self


@functools.lru_cache(maxsize=2)
def _mapped(path: Path | None) -> pa.Table:
    with pa.memory_map(str(path)) as mapped:  # the table keeps the mapping alive
        return pa.ipc.open_file(mapped).read_all()


def sampled(source: Source, taken: Taken) -> Source:
    """The rows that were taken of a source, with its labels and kept columns; place number i is fragment i."""
    rows = [place.rows for place in taken.places]
    ends = tuple(int(end) for end in np.cumsum(rows))
    faults = {
        end - place.rows + at: fault
        for end, place, piece in zip(ends, taken.places, taken.pieces, strict=True)
        for at, fault in piece.faults.items()
    }
    table = pa.concat_tables([piece.table for piece in taken.pieces], promote_options="permissive")
    fragments = tuple(
        Fragment(source.fragments[place.fragment].file, number, len(rows), place.rows, size)
        for number, (place, size) in enumerate(zip(taken.places, taken.image_bytes, strict=True))
    )
    return replace(
        source,
        fragments=fragments,
        reader=SampleReader(ends, faults, table),
        files=Files("", remote=False),
        local_files=(),
        stamp=None,
        notes=(),
        warnings=(),
        finding=None,
    )


def repeated(source: Source, times: int) -> Source:
    """The same rows several times, one after the other; place number i is each fragment that is i modulo the places."""
    return replace(source, fragments=source.fragments * times)


def thinned(source: Source, count: int) -> Source:
    """Some of the places, spread evenly."""
    kept = np.unique(np.linspace(0, len(source.fragments) - 1, count).astype(int))
    return replace(source, fragments=tuple(source.fragments[number] for number in kept))
