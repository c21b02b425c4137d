"""SOURCE -> fragments, features, rows; read through `datasets`, streaming, never decoded.

A fragment of parquet is a row group. The process that makes the plan reads every footer once; a worker is handed the
open source (`Source` pickles to a few kilobytes) and reads single fragments of it.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from datasets import Features, IterableDataset, load_dataset_builder
from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
from datasets.packaged_modules.parquet.parquet import Parquet

from wdsremux.errors import SourceError

_IMAGE_DTYPES = ("binary", "large_binary")  # of a column that only its user knows to hold images
_LABEL_DTYPES = ("int", "uint", "string", "large_string")
ROWS_A_BATCH = 64  #: of an Arrow batch; bounds what a worker holds of a fragment beside its column chunk


@dataclass(frozen=True, slots=True)
class Fragment:
    """The smallest piece of a source that can be read by itself."""

    file: int  #: place in the source's list of files
    group: int  #: row group in that file
    groups: int  #: row groups in that file, all in all
    rows: int
    size_bytes: int  #: of its column chunks, compressed


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of one fragment, as Arrow: no Python object a row."""

    first: int  #: row number, in the fragment, of the first
    image_column: str  #: its name in the source
    images: pa.Array  #: binary or large_binary [N]; null where the source has no bytes
    paths: pa.Array  #: string [N]; what the source calls the image, null where it does not say
    labels: pa.Array  #: int64 [N]; null or -1 where there is none

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """Of the images, in bytes."""
        return int(self.images.nbytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An opened split of a source."""

    description: dict[str, Any]  #: what the manifest says of it; no absolute path
    files: tuple[str, ...]  #: in the order in which `datasets` reads them
    fragments: tuple[Fragment, ...]
    classes: list[str] | None
    image_column: str
    label_column: str | None
    stream: IterableDataset = field(repr=False)  #: one shard a file, images undecoded
    vocabulary: tuple[str, ...] | None = None  #: of a column of strings: its sorted values, by label

    @property
    def size_bytes(self) -> int:
        return sum(fragment.size_bytes for fragment in self.fragments)

    def rows(self, number: int) -> Iterator[Rows]:
        """The rows of one fragment, in order.

        Raises:
            SourceError: if it cannot be read, or has another number of rows than its footer said.
        """
        fragment, first = self.fragments[number], 0
        if fragment.rows == 0:
            return
        try:
            piece = _file(self.stream, len(self.files), fragment.file).shard(fragment.groups, fragment.group)
            for table in piece.with_format("arrow").iter(batch_size=ROWS_A_BATCH):
                rows = self._rows(table.combine_chunks(), first)
                first += len(rows)
                yield rows
        except (OSError, IndexError, pa.ArrowException) as error:  # IndexError: it lost row groups since it was opened
            raise SourceError(f"{self._where(number)} cannot be read: {error}") from error
        if first != fragment.rows:
            raise SourceError(f"{self._where(number)} gave {first} rows where its footer promises {fragment.rows}")

    def _rows(self, table: pa.Table, first: int) -> Rows:
        images = table.column(self.image_column).combine_chunks()
        if self.label_column is None:
            labels = pa.nulls(len(table), pa.int64())
        elif self.vocabulary is not None:
            column = table.column(self.label_column).combine_chunks()
            labels = pa.compute.index_in(column, pa.array(self.vocabulary, column.type)).cast(pa.int64())
        else:
            labels = table.column(self.label_column).combine_chunks().cast(pa.int64())
        content, paths = (pa.compute.struct_field(images, name) for name in ("bytes", "path"))
        return Rows(first, self.image_column, content, paths, labels)

    def _where(self, number: int) -> str:
        fragment = self.fragments[number]
        return f"row group {fragment.group} of {self.files[fragment.file]}"


def open_source(source: str, split: str, image_column: str | None = None, label_column: str | None = None) -> Source:
    """Find a split of a source, its columns and fragments. Reads footers, and a column of strings if that is the label.

    Args:
        source: a folder of parquet files, laid out as on the Hub, or a glob of parquet files.
        split: its name.
        image_column: None: the only one of that kind.
        label_column: None: the only ClassLabel, else a column named "label" or "labels", else no label.

    Raises:
        SourceError: one sentence saying what is missing or ambiguous.
    """
    root, builder = _builder(source, split)
    files = tuple(str(file) for file in builder.config.data_files[split])
    features, stream = _stream(builder, split, source)
    image = image_column or _image_column(features, source)
    if image not in features:
        raise SourceError(f"{source} has no column {image!r}. Its columns: {', '.join(features)}")
    if not isinstance(features[image], datasets.Image) and _dtype(features[image]) not in _IMAGE_DTYPES:
        raise SourceError(f"column {image!r} is {features[image]}, no image. An image is an Image or binary")
    label = label_column or _label_column(features)
    fragments, revision = _footers(files, root)
    classes, vocabulary = _classes(features, label, files, source)
    columns = [image] if label is None else [image, label]
    return Source(
        description={
            "kind": "parquet",
            "name": root.name,
            "split": split,
            "files": len(files),
            "revision": revision,
            "license": builder.info.license or None,
            "citation": builder.info.citation or None,
        },
        files=files,
        fragments=fragments,
        classes=classes,
        image_column=image,
        label_column=label,
        stream=stream.select_columns(columns).cast_column(image, datasets.Image(decode=False)),
        vocabulary=vocabulary,
    )


def _builder(source: str, split: str) -> tuple[Path, Any]:
    """The folder that names are relative to, and the `datasets` builder of the split's files."""
    path = Path(source)
    if glob.has_magic(source):
        found = sorted(glob.glob(source, recursive=True))
        if not found:
            raise SourceError(f"no file matches {source}")
        root = Path(os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in found]))
        return root, load_dataset_builder("parquet", data_files={split: found})
    if not path.is_dir():
        raise SourceError(
            f"{source} is no folder{' but a file' if path.exists() else ''}. Give a folder or a glob of parquet files"
        )
    try:
        builder = load_dataset_builder(str(path))
    except (DatasetNotFoundError, DataFilesNotFoundError, ValueError, OSError) as error:
        raise SourceError(f"{source} cannot be opened as a data set: {error}") from error
    if not isinstance(builder, Parquet):
        raise SourceError(f"{source} holds no parquet files. Give a folder or a glob of parquet files")
    if split not in builder.config.data_files:
        raise SourceError(f"{source} has no split {split!r}. Its splits: {', '.join(builder.config.data_files)}")
    return path.resolve(), builder


