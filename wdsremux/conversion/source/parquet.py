"""Parquet files: a fragment is a row group, counted by the files' footers.

`datasets` finds the files and their features; the row groups are read here, by its rules for casts. Its own reading
opens the file and reads the footer for each of them, which costs two requests more and up to a third more bytes.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, IterableDataset
from datasets.table import table_cast

from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.errors import SourceError

# Read ahead over the network, past what is asked for: the labels' column, which lies behind the images' in a row group,
# then mostly needs no request of its own. Row groups are read in random order: the rest is thrown away.
_BLOCK_BYTES = 16_384
_FOOTERS_AT_ONCE = 16  #: each is two or three requests of a tenth of a second


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Reads row groups, one column chunk in memory at a time."""

    features: Features  #: of the columns that are read
    files: tuple[str, ...]
    names: tuple[str, ...]  #: of the files, for people

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        file, columns = self.files[fragment.file], list(self.features)
        metadata = _metadata(file) if "://" in file else None
        with _open(file) as opened, pq.ParquetFile(opened, metadata=metadata) as parquet:
            if fragment.part >= parquet.num_row_groups:
                raise SourceError(
                    f"{self.where(fragment)} is there no longer. The source changed: begin anew with --overwrite"
                )
            for batch in parquet.iter_batches(batch_rows, [fragment.part], columns, use_threads=False):
                yield self._cast(pa.Table.from_batches([batch]), fragment)

    def _cast(self, table: pa.Table, fragment: Fragment) -> pa.Table:
        """The table in the types of the features, which those of the first file decide."""
        try:
            return table_cast(table, self.features.arrow_schema)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise SourceError(f"{self.where(fragment)} has other columns than the first file: {reason}") from error

    def values(self, column: str) -> Iterator[pa.Array]:
        for file in self.files:
            with _open(file) as opened, pq.ParquetFile(opened) as parquet:
                for batch in parquet.iter_batches(columns=[column]):
                    yield batch.column(0)

    def where(self, fragment: Fragment) -> str:
        return f"row group {fragment.part} of {self.names[fragment.file]}"

    def stored(self, folder: Path) -> ParquetReader:
        return self


@functools.lru_cache(maxsize=256)
def _metadata(file: str) -> pq.FileMetaData:
    """The footer of a file on the Hub, read once a worker: its tasks draw row groups from many files."""
    with _open(file) as opened:
        return pq.read_metadata(opened)


def survey(opened: Opened, stream: IterableDataset, faults: patience.Faults) -> Survey:
    """Read all footers.

    Raises:
        SourceError: if a file is no parquet.
    """
    fragments: list[Fragment] = []
    revision = hashlib.sha256()
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE, "wdsremux-footer") as pool:
        found = pool.map(lambda file: patience.call(lambda: _footer(file), faults, file), opened.files)
        for number, (metadata, digest) in enumerate(found):
            revision.update(repr((opened.names[number], *digest)).encode())
            for group in range(metadata.num_row_groups):
                part = metadata.row_group(group)
                size_bytes = sum(part.column(c).total_compressed_size for c in range(part.num_columns))
                fragments.append(Fragment(number, group, metadata.num_row_groups, part.num_rows, size_bytes))
    return Survey(tuple(fragments), revision.hexdigest(), ParquetReader(stream.features, opened.files, opened.names))


def _footer(file: str) -> tuple[pq.FileMetaData, tuple[int, str]]:
    """A file's metadata, and (size, SHA-256 of the footer)."""
    with _open(file) as opened:
        try:
            metadata = pq.read_metadata(opened)
        except pa.ArrowInvalid as error:
            if "://" in file:
                raise  # it may be a body cut short: the caller has patience
            raise SourceError(f"{file} cannot be read as parquet: {error}") from error
        opened.seek(-8, os.SEEK_END)  # the footer's length and "PAR1" (Apache Parquet format, "File format")
        opened.seek(-8 - int.from_bytes(opened.read(4), "little"), os.SEEK_END)
        footer = opened.read()
        return metadata, (opened.tell(), hashlib.sha256(footer).hexdigest())


def _open(file: str) -> Any:
    return fsspec.open(file, "rb", block_size=_BLOCK_BYTES) if "://" in file else open(file, "rb")
