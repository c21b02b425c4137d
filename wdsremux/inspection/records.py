"""What lies beside the shards: manifest, sample table, rejects. Each is taken for hostile until shown to be sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wdsremux.errors import FormatError
from wdsremux.format import keys, manifest, rejects, samples
from wdsremux.format.manifest import Manifest
from wdsremux.format.plain import MEND
from wdsremux.inspection.reading import readable, size_of

LINE_BYTES = 2**24  #: no line of rejects.jsonl is longer
_TABLE_START = b"\x93NUMPY\x01\x00"  #: of an .npy file, version 1.0; with any other, np.load takes zips and pickles
_U4 = 2**32
_PIECE = 2**20  #: samples whose places are worked out at once


def read_manifest(folder: Path) -> Manifest:
    """A split's manifest, if it is this split's.

    Raises:
        FormatError: if it is missing, damaged, of another version, or of another split.
    """
    path = folder / manifest.NAME
    size_of(path)
    read = manifest.read(folder)
    if read.split != folder.name:
        raise FormatError(
            f"is the manifest of split {read.split!r}: it was moved or renamed. Move it back to its own folder",
            path.name,
        )
    return read


def open_table(path: Path, count: int) -> samples.Table:
    """Map the sample table into memory.

    Raises:
        FormatError: if it is no table of `count` samples.
    """
    size_of(path)
    with readable(path), open(path, "rb") as file:
        if file.read(len(_TABLE_START)) != _TABLE_START:
            raise FormatError(f"is not a sample table. {MEND}", path.name)
    try:
        table = samples.read(path)
    except FormatError as error:
        raise FormatError(error.what, path.name) from error
    if len(table) != count:
        raise FormatError(
            f"has the wrong number of records: {len(table)}, but the manifest says {count}. {MEND}", path.name
        )
    return table


@dataclass(frozen=True, slots=True)
class Places:
    """The places in the source of all samples, sorted: 8 bytes a sample, 12 for those that are not a row's first."""

    table: samples.Table
    rows: NDArray[np.uint64]  #: [N], fragment * 2^32 + row, of samples that are part 0 of their row
    other_rows: NDArray[np.uint64]  #: [M], of the other samples
    other_parts: NDArray[np.uint32]  #: [M]

    @staticmethod
    def of(table: samples.Table) -> Places:
        """The places of a table's samples."""
        first = table["part"] == 0
        rows, others, filled = np.empty(np.count_nonzero(first), np.uint64), [], 0
        for at in range(0, max(1, len(table)), _PIECE):
            piece, chosen = table[at : at + _PIECE], first[at : at + _PIECE]
            found = piece["fragment"].astype(np.uint64) << np.uint64(32) | piece["row"]
            others.append((found[~chosen], piece["part"][~chosen]))
            found = found[chosen]
            rows[filled : filled + len(found)] = found
            filled += len(found)
        rows.sort()  # numbers alone: 0.8 s for 20 million, where lexsort of rows and parts takes 5.2
        other_rows, other_parts = (np.concatenate(pieces) for pieces in zip(*others, strict=True))
        order = np.lexsort((other_parts, other_rows))
        return Places(table, rows, other_rows[order], other_parts[order])

    def repeated(self) -> tuple[int, int] | None:
        """Two samples of one place, the earlier first; None if each is alone."""
        same = self.rows[1:] == self.rows[:-1]
        if same.any():
            return self._first_two(int(self.rows[int(same.argmax())]), 0)
        same = (self.other_rows[1:] == self.other_rows[:-1]) & (self.other_parts[1:] == self.other_parts[:-1])
        if same.any():
            at = int(same.argmax())
            return self._first_two(int(self.other_rows[at]), int(self.other_parts[at]))
        return None

    def _first_two(self, row: int, part: int) -> tuple[int, int]:
        table = self.table
        alike = (table["fragment"] == row >> 32) & (table["row"] == row & _U4 - 1) & (table["part"] == part)
        first, second = np.flatnonzero(alike)[:2].tolist()
        return first, second

    def holds(self, fragment: int, row: int, part: int | None) -> bool:
        """Whether a sample was made of that row, or of that part of it."""
        wanted = np.uint64(fragment << 32 | row)
        low, high = (int(np.searchsorted(self.rows, wanted, side)) for side in ("left", "right"))
        if part in (None, 0) and low < high:
            return True
        low, high = (int(np.searchsorted(self.other_rows, wanted, side)) for side in ("left", "right"))
        return low < high if part is None else part in self.other_parts[low:high]


def check_rejects(path: Path, count: int, places: Places | None) -> None:
    """Read the rejects line by line.

    Raises:
        FormatError: at the first line that is no reject or names what is also a sample, or if there are not `count`.
    """
    number = 0
    with readable(path), open(path, "rb") as file:
        while line := file.readline(LINE_BYTES):
            number += 1
            reject = rejects.loads(line)
            if reject is None:
                raise FormatError(f"is damaged: line {number} is not a valid reject. {MEND}", path.name)
            if places is not None and places.holds(reject.fragment, reject.row, reject.part):
                key = keys.key(reject.fragment, reject.row, reject.part or 0)
                raise FormatError(
                    f"lists {key} as a reject in line {number}, but it is also a sample. {MEND}", path.name
                )
    if number != count:
        raise FormatError(
            f"has the wrong number of rejects: {number}, but the manifest says {count}. {MEND}", path.name
        )
