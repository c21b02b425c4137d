"""Folders of image files: a fragment is a run of files. The listing is read once; workers map it into memory."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute

from wdsremux import files
from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import STORED, Column, Fault, Fragment, Opened, Piece, Survey, Untaken
from wdsremux.conversion.source.features import looks_like_label
from wdsremux.conversion.source.file_kinds import METADATA_NAMES, is_image
from wdsremux.conversion.source.finding import splits, tree
from wdsremux.conversion.source.kinds.class_folders import class_names
from wdsremux.conversion.source.kinds.images import metadata, sidefiles, zipped
from wdsremux.conversion.source.kinds.images.sidefiles import Contents, SideFiles
from wdsremux.errors import SourceError

FILES_A_FRAGMENT = 100  #: as many as a row group of the Hub's image sets; what mixing draws from
_METADATA_BYTES = 2**33  #: of a metadata file at most
_ROWS_AT_ONCE = 1_000  #: of the listing
_DROPPED = "metadata, excluded by the dataset card"


@dataclass(frozen=True, slots=True)
class ImagesReader:
    """Gives rows of the listing; the images are read by their paths later, files beside them at once."""

    name: str  #: of the source
    contents: Contents
    side: Collection[str]  #: columns of which the listing has the paths
    listing: pa.Table | None  #: in the process that made it
    stored_in: Path | None = None  #: where the others find it

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        listing = self._listing().select(list(names))
        first, rows = fragment.part * FILES_A_FRAGMENT, fragment.rows or 0
        for at in range(first, first + rows, batch_rows):
            yield self._filled(listing.slice(at, min(batch_rows, first + rows - at)))

    def values(self, column: str) -> Iterator[tuple[int, pa.Array]]:
        for chunk in self._listing().column(column).chunks:
            if column not in self.side:
                yield 0, chunk
                continue
            for at in range(
                0, len(chunk), _ROWS_AT_ONCE
            ):  # a row whose file is at fault is a reject: its value is null
                yield 0, self.contents.read(column, chunk.slice(at, _ROWS_AT_ONCE))[0]

    def where(self, fragment: Fragment) -> str:
        first = fragment.part * FILES_A_FRAGMENT
        return f"images {first} to {first + (fragment.rows or 0) - 1} of {self.name}"

    def stored(self, folder: Path) -> ImagesReader:
        if self.listing is None:
            return self
        with files.atomic(folder / STORED) as file, pa.ipc.new_file(file, self.listing.schema) as writer:
            writer.write_table(self.listing)
        return replace(self, listing=None, stored_in=folder / STORED)

    def sparing(self, rows: int) -> ImagesReader:
        return self

    def _listing(self) -> pa.Table:
        return _mapped(self.stored_in) if self.listing is None else self.listing

    def _filled(self, table: pa.Table) -> Piece:
        """Rows with the content of the files beside the pictures."""
        faults: dict[int, Fault] = {}
        for place, name in enumerate(table.column_names):
            if name in self.side:
                texts, wrong = self.contents.read(name, table.column(place).combine_chunks())
                table = table.set_column(place, name, texts)
                faults = wrong | faults
        return Piece(table, faults)


@functools.lru_cache(maxsize=4)
def _mapped(path: Path | None) -> pa.Table:
    with pa.memory_map(str(path)) as mapped:  # the table keeps the mapping alive
        return pa.ipc.open_file(mapped).read_all()


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a split, before what lies beside the pictures."""

    columns: Mapping[str, Column]
    table: pa.Table
    untaken: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: paths by the reason


