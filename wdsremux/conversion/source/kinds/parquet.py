"""Parquet files: a fragment is a row group, counted by the files' footers.

`datasets` finds the files of a Hub source; everything else is read here. Only the columns that are asked for are looked
at: a map or an odd type beside them is nobody's trouble.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Fragment, Opened, Piece, Survey, fixed
from wdsremux.conversion.source.hub_files import HubFile, RangeFile, hub_file
from wdsremux.conversion.source.kinds import partitions
from wdsremux.conversion.source.kinds.schemas import Merged
from wdsremux.errors import SourceError, one_line

_WHOLE_BYTES = 8 * 2**20  #: of a row group; 100 photographs of 80 KB. pandas puts a million rows into one
_BUFFER_BYTES = 2**20  #: of a larger one, so that memory does not grow with it
_REMOTE_BUFFER_BYTES = 8 * 2**20  #: likewise, where each read is a request of a tenth of a second
_PAGE_BYTES = 2**16  #: what a page's header needs; the rest of a page is asked for by its size
_HEAD_BYTES = 2**15  #: that may stand before the values of a page
_SPARE = 1.5  #: times the bytes that rows have on average, to read of a page in part
_FOOTERS_AT_ONCE = 16  #: each is two or three requests of a tenth of a second


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Reads row groups, one column chunk in memory at a time."""

    files: tuple[str | HubFile, ...]
    names: tuple[str, ...]  #: of the files, for people
    partitions: Mapping[str, pa.DataType] = field(default_factory=dict)  #: columns that the paths state
    wanted: int | None = None  #: rows from the beginning of a row group; None: all of it

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        given = 0
        for piece in self._first_pieces(fragment, names, batch_rows):
            given += len(piece.table)
            yield piece
        at = 0
        for piece in self._pieces(fragment, names, batch_rows):
            at += len(piece.table)
            if at > given:
                yield piece

    def _first_pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        """Those for which the beginnings of pages on the Hub are enough; none of pages that have to be read whole.

        Values of an uncompressed page follow each other (Parquet format, "Encodings": PLAIN), so that the first ones
        can be had without the rest of a page, which is 1 MB.
        """
        file = self.files[fragment.file]
        if self.wanted is None or not isinstance(file, HubFile):
            return
        rows = -(-self.wanted // batch_rows) * batch_rows
        head_bytes = _HEAD_BYTES + (fragment.rows or 0) // 4  # levels take two bits a row at most
        most_bytes = head_bytes + int(_SPARE * rows * fragment.size_bytes / max(1, fragment.rows or 0))
        if not _can_be_cut(_metadata(file).row_group(fragment.part), names, most_bytes):
            return
        used_bytes = [head_bytes] * len(names)
        for piece in self._pieces(fragment, names, batch_rows, most_bytes):
            columns = zip(used_bytes, piece.table.columns, strict=True)
            used_bytes = [used + column.nbytes for used, column in columns]  # with lengths of 4 bytes or more
            if max(used_bytes) > most_bytes:
                return
            yield piece

    def _pieces(
        self, fragment: Fragment, names: Sequence[str], batch_rows: int, most_bytes: int | None = None
    ) -> Iterator[Piece]:
        file = self.files[fragment.file]
        with _damage(file, self.where(fragment)):
            metadata = None if isinstance(file, str) else _metadata(file)
            buffer = self._buffer_bytes(fragment)
            # What is read ahead by column is all of a column, whatever the buffer.
            reading: dict[str, Any] = {"buffer_size": buffer, "pre_buffer": False} if buffer else {}
            with _open(file, most_bytes) as opened, pq.ParquetFile(opened, metadata=metadata, **reading) as parquet:
                if fragment.part >= parquet.num_row_groups:
                    raise SourceError(
                        f"{self.where(fragment)} no longer exists. The source changed: start again with --overwrite"
                    )
                inside, stated = self._divided(parquet, names, fragment)
                for batch in parquet.iter_batches(batch_rows, [fragment.part], inside, use_threads=False):
                    table = pa.Table.from_batches([batch])
                    for name in stated:
                        table = partitions.append(table, name, self.partitions[name], self.names[fragment.file])
                    yield Piece(table)

    def _buffer_bytes(self, fragment: Fragment) -> int:
        """How much of a column is read at once; 0: all of it, which is quickest where that is not much."""
        if self.wanted is not None:
            return _PAGE_BYTES
        if fragment.size_bytes <= _WHOLE_BYTES:
            return 0
        return _REMOTE_BUFFER_BYTES if isinstance(self.files[fragment.file], HubFile) else _BUFFER_BYTES

    def _divided(
        self, parquet: pq.ParquetFile, names: Sequence[str], fragment: Fragment
    ) -> tuple[list[str], list[str]]:
        """The columns that lie in the file, and those that its path states."""
        present = set(parquet.schema_arrow.names)
        stated = [name for name in names if name not in present]
        if strange := [name for name in stated if name not in self.partitions]:
            raise SourceError(
                f"{self.where(fragment)} no longer has the column {strange[0]!r}. "
                "The source changed: start again with --overwrite"
            )
        return [name for name in names if name in present], stated

    def values(self, column: str) -> Iterator[tuple[int, pa.Array]]:
        for number, (file, name) in enumerate(zip(self.files, self.names, strict=True)):
            with _damage(file, name), _open(file) as opened, pq.ParquetFile(opened) as parquet:
                if column not in parquet.schema_arrow.names:
                    if column in self.partitions:  # else a file of another split, which may lack it
                        empty = pa.table({"": pa.nulls(1)})
                        yield number, partitions.append(empty, column, self.partitions[column], name)[column].chunk(0)
                    continue
                for batch in parquet.iter_batches(columns=[column]):
                    yield number, batch.column(0)

    def where(self, fragment: Fragment) -> str:
        return f"row group {fragment.part} of {self.names[fragment.file]}"

    def stored(self, folder: Path) -> ParquetReader:
        return self

    def sparing(self, rows: int) -> ParquetReader:
        return replace(self, wanted=rows)


@functools.lru_cache(maxsize=256)
def _metadata(file: HubFile) -> pq.FileMetaData:
    """The footer of a file on the Hub, read once a worker: its tasks draw row groups from many files."""
    with _open(file) as opened:
        return pq.read_metadata(opened)


def survey(opened: Opened, faults: retry.Faults) -> Survey:
    """Read all footers.

    Raises:
        SourceError: if a file is no parquet.
    """
    fragments: list[Fragment] = []
    revision = hashlib.sha256()
    files: list[str | HubFile] = []
    stated = partitions.types(opened.names)
    merged, least = Merged(opened.features, stated), _Least()
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE, "wdsremux-footer") as pool:
        found = pool.map(lambda file: retry.call(lambda: _footer(file, faults), faults, file), opened.files)
        for number, (file, metadata, digest) in enumerate(found):
            files.append(file)
            with _damage(file, opened.names[number]):
                merged.add(metadata.schema.to_arrow_schema(), opened.names[number])
            least.add(metadata)
            revision.update(repr((opened.names[number], *digest)).encode())
            for group in range(metadata.num_row_groups):
                part = metadata.row_group(group)
                size_bytes = sum(part.column(c).total_compressed_size for c in range(part.num_columns))
                fragments.append(Fragment(number, group, metadata.num_row_groups, part.num_rows, size_bytes))
    reader = ParquetReader(tuple(files), opened.names, stated)
    return Survey(tuple(fragments), fixed(revision.hexdigest()), merged.columns(least.of), reader)


