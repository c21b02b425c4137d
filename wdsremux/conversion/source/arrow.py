"""Arrow files, `save_to_disk` among them: a fragment is a file, counted by its record batches' headers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from datasets import IterableDataset

from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.errors import SourceError


@dataclass(frozen=True, slots=True)
class ArrowReader:
    """Reads files through `datasets`, one record batch in memory at a time."""

    stream: IterableDataset  #: one shard a file
    files: tuple[str, ...]
    names: tuple[str, ...]

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        piece = self.stream.shard(len(self.files), fragment.file)
        yield from piece.with_format("arrow").iter(batch_size=batch_rows)

    def values(self, column: str) -> Iterator[pa.Array]:
        for file in self.files:
            for batch in _batches(file):
                yield batch.column(column)

    def where(self, fragment: Fragment) -> str:
        return self.names[fragment.file]

    def stored(self, folder: Path) -> ArrowReader:
        return self


def survey(opened: Opened, stream: IterableDataset, faults: patience.Faults) -> Survey:
    """Count the rows of all files.

    Raises:
        SourceError: if they are not on this machine, or one is damaged.
    """
    if opened.remote:
        raise SourceError(
            f"{opened.name} holds Arrow files, whose rows cannot be counted over the network. "
            "Take its parquet files (--revision refs/convert/parquet), or download it and give the folder"
        )
    fragments: list[Fragment] = []
    revision = hashlib.sha256()
    for number, (file, name) in enumerate(zip(opened.files, opened.names, strict=True)):
        try:
            rows = sum(len(batch) for batch in _batches(file))
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{file} cannot be read as Arrow: {error}") from error
        size_bytes = os.path.getsize(file)
        revision.update(repr((name, size_bytes, rows)).encode())
        fragments.append(Fragment(number, 0, 1, rows, size_bytes))
    return Survey(tuple(fragments), revision.hexdigest(), ArrowReader(stream, opened.files, opened.names))


def _batches(file: str) -> Iterator[pa.RecordBatch]:
    """The record batches of a file, mapped into memory: what is not looked at is not read."""
    with pa.memory_map(file) as mapped:
        try:
            stream = pa.ipc.open_stream(mapped)
        except pa.ArrowInvalid:  # the other format (Arrow columnar format, "IPC File Format")
            reader = pa.ipc.open_file(mapped)
            stream = (reader.get_batch(number) for number in range(reader.num_record_batches))
        yield from stream
