"""Arrow files, `save_to_disk` among them: a fragment is a record batch, 100 rows where `datasets` wrote the images.

`datasets` streams such a file from front to end only. Sorted by class, as many sets are, a task would then see one or
two files of thousands of rows, where it can draw from a hundred record batches.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from datasets import IterableDataset
from datasets.table import table_cast

from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.errors import SourceError


@dataclass(frozen=True, slots=True)
class ArrowReader:
    """Maps files into memory: of what is not looked at, nothing is read."""

    schema: pa.Schema  #: of the columns that are read, images undecoded
    files: tuple[str, ...]
    names: tuple[str, ...]  #: of the files, for people

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        with _batches(self.files[fragment.file]) as batches:
            batch = next(itertools.islice(batches, fragment.part, None), None)
        if batch is None:
            return
        batch.validate(full=True)  # offsets of a damaged file may point anywhere
        table = table_cast(pa.Table.from_batches([batch]).select(self.schema.names), self.schema)
        for at in range(0, len(table), batch_rows):
            yield table.slice(at, batch_rows)

    def values(self, column: str) -> Iterator[pa.Array]:
        for file in self.files:
            with _batches(file) as batches:
                yield from (batch.column(column) for batch in batches)

    def where(self, fragment: Fragment) -> str:
        return f"record batch {fragment.part} of {self.names[fragment.file]}"

    def stored(self, folder: Path) -> ArrowReader:
        return self


def survey(opened: Opened, stream: IterableDataset, faults: patience.Faults) -> Survey:
    """Count the rows of all files, by the headers of their record batches.

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
            found = _sizes(file, revision)
            revision.update(repr((name, os.path.getsize(file), found)).encode())
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{name} cannot be read as Arrow: {error}. Fetch it again") from error
        fragments += [Fragment(number, part, len(found), *size) for part, size in enumerate(found)]
    schema = stream.features.arrow_schema
    return Survey(tuple(fragments), revision.hexdigest(), ArrowReader(schema, opened.files, opened.names))


def _sizes(file: str, revision: hashlib._Hash) -> list[tuple[int, int]]:
    """(rows, bytes) of each record batch; the columns' names, types and features go into the revision."""
    found = []
    with _batches(file) as batches:
        for number, batch in enumerate(batches):
            if number == 0:
                revision.update(repr((batch.schema.names, batch.schema.types, batch.schema.metadata)).encode())
            found.append((len(batch), batch.nbytes))
    return found


@contextlib.contextmanager
def _batches(file: str) -> Iterator[Iterator[pa.RecordBatch]]:
    """The record batches of a file; each keeps its part of the mapping alive."""
    with pa.memory_map(file) as mapped:
        try:
            batches = iter(pa.ipc.open_stream(mapped))
        except pa.ArrowInvalid:  # the other format (Arrow columnar format, "IPC File Format")
            reader = pa.ipc.open_file(mapped)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        yield batches
