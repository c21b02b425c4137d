"""WebDataset tars: a fragment is a tar. Those on this machine are counted by their headers; streams are not.

A stream is a tar that is read only from front to end, being remote or compressed. Of streams only the first samples are
looked at; what turns up later and would have changed the outcome is an error there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Column, Fault, Fragment, Opened, Piece, Survey, fixed
from wdsremux.conversion.source.kinds.class_folders import class_names
from wdsremux.conversion.source.kinds.tars import tar_fields
from wdsremux.conversion.source.kinds.tars.tar_files import DAMAGE, TarFiles, tar_files
from wdsremux.conversion.source.kinds.tars.tar_looks import TarLook, look_at_first_samples, look_at_headers
from wdsremux.conversion.source.kinds.tars.tar_samples import TarLayout, TarSample, samples
from wdsremux.errors import SourceError

_COMPRESSED = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz")
# The number of a stream's samples is bounded by its size, 1 KB each; compressed, headers and texts shrink to an eighth.
_SHRINKAGE = 8


@dataclass(frozen=True, slots=True)
class TarReader:
    """Reads tars; of those that are no streams, only the columns that are wanted."""

    files: TarFiles
    layout: TarLayout
    streams: frozenset[int]  #: numbers of the tars that can only be read from front to end
    indexed: frozenset[int]  #: numbers of those that have to be read by offsets

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        for batch in self._batches(fragment.file, names, batch_rows):
            yield self._piece(batch, names, self.files.names[fragment.file])

    def values(self, column: str) -> Iterator[tuple[int, pa.Array]]:
        if self.streams:
            raise SourceError(
                f"the labels in {column!r} are text, which cannot be read from a remote or compressed tar file "
                f"without its images ({self.files.names[min(self.streams)]} is one). Name the classes with --classes "
                "a,b,c or --classes FILE, or download and unpack the tar files"
            )
        for number, name in enumerate(self.files.names):
            for batch in self._batches(number, [column], 1_000):
                yield number, self._piece(batch, [column], name).table.column(0).combine_chunks()

    def where(self, fragment: Fragment) -> str:
        return self.files.names[fragment.file]

    def stored(self, folder: Path) -> TarReader:
        return self

    def sparing(self, rows: int) -> TarReader:
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
            raise SourceError(f"{name} is damaged: {error}. Download it again") from error
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
            values, problems = tar_fields.array(
                self.layout.feature(name), [sample.values.get(name) for sample in batch]
            )
            columns.append(values)
            for place, problem in problems.items():
                faults.setdefault(place, Fault(name, problem))
        keys = pa.array([tar_fields.utf8(sample.key) for sample in batch], pa.string())
        return Piece(pa.Table.from_arrays(columns, names=list(names)), faults, keys)


def survey(opened: Opened, faults: retry.Faults) -> Survey:
    """Count the samples of all tars that are no streams; look at the first samples of those that are.

    Raises:
        SourceError: if a tar is damaged, holds several splits, or none has a sample.
    """
    files = tar_files(opened, faults)
    revision = hashlib.sha256()
    looks: dict[int, TarLook] = {}
    rows: list[int | None] = []
    streams: set[int] = set()
    seen = False
    for number, (name, size_bytes) in enumerate(zip(files.names, files.sizes_bytes, strict=True)):
        if plain := _plain(files, number):
            looks[number] = look_at_headers(files, number, revision)
        else:
            if not seen:  # the first of them that has a sample stands for all
                looks[number] = retry.call(lambda number=number: look_at_first_samples(files, number), faults, name)  # type: ignore[misc]
                seen = looks[number].rows > 0
            streams.add(number)
        rows.append(looks[number].rows if plain else None)
        revision.update(repr((name, size_bytes, rows[-1])).encode())
    _check_samples(opened, looks.values())
    layout = _layout(opened, looks, bool(streams))
    indexed = frozenset(number for number, look in looks.items() if look.indexed)
    return Survey(
        tuple(_fragment(files, number, count) for number, count in enumerate(rows)),
        fixed(revision.hexdigest()),
        _columns(files, layout, looks, opened.features or {}),
        TarReader(files, layout, frozenset(streams), indexed),
        partial=bool(streams),
        ragged=True,
        untaken=_untaken(looks.values()),
    )


def _plain(files: TarFiles, number: int) -> bool:
    try:
        return files.plain(number)
    except OSError as error:
        raise SourceError(f"{files.files[number]} cannot be read as a tar: {error}") from error


def _fragment(files: TarFiles, number: int, rows: int | None) -> Fragment:
    compressed = rows is None and (not files.remote or files.names[number].lower().endswith(_COMPRESSED))
    return Fragment(number, 0, 1, rows, files.sizes_bytes[number] * (_SHRINKAGE if compressed else 1))


def _check_samples(opened: Opened, looks: Iterable[TarLook]) -> None:
    """
    Raises:
        SourceError: if there is no sample in any tar.
    """
    looks = list(looks)
    if any(look.rows for look in looks):
        return
    passed = ", ".join(f"{len(names)} {reason}" for reason, names in _untaken(looks).items())
    raise SourceError(
        f"{opened.name} has no rows in its split {opened.split!r}: its tar files contain no samples, which are files "
        f"with an extension{f', but {passed}' if passed else ''}. Choose another --split, or download them again"
    )


def _untaken(looks: Iterable[TarLook]) -> Mapping[str, Sequence[str]]:
    """Names of members that are in no sample, by the reason."""
    found: dict[str, list[str]] = {}
    for look in looks:
        for reason, names in look.untaken.names.items():
            found.setdefault(reason, []).extend(names)
    return found


def _layout(opened: Opened, looks: Mapping[int, TarLook], partial: bool) -> TarLayout:
    """Which columns the fields of all tars make up."""
    fields = list(dict.fromkeys(name for look in looks.values() for name in look.fields))
    together = frozenset(names for look in looks.values() for names in look.together)
    first = {name: value for look in reversed(list(looks.values())) for name, value in look.first.items()}
    columns = tar_fields.columns_of(fields, together)
    folders = frozenset(folder for look in looks.values() for folder in look.folders)
    labelled = any(map(tar_fields.is_label, fields))
    return TarLayout(
        columns=columns,
        features={name: tar_fields.feature(name, first.get(name)) for name in dict.fromkeys(columns.values())},
        classes=None if labelled else class_names(folders),
        folders=folders,
        partial=partial,
        first_dot=any(look.first_dot for look in looks.values()),
        strict=not labelled and opened.label_asked is None,
    )


def _columns(
    files: TarFiles, layout: TarLayout, looks: Mapping[int, TarLook], stated: Mapping[str, Any]
) -> Mapping[str, Column]:
    """What is known of each column: fields first, as they occur, then those that are none.

    Args:
        files: the tars.
        layout: the columns that their fields make up.
        looks: at them.
        stated: the features that the dataset card states; a tar itself has no class names for its numbers.
    """
    texts: dict[str, list[bytes]] = {}
    lacking: dict[str, str] = {}
    for number, look in looks.items():
        for name, contents in look.texts.items():
            texts.setdefault(name, []).extend(contents)
        there = {layout.columns[name] for name in look.fields}
        for column in layout.features if look.rows else ():
            if column not in there:
                lacking.setdefault(column, files.names[number])
    found = {}
    for name, feature in layout.features.items():
        integers = tar_fields.kind(name) == tar_fields.TEXT and tar_fields.is_integer(name)
        seen = tuple(tar_fields.texts(name, texts.get(name, ())))
        card = stated.get(name)
        if integers and isinstance(card, datasets.ClassLabel):
            names = dict.fromkeys(range(len(files.names)), tuple(card.names))
            found[name] = Column(card, names, lacking=lacking.get(name))
        else:
            found[name] = Column(feature, integers=integers, seen=seen, lacking=lacking.get(name))
    return found | {name: Column(datasets.Value("string")) for name in layout.computed}
