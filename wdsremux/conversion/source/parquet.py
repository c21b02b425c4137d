"""Parquet files: a fragment is a row group, counted by the files' footers."""

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
from datasets import IterableDataset

from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.errors import SourceError

# Row groups are read in random order: with the default read-ahead that costs half as much again over the network.
BLOCK_BYTES = 65_536
_FOOTERS_AT_ONCE = 16  #: each is two or three requests of a tenth of a second


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Reads row groups through `datasets`."""

    stream: IterableDataset  #: one shard a file
    files: tuple[str, ...]  #: in the order of the stream
    names: tuple[str, ...]  #: of the files, for people

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        piece = _file(self.stream, len(self.files), fragment.file).shard(fragment.parts, fragment.part)
        yield from piece.with_format("arrow").iter(batch_size=batch_rows)

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
def _file(stream: IterableDataset, nfiles: int, number: int) -> IterableDataset:
    """One file of the source, split by row group. Reads its footer, hence the cache: a task draws from many files."""
    return stream.shard(nfiles, number).reshard()


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
    return Survey(tuple(fragments), revision.hexdigest(), ParquetReader(stream, opened.files, opened.names))


def _footer(file: str) -> tuple[pq.FileMetaData, tuple[int, str]]:
    """A file's metadata, and (size, SHA-256 of the footer)."""
    with _open(file) as opened:
        try:
            metadata = pq.read_metadata(opened)
        except pa.ArrowInvalid as error:
            raise SourceError(f"{file} cannot be read as parquet: {error}") from error
        opened.seek(-8, os.SEEK_END)  # the footer's length and "PAR1" (Apache Parquet format, "File format")
        opened.seek(-8 - int.from_bytes(opened.read(4), "little"), os.SEEK_END)
        footer = opened.read()
        return metadata, (opened.tell(), hashlib.sha256(footer).hexdigest())


def _open(file: str) -> Any:
    return fsspec.open(file, "rb", block_size=BLOCK_BYTES) if "://" in file else open(file, "rb")  # noqa: SIM115