class _Least:
    """The least integer of each flat column, as the footers' statistics tell it (Apache Parquet format, "Statistics").

    A file without them leaves it open.
    """

    def __init__(self) -> None:
        self._found: dict[str, int | None] = {}

    def add(self, metadata: pq.FileMetaData) -> None:
        """Take up the next file."""
        numbers = [
            c for c in range(metadata.num_columns) if metadata.schema.column(c).physical_type in ("INT32", "INT64")
        ]
        for group in range(metadata.num_row_groups):
            part = metadata.row_group(group)
            for c in numbers:
                self._add(part.column(c))

    def _add(self, chunk: Any) -> None:
        name, statistics = chunk.path_in_schema, chunk.statistics
        if statistics is not None and statistics.null_count == chunk.num_values:
            return  # nothing but nulls
        value = statistics.min_raw if statistics is not None and statistics.has_min_max else None
        before = self._found.get(name, value)
        self._found[name] = None if value is None or before is None else min(int(value), before)

    def of(self, name: str) -> int | None:
        """That of a column; None where it is not told."""
        return self._found.get(name)


def _footer(name: str, faults: retry.Faults) -> tuple[str | HubFile, pq.FileMetaData, tuple[int, str]]:
    """A file, with what is now known of it; its metadata; and (size, SHA-256 of the footer)."""
    file: str | HubFile = name
    if found := hub_file(name, faults):
        filesystem, path = fsspec.url_to_fs(name)
        file = replace(found, size_bytes=filesystem.info(path)["size"])
    with _open(file) as opened:
        with _damage(file, name):
            metadata = pq.read_metadata(opened)
        opened.seek(-8, os.SEEK_END)  # the footer's length and "PAR1" (Apache Parquet format, "File format")
        opened.seek(-8 - int.from_bytes(opened.read(4), "little"), os.SEEK_END)
        footer = opened.read()
        known = opened.file if isinstance(opened, RangeFile) else file
        return known, metadata, (opened.tell(), hashlib.sha256(footer).hexdigest())


@contextlib.contextmanager
def _damage(file: str | HubFile, where: str) -> Iterator[None]:
    """Tell what Arrow finds wrong with a file: it is damaged, as long as no network may have done it.

    Raises:
        SourceError: if it is. What the network does to a file on the Hub is a SourceError of its own by then.
    """
    kinds = (pa.ArrowException, OSError) if isinstance(file, HubFile) else (pa.ArrowInvalid,)
    try:
        yield
    except kinds as error:
        if isinstance(file, str) and _is_address(file):
            raise  # it may be a body cut short: the caller has patience
        advice = (
            "Download it again"
            if isinstance(file, str)
            else "Report it to the owner of the data set, or choose another --revision"
        )
        raise SourceError(f"{where} cannot be read as parquet: {one_line(error)}. {advice}") from error


def _can_be_cut(group: Any, names: Sequence[str], most_bytes: int) -> bool:
    """Whether the first values of the columns can be read without the rest of their pages, where those are large."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    large = [chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] in names]
    large = [chunk for chunk in large if chunk.total_compressed_size > most_bytes]
    plain = [chunk.compression == "UNCOMPRESSED" and not chunk.has_dictionary_page for chunk in large]
    return all(plain) and all({"PLAIN", "RLE"} >= set(chunk.encodings) for chunk in large)


def _open(file: str | HubFile, most_bytes: int | None = None) -> Any:
    if isinstance(file, HubFile):
        return RangeFile(file, most_bytes)
    return fsspec.open(file, "rb") if _is_address(file) else pa.OSFile(file, "rb")


def _is_address(file: str) -> bool:
    return "://" in file and not file.startswith("/")
