"""Places of a source -> their rows, images and all; and what it took to read them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from wdsremux.conversion.datasets_quirks import tidied
from wdsremux.conversion.source import Fault, Source
from wdsremux.conversion.source.base import Piece
from wdsremux.conversion.source.retry import call
from wdsremux.errors import SourceError
from wdsremux.forecast.places import SampledPlace

_AT_ONCE = 16  #: fragments of a remote source: each is some requests of a tenth of a second
_ROWS_AT_ONCE = 16  #: of a fragment that is read from its beginning


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of a source, place by place."""

    places: tuple[SampledPlace, ...]  #: those where there were rows, with as many as there were
    pieces: tuple[Piece, ...]  #: of each; the image's column is binary and null where there is none
    image_bytes: tuple[int, ...]  #: of each
    wall_s: float  #: that reading took, several fragments at once where the source is remote

    @property
    def rows(self) -> int:
        return sum(place.rows for place in self.places)


def take(source: Source, places: Sequence[SampledPlace], told: Callable[[float], None]) -> Taken:
    """Read the rows of some places.

    Args:
        source: an opened split.
        places: in the source's order.
        told: is called with the share that is done.

    Raises:
        SourceError: if a fragment cannot be read.
    """
    runs = [list(run) for _, run in itertools.groupby(places, key=lambda place: place.fragment)]
    begun_s = time.perf_counter()
    found: list[tuple[SampledPlace, Piece]] = []

    def taken(run: Sequence[SampledPlace]) -> list[tuple[SampledPlace, Piece]]:
        where = source.where(run[0].fragment)
        return call(lambda: list(_filled(source, _read(source, run))), source.faults, where)

    with tidied(), ThreadPoolExecutor(_AT_ONCE if source.files.remote else 1, "wdsremux-look") as pool:
        for number, each in enumerate(pool.map(taken, runs)):
            found += each
            told((number + 1) / len(runs))
    wall_s = time.perf_counter() - begun_s
    if not found:
        raise SourceError(f"{source.description['name']} has no rows where it was looked at. Download it again")
    pieces = [piece for _, piece in found]
    sizes = [int(piece.table.column(source.columns.image).nbytes) for piece in pieces]
    return Taken(tuple(place for place, _ in found), tuple(pieces), tuple(sizes), wall_s)


def _read(source: Source, run: Sequence[SampledPlace]) -> Iterator[tuple[SampledPlace, Piece]]:
    """The places of one fragment, as the reader gives their rows."""
    fragment, names = source.fragments[run[0].fragment], source.columns.names
    by_row = source.finding is not None and source.finding.by_row
    at, held = 0, list[tuple[int, Piece]]()
    reader = source.reader.sparing(max(place.first + place.rows for place in run))
    pieces = reader.pieces(fragment, names, 1 if by_row else _ROWS_AT_ONCE)
    for place in run:
        while at < place.first + place.rows and (piece := next(pieces, None)) is not None:
            if at + len(piece.table) > place.first:  # or it is only passed over
                held.append((at, piece))
            at += len(piece.table)
        parts = [_cut(first, piece, place) for first, piece in held]
        parts = [part for part in parts if len(part.table)]
        held = held[-1:]  # the next place may begin in it
        if parts:
            joined = _joined(parts)
            yield replace(place, rows=len(joined.table)), joined


def _cut(first: int, piece: Piece, place: SampledPlace) -> Piece:
    """The rows of a piece that are of a place."""
    begin = max(0, place.first - first)
    count = max(0, min(len(piece.table), place.first + place.rows - first) - begin)
    faults = {at - begin: fault for at, fault in piece.faults.items() if begin <= at < begin + count}
    return Piece(piece.table.slice(begin, count), faults)


def _joined(parts: Sequence[Piece]) -> Piece:
    faults: dict[int, Fault] = {}
    count = 0
    for part in parts:
        faults |= {count + at: fault for at, fault in part.faults.items()}
        count += len(part.table)
    # Copied, because a slice would keep all rows that were read with it in memory.
    return Piece(pa.concat_tables([part.table for part in parts]).take(np.arange(count)), faults)


def _filled(source: Source, found: Iterator[tuple[SampledPlace, Piece]]) -> Iterator[tuple[SampledPlace, Piece]]:
    """With the images of which rows hold only the path."""
    columns = source.columns
    for place, piece in found:
        images, missing = source.files.fill(*columns.images(piece.table))
        absent = {at: Fault(columns.image, reason) for at, reason in missing.items()}
        at = piece.table.column_names.index(columns.image)
        yield place, Piece(piece.table.set_column(at, columns.image, images), {**absent, **piece.faults})