def _stream(builder: Any, split: str, source: str) -> tuple[Features, IterableDataset]:
    try:
        stream = builder.as_streaming_dataset(split=split)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SourceError(f"{source} cannot be read as parquet: {error}") from error
    return stream.features, stream


def _image_column(features: Features, source: str) -> str:
    names: list[str] = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(names) == 1:
        return names[0]
    if names:
        raise SourceError(
            f"{source} has {len(names)} image columns: {', '.join(names)}. Choose one with --image-column"
        )
    raise SourceError(
        f"{source} has no image column. Its columns: {', '.join(f'{n} ({f})' for n, f in features.items())}"
    )


def _label_column(features: Features) -> str | None:
    names: list[str] = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(names) > 1:
        raise SourceError(
            f"the source has {len(names)} label columns: {', '.join(names)}. Choose one with --label-column"
        )
    if names:
        return names[0]
    return next((name for name in ("label", "labels") if _dtype(features.get(name)).startswith(_LABEL_DTYPES)), None)


def _dtype(feature: Any) -> str:
    """The dtype of a plain value, "" for anything else."""
    return str(feature.dtype) if isinstance(feature, datasets.Value) else ""


def _classes(
    features: Features, label: str | None, files: tuple[str, ...], source: str
) -> tuple[list[str] | None, tuple[str, ...] | None]:
    """Class names by label, and the vocabulary if the labels are strings."""
    if label is None:
        return None, None
    if label not in features:
        raise SourceError(f"{source} has no column {label!r}. Its columns: {', '.join(features)}")
    feature = features[label]
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names), None
    if _dtype(feature).startswith(("int", "uint")):
        return None, None
    if _dtype(feature).startswith(_LABEL_DTYPES):
        values: set[str] = set()
        for file in files:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(columns=[label]):
                    values.update(v for v in pa.compute.unique(batch.column(0)).to_pylist() if v is not None)
        vocabulary = tuple(sorted(values))
        return list(vocabulary), vocabulary
    raise SourceError(
        f"column {label!r} is {feature}, no single label. A label is a ClassLabel, an integer or a string"
    )


def _footers(files: tuple[str, ...], root: Path) -> tuple[tuple[Fragment, ...], str]:
    """All fragments, and a revision: the SHA-256 over names, sizes and footers."""
    fragments, revision = [], hashlib.sha256()
    for number, file in enumerate(files):
        try:
            with open(file, "rb") as opened:
                metadata = pq.read_metadata(opened)
                opened.seek(-8, os.SEEK_END)  # the footer's length and "PAR1" (Apache Parquet format, "File format")
                opened.seek(-8 - int.from_bytes(opened.read(4), "little"), os.SEEK_END)
                footer = opened.read()
                size = opened.tell()
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{file} cannot be read as parquet: {error}") from error
        revision.update(repr((os.path.relpath(file, root), size, hashlib.sha256(footer).hexdigest())).encode())
        for group in range(metadata.num_row_groups):
            part = metadata.row_group(group)
            size_bytes = sum(part.column(c).total_compressed_size for c in range(part.num_columns))
            fragments.append(Fragment(number, group, metadata.num_row_groups, part.num_rows, size_bytes))
    if not sum(fragment.rows for fragment in fragments):
        raise SourceError(f"the split has no rows in its {len(files)} files")
    return tuple(fragments), revision.hexdigest()


@functools.lru_cache(maxsize=256)
def _file(stream: IterableDataset, nfiles: int, number: int) -> IterableDataset:
    """One file of the source, split by row group. Reads its footer, hence the cache: a task draws from many files."""
    return stream.shard(nfiles, number).reshard()
