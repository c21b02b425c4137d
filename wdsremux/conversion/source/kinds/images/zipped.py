"""Pictures in zip files: left to `datasets`, which reads zips inside of folders, and metadata inside of zips."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import Any

import datasets
import pyarrow as pa
from datasets import IterableDataset
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from wdsremux.conversion.datasets_quirks import tidied
from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Column, Opened
from wdsremux.errors import SourceError, one_line, printable

_ROWS_AT_ONCE = 1_000  #: of the listing


def read(opened: Opened, faults: retry.Faults) -> tuple[Mapping[str, Column], pa.Table]:
    """The columns and rows of a split, images as paths into the zips.

    Raises:
        SourceError: if the labels lie inside zip files, or metadata cannot be read.
    """
    _check(opened)
    with tidied():
        return retry.call(lambda: _read(opened), faults, opened.name)


def _check(opened: Opened) -> None:
    """See that zips on this machine are some; `datasets` would not say which is not."""
    for file, name in zip(opened.files, opened.names, strict=True):
        if name.lower().endswith(".zip") and not opened.remote and not zipfile.is_zipfile(file):
            raise SourceError(f"{printable(name)} in {opened.name} is not a zip file, or is damaged. Download it again")


def _read(opened: Opened) -> tuple[Mapping[str, Column], pa.Table]:
    try:
        stream = _stream(opened)
        tables = list(stream.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE))
    except (ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, pa.ArrowException) and opened.remote:
            raise  # a body cut short, perhaps: the caller has patience
        raise SourceError(_refusal(opened, error)) from error
    table = pa.concat_tables(tables) if tables else stream.features.arrow_schema.empty_table()
    return {name: _column(feature) for name, feature in stream.features.items()}, table.replace_schema_metadata()


def _stream(opened: Opened) -> IterableDataset:
    builder = opened.builder
    if builder is None:
        files = DataFilesDict({split: DataFilesList(list(found), []) for split, found in opened.splits.items()})
        builder = ImageFolder(data_files=files)
    builder.config.decode_num_threads = 0  # of a remote source it would fetch and decode every image, to no end
    stream = builder.as_streaming_dataset(split=opened.split)
    for name, feature in list(stream.features.items()):
        if isinstance(feature, datasets.Image):
            stream = stream.cast_column(name, datasets.Image(decode=False))
    return stream


def _column(feature: Any) -> Column:
    names = {0: tuple(feature.names)} if isinstance(feature, datasets.ClassLabel) else {}
    return Column(datasets.Image() if isinstance(feature, datasets.Image) else feature, names)


def _refusal(opened: Opened, error: Exception) -> str:
    """Why it cannot be read; of zips without metadata, most often because folders in them are classes."""
    reason = one_line(error)
    first = next(name for name in opened.names if name.lower().endswith(".zip"))
    if isinstance(error, zipfile.BadZipFile):
        return f"{opened.name} contains a damaged zip file ({reason}). Download it again"
    if isinstance(error, ValueError) and not isinstance(error, pa.ArrowException):
        return (
            f"{first} contains folders of images, whose names cannot be read as labels inside a zip file. "
            f"Unpack it and give the folder ({reason})"
        )
    return f"{first} cannot be read: {reason}. Unpack it and give the folder"
