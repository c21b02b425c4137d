"""Folders of image files: a fragment is a run of files. The listing is read once; workers map it into memory."""

from __future__ import annotations

import functools
import gc
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, IterableDataset
from fsspec.implementations.zip import ZipFileSystem

from wdsremux import files
from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.conversion.source.listing import is_image
from wdsremux.errors import SourceError

FILES_A_FRAGMENT = 100  #: as many as a row group of the Hub's image sets; what mixing draws from
LISTING = "listing.arrow"
_ROWS_AT_ONCE = 1_000  #: of the listing


@dataclass(frozen=True, slots=True)
class ImagesReader:
    """Gives rows of the listing; the images are read by their paths later."""

    name: str  #: of the source
    listing: pa.Table | None  #: in the process that made it
    stored_in: Path | None = None  #: where the others find it

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        listing = self._listing()
        first = fragment.part * FILES_A_FRAGMENT
        for at in range(first, first + (fragment.rows or 0), batch_rows):
            yield listing.slice(at, min(batch_rows, first + (fragment.rows or 0) - at))

    def values(self, column: str) -> Iterator[pa.Array]:
        yield self._listing().column(column).combine_chunks()

    def where(self, fragment: Fragment) -> str:
        first = fragment.part * FILES_A_FRAGMENT
        return f"images {first} to {first + (fragment.rows or 0) - 1} of {self.name}"

    def stored(self, folder: Path) -> ImagesReader:
        if self.listing is None:
            return self
        with files.atomic(folder / LISTING) as file, pa.ipc.new_file(file, self.listing.schema) as writer:
            writer.write_table(self.listing)
        return replace(self, listing=None, stored_in=folder / LISTING)

    def _listing(self) -> pa.Table:
        return _mapped(self.stored_in) if self.listing is None else self.listing


@functools.lru_cache(maxsize=4)
def _mapped(path: Path | None) -> pa.Table:
    with pa.memory_map(str(path)) as mapped:  # the table keeps the mapping alive
        return pa.ipc.open_file(mapped).read_all()


def stream(opened: Opened, split: str) -> IterableDataset:
    """The rows of an image folder, images as paths; their labels are the names of their folders, if these are several.

    What `datasets` would make of it, but for two cases: it takes `train` and `test` for labels where there are no
    others, and it makes a Python object of every file, at a tenth of the speed. Folders with metadata or zip files are
    left to it.

    Raises:
        ValueError: if `datasets` cannot make sense of the metadata.
    """
    config = opened.builder.config
    data_files: Mapping[str, Sequence[str]] = config.data_files
    if not all(is_image(file) for found in data_files.values() for file in found):
        config.decode_num_threads = 0  # of a remote source it would fetch and decode every image, to no end
        return opened.builder.as_streaming_dataset(split=split)
    names = None if config.drop_labels else _class_names(data_files, single=config.drop_labels is False)
    features: dict[str, Any] = {"image": datasets.Image()}
    try:
        paths = pa.array(opened.files, pa.string())
    except UnicodeEncodeError as error:
        raise ValueError(f"the name of {error.object} is not UTF-8: rename it") from error
    columns = {"image": pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], ["bytes", "path"])}
    if names is not None:
        features["label"] = datasets.ClassLabel(names=names)
        labels = {name: label for label, name in enumerate(names)}
        columns["label"] = pa.array([labels[_parent(file)] for file in opened.files], pa.int64())
    info = DatasetInfo(features=Features(features))
    table = pa.table(columns, schema=info.features.arrow_schema)
    return Dataset(table, info=info, fingerprint=LISTING).to_iterable_dataset()


def _class_names(data_files: Mapping[str, Sequence[str]], single: bool) -> list[str] | None:
    """The folders that images of all splits lie in, sorted; None if they are no labels.

    Labels must lie at one depth, and tell apart some images of one split.
    """
    parents = {split: {_parent(file) for file in found} for split, found in data_files.items()}
    depths = {file.count("/") for found in data_files.values() for file in found}
    several = len(depths) == 1 and any(len(names) > 1 for names in parents.values())
    return sorted(set().union(*parents.values())) if several or single else None


def _parent(file: str) -> str:
    return os.path.basename(os.path.dirname(file))


def survey(opened: Opened, stream: IterableDataset, faults: patience.Faults) -> Survey:
    """List all images: rows hold paths, labels and metadata, and no image is read.

    Raises:
        SourceError: if the labels lie inside zip files, or metadata cannot be read.
    """
    listing = patience.call(lambda: _list(opened, stream), faults, opened.name)
    if not all(map(is_image, opened.files)):
        _close_leftovers()
    image = next(name for name, feature in stream.features.items() if isinstance(feature, datasets.Image))
    revision = hashlib.sha256()
    sizes: list[int] = []
    for batch in listing.to_batches(_ROWS_AT_ONCE):
        rows = batch.to_pylist()
        for row in rows:
            path = (row[image] or {}).get("path")
            sizes.append(0 if opened.remote or path is None else _size_bytes(path))
            revision.update(repr((path and opened.relative(path), sizes[-1], row | {image: None})).encode())
    parts = -(-len(sizes) // FILES_A_FRAGMENT)
    fragments = []
    for part in range(parts):
        run = sizes[part * FILES_A_FRAGMENT : (part + 1) * FILES_A_FRAGMENT]
        fragments.append(Fragment(0, part, parts, len(run), sum(run)))
    return Survey(tuple(fragments), revision.hexdigest(), ImagesReader(opened.name, listing))


def _list(opened: Opened, stream: IterableDataset) -> pa.Table:
    try:
        tables = list(stream.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE))
    except ValueError as error:
        zips = [name for name in opened.names if name.endswith(".zip")]
        if zips and not isinstance(error, pa.ArrowException):
            raise SourceError(
                f"{zips[0]} holds folders of images, whose names cannot be read as labels inside a zip. "
                f"Unpack it, and give the folder ({' '.join(str(error).split())})"
            ) from error
        raise
    return pa.concat_tables(tables) if tables else stream.features.arrow_schema.empty_table()


def _size_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # it is gone, or inside a zip; its row will be a reject if it cannot be read
        return 0


def _close_leftovers() -> None:
    """Close the metadata and zip files that `datasets` leaves open: in reference cycles, and in a cache."""
    ZipFileSystem.clear_instance_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