def survey(opened: Opened, faults: retry.Faults) -> Survey:
    """List all images: rows hold paths, labels and metadata; no image is read.

    Raises:
        SourceError: if metadata cannot be read, or labels lie inside zip files.
    """
    if any(file.lower().endswith(".zip") for file in opened.files):
        rows = _Rows(*zipped.read(opened, faults))
        side = SideFiles({}, {}, {}, {}, opened.beside)
    else:
        rows, side = _listed(opened, faults)
    images = _images(rows.columns)
    sizes = _sizes(opened, rows.table, images[0])
    parts = -(-len(sizes) // FILES_A_FRAGMENT)
    runs = [sizes[part * FILES_A_FRAGMENT : (part + 1) * FILES_A_FRAGMENT] for part in range(parts)]
    table = rows.table
    for name, paths in side.paths.items():
        table = table.append_column(name, paths)
    untaken = {**rows.untaken, **side.untaken, tree.OTHER: side.rest}
    return Survey(
        fragments=tuple(Fragment(0, part, parts, len(run), sum(run)) for part, run in enumerate(runs)),
        revision=lambda names: _revision(opened, rows.table, images, side, sizes, names),
        columns={**rows.columns, **side.columns},
        reader=ImagesReader(opened.name, Contents(opened.remote, faults), tuple(side.paths), table.combine_chunks()),
        ragged=True,
        untaken=_names(opened, untaken),
        unread=_names(opened, side.unread),
    )


def _names(opened: Opened, paths: Mapping[str, Sequence[str]]) -> Untaken:
    """Names for people, in place of paths."""
    return {
        about: tuple(tree.decodable(opened.relative(path)) for path in some) for about, some in paths.items() if some
    }


def _listed(opened: Opened, faults: retry.Faults) -> tuple[_Rows, SideFiles]:
    config = opened.builder and opened.builder.config
    named = (config and config.metadata_filenames) or METADATA_NAMES
    found = [*opened.files, *opened.beside]
    pictures = list(filter(is_image, opened.files))
    describing = sorted(file for file in found if file.rpartition("/")[2] in named)
    if describing and config and config.drop_metadata:
        rows = _plain(opened, pictures)
        rows = replace(rows, untaken={_DROPPED: describing})
    else:
        rows = _described(opened, pictures, describing, faults) if describing else _plain(opened, pictures)
    images = _images(rows.columns)
    paths = [path for name in images for path in _paths(rows.table, name)]
    used = {*pictures, *describing, *paths}
    others = [path for path in found if path not in used]
    return rows, sidefiles.find(_paths(rows.table, images[0]), pictures, others, rows.columns)


def _plain(opened: Opened, pictures: Sequence[str]) -> _Rows:
    """Rows of pictures that nothing but their folders describes."""
    columns: dict[str, Column] = {"image": Column(datasets.Image())}
    try:
        arrays: dict[str, pa.Array] = {"image": metadata.pictures(pictures)}
    except UnicodeEncodeError as error:
        odd = tree.decodable(opened.relative(str(error.object)))
        raise SourceError(f"the name of {odd} in {opened.name} is not UTF-8. Rename it") from error
    labelled = _labels(opened, pictures)
    if labelled is not None:
        columns["label"], arrays["label"] = labelled
    return _Rows(columns, pa.table(arrays))


def _described(opened: Opened, pictures: Sequence[str], describing: Sequence[str], faults: retry.Faults) -> _Rows:
    """Rows of metadata, with the labels of folders where it has none."""

    def content(file: str) -> bytes:
        return sidefiles.fetched(file, faults) if opened.remote else files.read_plain(file, _METADATA_BYTES)

    found = metadata.read(
        describing,
        lambda file: retry.call(lambda: content(file), faults, opened.relative(file)),
        lambda file: tree.decodable(opened.relative(file)),
    )
    rows, *others = (_paths(found.table, name) for name in _images(found.columns))
    columns, table = dict(found.columns), found.table
    for name, feature in (opened.features or {}).items():  # a card names the classes of numbers
        if isinstance(feature, datasets.ClassLabel) and name in columns and pa.types.is_integer(table[name].type):
            columns[name] = Column(feature, {0: tuple(feature.names)})
    if not any(looks_like_label(name, column.feature) for name, column in columns.items()):
        masks = {path for paths in others for path in paths if path} - set(rows)
        labelled = _labels(opened, rows, {splits.parent(path) for path in masks})
        if labelled is not None:
            columns["label"], table = labelled[0], table.append_column("label", labelled[1])
    used = {*rows, *(path for paths in others for path in paths)}
    names = sorted({file.rpartition("/")[2] for file in describing})
    left = [file for file in pictures if file not in used]
    return _Rows(columns, table, {f"not in {' or '.join(names)}": left})


def _labels(
    opened: Opened, rows: Sequence[str | None], without: Collection[str] = ()
) -> tuple[Column, pa.Array] | None:
    """Labels by the folders of all splits, so that they mean the same class in each; None if folders are no classes.

    Args:
        opened: the source.
        rows: the picture of each row.
        without: folders that are no classes: those of masks, say.
    """
    drop = opened.builder and opened.builder.config.drop_labels
    if drop:
        return None
    ours = {folder: _folder(opened, folder, opened.split) for folder in {splits.parent(path) for path in rows if path}}
    no_classes = {_folder(opened, folder, opened.split) for folder in without}
    places = {name for name in (*_folders(opened), *ours.values()) if name not in no_classes}
    names = class_names(places)
    if names is None:
        if drop is None:
            return None
        names = {name: name.rpartition("/")[2] for name in places}
    classes = sorted({name for name in names.values() if name is not None})
    stated = (opened.features or {}).get("label")  # of the card, whose order holds
    if isinstance(stated, datasets.ClassLabel) and set(classes) <= set(stated.names):
        classes = list(stated.names)
    numbers = {name: label for label, name in enumerate(classes)}
    labels = {folder: numbers.get(names.get(name) or "") for folder, name in ours.items()}
    array = pa.array([labels[splits.parent(path)] if path else None for path in rows], pa.int64())
    return Column(datasets.ClassLabel(names=classes), {0: tuple(classes)}), array


def _folders(opened: Opened) -> Iterator[str]:
    """Those that hold pictures, of all splits, relative to their split."""
    for split, found in opened.splits.items():
        for folder in {splits.parent(file) for file in found if is_image(file)}:
            yield _folder(opened, folder, split)


def _folder(opened: Opened, folder: str, split: str) -> str:
    """A folder relative to its split: the folder that is the split is no class."""
    name = "" if folder == opened.root else opened.relative(folder)
    return splits.without_split(name, split, whole=opened.split_by == "folders") if opened.split_by else name


def _images(columns: Mapping[str, Column]) -> list[str]:
    return [name for name, column in columns.items() if isinstance(column.feature, datasets.Image)]


def _paths(table: pa.Table, name: str) -> list[str | None]:
    return pa.compute.struct_field(table.column(name), "path").to_pylist()  # type: ignore[no-any-return]


def _sizes(opened: Opened, table: pa.Table, image: str) -> list[int]:
    """The size of each picture in bytes; 0 where it is not known."""
    return [0 if opened.remote or path is None else _size_bytes(path) for path in _paths(table, image)]


def _revision(
    opened: Opened,
    table: pa.Table,
    images: Sequence[str],
    side: SideFiles,
    sizes: Sequence[int],
    names: Sequence[str],
) -> str:
    """SHA-256 over names, sizes, labels and metadata of the pictures, in their order.

    Args:
        opened: the source.
        table: its rows, without what lies beside the pictures.
        images: which of its columns are images; the first is what the sizes are of.
        side: what lies beside the pictures.
        sizes: of the pictures, in bytes.
        names: the columns that are read; others may change.
    """
    revision = hashlib.sha256()
    image = images[0]
    used = [name for name in names if name in table.column_names]
    others = [name for name in images[1:] if name in used]
    numbers = iter(sizes)

    def relative(value: Mapping[str, str] | None) -> str | None:
        path = value["path"] if value else None
        return path and opened.relative(path)

    for batch in table.select(list(dict.fromkeys([image, *used]))).to_batches(_ROWS_AT_ONCE):
        for row in batch.to_pylist():
            values = row | {name: relative(row[name]) for name in others} | {image: None}
            revision.update(repr((relative(row[image]), next(numbers), values)).encode())
    for name, paths in side.paths.items():
        for path in filter(None, paths.to_pylist() if name in names else ()):
            revision.update(repr((name, opened.relative(path), 0 if opened.remote else _size_bytes(path))).encode())
    return revision.hexdigest()


def _size_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # it is gone, or inside a zip; its row will be a reject if it cannot be read
        return 0
