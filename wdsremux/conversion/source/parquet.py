"""Parquet files: a fragment is a row group, counted by the files' footers.

`datasets` finds the files and their features; the row groups are read here, by its rules for casts. Its own reading
opens the file and reads the footer for each of them, which costs two requests more and up to a third more bytes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, IterableDataset
from datasets.table import table_cast

from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.conversion.source.remote import HubFile, Ranges, hub_file
from wdsremux.errors import SourceError

_FOOTERS_AT_ONCE = 16  #: each is two or three requests of a tenth of a second


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Reads row groups, one column chunk in memory at a time."""

    features: Features  #: of the columns that are read
    files: tuple[str | HubFile, ...]
    names: tuple[str, ...]  #: of the files, for people

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        file, columns, schema = self.files[fragment.file], list(self.features), self.features.arrow_schema
        with _damage(file, self.where(fragment)):
            metadata = None if isinstance(file, str) else _metadata(file)
            with _open(file) as opened, pq.ParquetFile(opened, metadata=metadata) as parquet:
                if fragment.part >= parquet.num_row_groups:
                    raise SourceError(
                        f"{self.where(fragment)} is there no longer. The source changed: begin anew with --overwrite"
                    )
                for batch in parquet.iter_batches(batch_rows, [fragment.part], columns, use_threads=False):
                    yield self._cast(pa.Table.from_batches([batch]), schema, fragment)

    def _cast(self, table: pa.Table, schema: pa.Schema, fragment: Fragment) -> pa.Table:
        """The table in the types of the features, which those of the first file decide."""
        try:
            return table_cast(table, schema)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise SourceError(f"{self.where(fragment)} has other columns than the first file: {reason}") from error

    def values(self, column: str) -> Iterator[pa.Array]:
        for file, name in zip(self.files, self.names, strict=True):
            with _damage(file, name), _open(file) as opened, pq.ParquetFile(opened) as parquet:
                for batch in parquet.iter_batches(columns=[column]):
                    yield batch.column(0)

    def where(self, fragment: Fragment) -> str:
        return f"row group {fragment.part} of {self.names[fragment.file]}"

    def stored(self, folder: Path) -> ParquetReader:
        return self


@functools.lru_cache(maxsize=256)
def _metadata(file: HubFile) -> pq.FileMetaData:
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
    files: list[str | HubFile] = []
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE, "wdsremux-footer") as pool:
        found = pool.map(lambda file: patience.call(lambda: _footer(file, faults), faults, file), opened.files)
        for number, (file, metadata, digest) in enumerate(found):
            files.append(file)
            revision.update(repr((opened.names[number], *digest)).encode())
            for group in range(metadata.num_row_groups):
                part = metadata.row_group(group)
                size_bytes = sum(part.column(c).total_compressed_size for c in range(part.num_columns))
                fragments.append(Fragment(number, group, metadata.num_row_groups, part.num_rows, size_bytes))
    return Survey(tuple(fragments), revision.hexdigest(), ParquetReader(stream.features, tuple(files), opened.names))


def check_footer(file: str, faults: patience.Faults) -> None:
    """
    Raises:
        SourceError: if it has none.
    """
    patience.call(lambda: _footer(file, faults), faults, file)


def _footer(name: str, faults: patience.Faults) -> tuple[str | HubFile, pq.FileMetaData, tuple[int, str]]:
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
        known = opened.file if isinstance(opened, Ranges) else file
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
        if isinstance(file, str) and "://" in file:
            raise  # it may be a body cut short: the caller has patience
        advice = "Fetch it again" if isinstance(file, str) else "Tell its owner, or take another --revision"
        reason = " ".join(str(error).split()).rstrip(".")
        raise SourceError(f"{where} cannot be read as parquet: {reason}. {advice}") from error


def _open(file: str | HubFile) -> Any:
    if isinstance(file, HubFile):
        return Ranges(file)
    return fsspec.open(file, "rb") if "://" in file else pa.OSFile(file, "rb")
