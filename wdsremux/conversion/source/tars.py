"""WebDataset tars: a fragment is a tar. Those on this machine are counted by their headers; streams are not.

    tar_files.py     tars as they lie: plain or compressed, here or on the Hub; what damage is
    tar_members.py   their members, and to which sample each belongs
    tar_fields.py    what a field holds, and its values
    tar_samples.py   the samples of a tar, in each of the ways in which one is read
    tars.py          what a look at all of them tells

A stream is a tar that is read only from front to end, being remote or compressed. Of streams only the first samples are
looked at; what turns up later and would have changed the outcome is an error there.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from wdsremux.conversion.source import patience, tar_fields
from wdsremux.conversion.source.base import Column, Fault, Fragment, Opened, Piece, Survey
from wdsremux.conversion.source.folders import class_names
from wdsremux.conversion.source.tar_files import DAMAGE, TarFiles, tar_files
from wdsremux.conversion.source.tar_members import (
    STRAY,
    Member,
    PassedOver,
    TarIndex,
    content_of,
    folder_of,
    is_link,
    key_and_field,
    members,
)
from wdsremux.conversion.source.tar_samples import FOLDER_LABEL, KEY, URL, Layout, TarSample, check_splits, samples
from wdsremux.errors import SourceError

_SAMPLES_SEEN = 100  #: of a stream
_BYTES_SEEN = 1 << 26  #: of a stream: fewer samples are enough where each is large
_VALUE_BYTES = 1 << 24  #: longest content that is looked at
# A compressed tar's samples are bounded by its size, 1 KB each; texts and headers shrink to an eighth of their size.
_SHRINKAGE = 8


@dataclass(frozen=True, slots=True)
class TarReader:
    """Reads tars; of those that are no streams, only the columns that are wanted."""

    files: TarFiles
    layout: Layout
    streams: frozenset[int]  #: numbers of the tars that can only be read from front to end
    indexed: frozenset[int]  #: numbers of those that have to be read by offsets

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        for batch in self._batches(fragment.file, names, batch_rows):
            yield self._piece(batch, names, self.files.names[fragment.file])

    def values(self, column: str) -> Iterator[tuple[int, pa.Array]]:
        if self.streams:
            raise SourceError(
                f"the labels in {column!r} are texts, which a remote or compressed tar cannot give without its images "
                f"({self.files.names[min(self.streams)]} is one). Name the classes with --classes a,b,c or "
                "--classes FILE, or download and unpack the tars"
            )
        for number, name in enumerate(self.files.names):
            for batch in self._batches(number, [column], 1_000):
                yield number, self._piece(batch, [column], name).table.column(0).combine_chunks()

    def where(self, fragment: Fragment) -> str:
        return self.files.names[fragment.file]

    def stored(self, folder: Path) -> TarReader:
        return self

    def _batches(self, number: int, names: Sequence[str], count: int) -> Iterator[list[TarSample]]:
        """The samples of a tar, `count` at a time."""
        name, stream, batch = self.files.names[number], number in self.streams, []
        try:
            with self.files.open(number) as tar:
                for sample in samples(tar, name, self.layout, frozenset(names), stream, number in self.indexed):
                    batch.append(sample)
                    if len(batch) == count:
                        yield batch
                        batch = []
        except DAMAGE as error:
            raise SourceError(f"{name} is damaged: {error}. Fetch it again") from error
        if batch:
            yield batch

    def _piece(self, batch: Sequence[TarSample], names: Sequence[str], tar: str) -> Piece:
        faults = {place: sample.fault for place, sample in enumerate(batch) if sample.fault is not None}
        columns = []
        for name in names:
            if name in self.layout.computed:
                texts = [self.layout.text(name, sample.key, tar) for sample in batch]
                columns.append(pa.array(texts, pa.string()))
                continue
            values, problems = tar_fields.array(self.layout.feature(name), [sample.values.get(name) for sample in batch])
            columns.append(values)
            for place, problem in problems.items():
                faults.setdefault(place, Fault(name, problem))
        return Piece(pa.Table.from_arrays(columns, names=list(names)), faults)


@dataclass(slots=True)
class _Look:
    """What the headers of a tar, or the first samples of a stream, tell."""

    rows: int = 0
    indexed: bool = False  #: whether it has to be read by offsets
    first_dot: bool = False  #: whether keys end at the first dot whatever follows
    fields: dict[str, None] = field(default_factory=dict)  #: in the order in which they occur
    together: set[frozenset[str]] = field(default_factory=set)  #: the fields of each sample
    folders: set[str] = field(default_factory=set)  #: in which there are images
    first: dict[str, bytes] = field(default_factory=dict)  #: a value of each field whose extension does not tell its type
    texts: dict[str, list[str]] = field(default_factory=dict)  #: the first ones of each field of texts
    untaken: PassedOver = field(default_factory=PassedOver)
    _sample: set[str] = field(default_factory=set)
    _folder: str = ""

    def begin(self, key: str) -> None:
        """A sample begins."""
        self.end()
        self.rows += 1
        self._folder = folder_of(key)

    def add(self, field_: str) -> None:
        """Another field of this sample."""
        if field_ not in self.fields:
            self.fields[field_] = None
        self._sample.add(field_)
        if self._folder not in self.folders and tar_fields.is_image(field_):
            self.folders.add(self._folder)

    def end(self) -> None:
        """The last sample has ended."""
        if self._sample:
            self.together.add(frozenset(self._sample))
            self._sample.clear()

    def wants(self, field_: str, info: tarfile.TarInfo) -> bool:
        """Whether a value is to be looked at for the type of its field."""
        fits = info.isreg() and info.size <= _VALUE_BYTES
        return fits and tar_fields.kind(field_) == tar_fields.DECODED and field_ not in self.first


def survey(opened: Opened, faults: patience.Faults) -> Survey:
    """Count the samples of all tars that are no streams; look at the first samples of those that are.

    Raises:
        SourceError: if a tar is damaged, holds several splits, or none has a sample.
    """
    files = tar_files(opened, faults)
    revision = hashlib.sha256()
    looks: dict[int, _Look] = {}
    rows: list[int | None] = []
    streams: set[int] = set()
    for number, (name, size_bytes) in enumerate(zip(files.names, files.sizes_bytes, strict=True)):
        if plain := _plain(files, number):
            looks[number] = _headers(files, number, revision)
        else:
            if not any(looks[stream].rows for stream in streams if stream in looks):
                looks[number] = patience.call(lambda number=number: _glance(files, number), faults, name)  # type: ignore[misc]
            streams.add(number)
        rows.append(looks[number].rows if plain else None)
        revision.update(repr((name, size_bytes, rows[-1])).encode())
    _check_samples(opened, looks)
    columns, layout = _columns(opened, looks, streams)
    indexed = frozenset(number for number, look in looks.items() if look.indexed)
    return Survey(
        tuple(_fragment(files, number, count) for number, count in enumerate(rows)),
        revision.hexdigest(),
        columns,
        TarReader(files, layout, frozenset(streams), indexed),
        partial=bool(streams),
        untaken=merged(look.untaken for look in looks.values()),
    )


def _plain(files: TarFiles, number: int) -> bool:
    try:
        return files.plain(number)
    except OSError as error:
        raise SourceError(f"{files.files[number]} cannot be read as a tar: {error}") from error


def _fragment(files: TarFiles, number: int, rows: int | None) -> Fragment:
    compressed = rows is None and (not files.remote or files.names[number].lower().endswith(COMPRESSED))
    return Fragment(number, 0, 1, rows, files.sizes_bytes[number] * (_SHRINKAGE if compressed else 1))


def _headers(files: TarFiles, number: int, revision: hashlib._Hash) -> _Look:
    """What all headers of a tar tell; they go into the revision.

    Raises:
        SourceError: if it is damaged, or ends too early.
    """
    look, name, key = _Look(), files.names[number], None
    keys: set[str] = set()
    numbered: set[str] = set()
    pass_over = look.untaken.of(name)
    try:
        with files.open(number) as tar:
            for member in members(tar, pass_over):
                info = member.info
                revision.update(repr((info.name, info.size, info.mtime)).encode())
                look.indexed |= is_link(info)
                if member.key != key:
                    key = member.key
                    look.indexed |= key in keys
                    keys.add(key)
                    if (stem := member.numbered) is not None:
                        numbered.add(stem)
                    look.begin(key)
                look.add(member.field)
                if look.wants(member.field, info):
                    look.first[member.field] = content_of(tar, info)
        look.end()
        if look.indexed or not numbered.isdisjoint(keys):
            look = _regrouped(files, number, look.untaken)
    except (*DAMAGE, OSError) as error:
        raise SourceError(f"{files.files[number]} cannot be read as a tar: {error}") from error
    check_splits(look.folders, name)
    return look


def _regrouped(files: TarFiles, number: int, untaken: PassedOver) -> _Look:
    """What the headers of a tar tell whose samples are not runs of members."""
    look = _Look(indexed=True, untaken=untaken)
    with files.open(number) as tar:
        index = TarIndex(tar)
        for key, places in index.samples.items():
            look.begin(key)
            for place in places:
                look.add(place.field)
                if place.info is not None and look.wants(place.field, place.info):
                    look.first[place.field] = index.content(place.offset)
    look.end()
    return look


def _glance(files: TarFiles, number: int) -> _Look:
    """What the first samples of a stream tell.

    Raises:
        SourceError: if it is damaged.
    """
    untaken = PassedOver()
    try:
        with files.open(number) as tar:
            found = list(_first_members(tar, untaken.of(files.names[number])))
    except DAMAGE as error:
        raise SourceError(f"{files.names[number]} cannot be read as a tar: {error}. Fetch it again") from error
    stems = {member.numbered for member, _ in found} - {None}
    bare = {member.key for member, _ in found if member.numbered is None}
    look = _Look(first_dot=2 * len(stems & bare) >= len(stems) > 0, untaken=untaken)
    last: str | None = None
    for member, content in found:
        key, field_ = key_and_field(member.info.name, look.first_dot) or (member.key, member.field)
        if key != last:
            look.begin(key)
            last = key
        look.add(field_)
        if content is not None:
            look.first.setdefault(field_, content)
            look.texts.setdefault(field_, []).append(content)
    look.end()
    check_splits(look.folders, files.names[number])
    return look


def _first_members(tar: tarfile.TarFile, pass_over: PassOver) -> Iterator[tuple[Member, bytes | None]]:
    """The members of the first samples, with the content of those of which it tells something."""
    keys: set[str] = set()
    for member in members(tar, pass_over):
        if member.key not in keys and (len(keys) == _SAMPLES_SEEN or (keys and tar.offset > _BYTES_SEEN)):
            return
        keys.add(member.key)
        told = tar_fields.kind(member.field) in (tar_fields.TEXT, tar_fields.DECODED)
        fits = member.info.isreg() and member.info.size <= _VALUE_BYTES
        yield member, content_of(tar, member.info) if told and fits else None
