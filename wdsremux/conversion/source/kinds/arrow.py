"""Arrow files, `save_to_disk` among them: a fragment is a record batch, 100 rows where `datasets` wrote the images.

`datasets` streams such a file from front to end only. Sorted by class, as many sets are, a task would then see one or
two files of thousands of rows, where it can draw from a hundred record batches.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Fragment, Opened, Piece, Survey, fixed
from wdsremux.conversion.source.kinds import partitions
from wdsremux.conversion.source.kinds.schemas import Merged
from wdsremux.errors import SourceError


@dataclass(frozen=True, slots=True)
class ArrowReader:
    """Maps files into memory: of what is not looked at, nothing is read."""

    files: tuple[str, ...]
    names: tuple[str, ...]  #: of the files, for people
    partitions: Mapping[str, pa.DataType] = field(default_factory=dict)  #: columns that the paths state
    offsets: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  #: by file: of its record batches, in a stream

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        offsets = self.offsets.get(fragment.file)
        with _opened(self.files[fragment.file], offsets[fragment.part] if offsets else None) as (_, batches):
            batch = next(itertools.islice(batches, 0 if offsets else fragment.part, None), None)
        if batch is None:
            return
        inside = [name for name in names if name in batch.schema.names]
        batch = batch.select(inside)
        for column in batch.columns:
            _as_bytes(column).validate(full=True)  # offsets of a damaged file may point anywhere
        table = pa.Table.from_batches([batch])
        for name in names:
            if name not in inside:
                table = partitions.append(table, name, self.partitions[name], self.names[fragment.file])
        for at in range(0, len(table), batch_rows):
            yield Piece(table.slice(at, batch_rows))

    def values(self, column: str) -> Iterator[tuple[int, pa.Array]]:
        for number, (file, name) in enumerate(zip(self.files, self.names, strict=True)):
            with _opened(file) as (schema, batches):
                if column not in schema.names:
                    if column in self.partitions:  # else a file of another split, which may lack it
                        empty = pa.table({"": pa.nulls(1)})
                        yield number, partitions.append(empty, column, self.partitions[column], name)[column].chunk(0)
                    continue
                yield from ((number, batch.column(column)) for batch in batches)

    def where(self, fragment: Fragment) -> str:
        return f"record batch {fragment.part} of {self.names[fragment.file]}"

    def stored(self, folder: Path) -> ArrowReader:
        return self

    def sparing(self, rows: int) -> ArrowReader:
        return self


def survey(opened: Opened, faults: retry.Faults) -> Survey:
    """Count the rows of all files, by the headers of their record batches.

    Raises:
        SourceError: if they are not on this machine, or one is damaged.
    """
    if opened.remote:
        raise SourceError(
            f"{opened.name} contains Arrow files, whose rows cannot be counted over the network. "
            "Use its parquet files (--revision refs/convert/parquet), or download it and give the folder"
        )
    fragments: list[Fragment] = []
    revision = hashlib.sha256()
    stated = partitions.types(opened.names)
    merged = Merged(opened.features, stated)
    offsets: dict[int, tuple[int, ...]] = {}
    for number, (file, name) in enumerate(zip(opened.files, opened.names, strict=True)):
        try:
            schema, found = _sizes(file, revision)
            merged.add(schema, name)
            if (places := _offsets(file)) is not None and len(places) == len(found):
                offsets[number] = places
            revision.update(repr((name, os.path.getsize(file), found)).encode())
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{name} cannot be read as Arrow: {error}. Download it again") from error
        fragments += [Fragment(number, part, len(found), *size) for part, size in enumerate(found)]
    reader = ArrowReader(opened.files, opened.names, stated, offsets)
    return Survey(tuple(fragments), fixed(revision.hexdigest()), merged.columns(), reader)


def _sizes(file: str, revision: hashlib._Hash) -> tuple[pa.Schema, list[tuple[int, int]]]:
    """The schema, and (rows, bytes) of each record batch; what is known of the columns goes into the revision."""
    found = []
    with _opened(file) as (schema, batches):
        for number, batch in enumerate(batches):
            if number == 0:
                revision.update(repr((batch.schema.names, batch.schema.types, batch.schema.metadata)).encode())
            found.append((len(batch), batch.nbytes))
    return schema, found


def _as_bytes(column: pa.Array) -> pa.Array:
    """Texts as binary: one that is not UTF-8 is the fault of its row alone."""
    return column.cast(pa.binary()) if pa.types.is_string(column.type) else column


def _offsets(file: str) -> tuple[int, ...] | None:
    """Where the record batches of a stream begin, so that one can be read without those before it.

    None of a file with an index of its own, and where batches refer to dictionaries that come before them.
    """
    with pa.memory_map(file) as mapped:
        try:
            schema = pa.ipc.open_stream(mapped).schema
        except pa.ArrowInvalid:
            return None
        if any(map(_has_dictionary, schema.types)):
            return None
        mapped.seek(0)
        reader = pa.ipc.MessageReader.open_stream(mapped)
        found: list[int] = []
        while True:
            at = mapped.tell()
            try:
                message = reader.read_next_message()
            except StopIteration:
                return tuple(found)
            if message.type == "record batch":
                found.append(at)


def _has_dictionary(kind: pa.DataType) -> bool:
    inner = (kind.field(i).type for i in range(kind.num_fields))
    return isinstance(kind, pa.DictionaryType) or any(map(_has_dictionary, inner))


@contextlib.contextmanager
def _opened(file: str, at: int | None = None) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The schema and the record batches of a file; each batch keeps its part of the mapping alive.

    Args:
        file: its path.
        at: where in a stream the only batch begins that is wanted; None: all are.
    """
    with pa.memory_map(file) as mapped:
        try:
            stream = pa.ipc.open_stream(mapped)
            schema, batches = stream.schema, iter(stream)
        except pa.ArrowInvalid:  # the other format (Arrow columnar format, "IPC File Format")
            reader = pa.ipc.open_file(mapped)
            schema = reader.schema
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        if at is not None:
            mapped.seek(at)
            batches = iter([pa.ipc.read_record_batch(pa.ipc.read_message(mapped), schema)])
        yield schema, batches
