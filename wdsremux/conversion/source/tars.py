"""WebDataset tars: a fragment is a tar. Those on this machine are counted by their headers; remote ones are not.

`datasets` finds the files and their features; the tars are read here, grouped and decoded by its rules. Its own reading
takes whatever comes last for the end: a body that a proxy cut short, a damaged header. Here both are errors.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import tarfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import fsspec
import pyarrow as pa
from datasets import Features, Image, IterableDataset
from datasets.features.features import cast_to_python_objects
from datasets.filesystems import EXTENSION_TO_COMPRESSION_FS_FILE_CLS as DECOMPRESSORS
from datasets.packaged_modules.webdataset.webdataset import DECODERS, base_plus_ext
from datasets.table import cast_array_to_feature

from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.conversion.source.remote import Stream, hub_file
from wdsremux.errors import SourceError

_BLOCK_BYTES = 1 << 20  #: of a remote tar, read at once
_END = "EOFHeaderError"  #: how tarfile calls the zeros that end a tar; its stubs do not know the class

Sample = tuple[str, dict[str, bytes]]  #: key; content by field


@dataclass(frozen=True, slots=True)
class TarReader:
    """Reads tars from front to end; of those on this machine, only the columns that are wanted."""

    features: Features  #: of the columns that are read
    files: tuple[str, ...]
    names: tuple[str, ...]
    remote: bool
    faults: patience.Faults

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        name = self.names[fragment.file]
        for samples in self._samples(fragment.file, fragment.size_bytes, self.features, batch_rows):
            yield pa.table({field: _column(field, self.features[field], samples, name) for field in self.features})

    def values(self, column: str) -> Iterator[pa.Array]:
        if self.remote:
            raise SourceError(
                f"the labels in {column!r} are strings, which a remote tar cannot give without its images. "
                "Download it and give the folder, choose another --label-column, or --keep that one"
            )
        for number, name in enumerate(self.names):
            for samples in self._samples(number, 0, {column}, 1_000):
                yield _column(column, self.features[column], samples, name)

    def where(self, fragment: Fragment) -> str:
        return self.names[fragment.file]

    def stored(self, folder: Path) -> TarReader:
        return self

    def _samples(self, number: int, size_bytes: int, fields: Collection[str], count: int) -> Iterator[list[Sample]]:
        """The samples of a tar, `count` at a time, with the content of these fields."""
        name = self.names[number]
        try:
            with self._open(number, size_bytes) as tar:
                samples = _samples(tar, name, fields)
                while batch := list(itertools.islice(samples, count)):
                    yield batch
        except tarfile.TarError as error:
            raise SourceError(f"{name} is damaged: {error}. Fetch it again") from error

    @contextlib.contextmanager
    def _open(self, number: int, size_bytes: int) -> Iterator[tarfile.TarFile]:
        if not self.remote:
            with tarfile.open(self.files[number], "r:", tarinfo=_Header) as tar:
                yield tar
            return
        found = hub_file(self.files[number], self.faults)
        if found is None:  # not one of a commit
            raise SourceError(f"{self.names[number]} lies elsewhere than its data set. Download it")
        with (
            contextlib.closing(Stream(replace(found, size_bytes=size_bytes))) as file,
            io.BufferedReader(Body(file, size_bytes, self.faults, self.names[number]), _BLOCK_BYTES) as body,
            tarfile.open(fileobj=body, mode="r|", tarinfo=_Header) as tar,
        ):
            yield tar


class Body(io.RawIOBase):
    """A remote file from front to end. After a fault it goes on at the byte where it was; it never ends too early."""

    def __init__(self, file: Any, size_bytes: int, faults: patience.Faults, where: str) -> None:
        self._file, self._size_bytes, self._faults, self._where = file, size_bytes, faults, where
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # Having failed, a stream connects anew, for the bytes after those that it gave.
        block = patience.call(lambda: self._file.read(len(buffer)), self._faults, self._where)
        if not block and self._at < self._size_bytes:
            raise OSError(f"it ended after {self._at} of its {self._size_bytes} bytes")
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)


class _Header(tarfile.TarInfo):
    """A member. A damaged header is an error, and the lack of the zeros that end a tar; tarfile alone stops there."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if type(error).__name__ == _END:
                raise
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from error


def survey(opened: Opened, stream: IterableDataset, faults: patience.Faults) -> Survey:
    """Count the samples of all tars of this machine, and ask for the sizes of remote ones.

    Raises:
        SourceError: if a tar is damaged.
    """
    revision = hashlib.sha256()
    sizes = _sizes(opened, faults)
    fragments: list[Fragment] = []
    for number, (file, name, size_bytes) in enumerate(zip(opened.files, opened.names, sizes, strict=True)):
        rows = None if opened.remote else _count(file, revision)
        revision.update(repr((name, size_bytes, rows)).encode())
        fragments.append(Fragment(number, 0, 1, rows, size_bytes))
    reader = TarReader(stream.features, opened.files, opened.names, opened.remote, faults)
    return Survey(tuple(fragments), revision.hexdigest(), reader)


def _sizes(opened: Opened, faults: patience.Faults) -> list[int]:
    """The size of each file, in bytes; remote ones from the listings of their folders, not one by one."""
    if not opened.remote:
        return [os.path.getsize(file) for file in opened.files]
    filesystem, _ = fsspec.url_to_fs(opened.root)
    paths = [filesystem._strip_protocol(file) for file in opened.files]
    listed: dict[str, int] = {}
    for folder in dict.fromkeys(path.rpartition("/")[0] for path in paths):
        entries = patience.call(lambda folder=folder: filesystem.ls(folder, detail=True), faults, folder)  # type: ignore[misc]
        listed.update((entry["name"], int(entry["size"] or 0)) for entry in entries)
    if strangers := [path for path in paths if path not in listed]:
        raise SourceError(f"{opened.name} refers to tars that lie elsewhere, such as {strangers[0]}. Download them")
    return [listed[path] for path in paths]


def _count(file: str, revision: hashlib._Hash) -> int:
    """The samples of a tar.

    Raises:
        SourceError: if it is damaged, or ends too early.
    """
    samples = 0
    try:
        with tarfile.open(file, "r:", tarinfo=_Header) as tar:
            for member in _members(tar, file):
                revision.update(repr((member.info.name, member.info.size, member.info.mtime)).encode())
                samples += member.first
    except (tarfile.TarError, OSError) as error:
        raise SourceError(f"{file} cannot be read as a tar: {error}") from error
    return samples


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in a tar that is a field of a sample."""

    info: tarfile.TarInfo
    key: str
    field: str
    first: bool  #: of its sample


def _members(tar: tarfile.TarFile, name: str) -> Iterator[_Member]:
    """The fields of samples, in their order; a sample is a run of files with one key, as `datasets` takes them.

    Raises:
        SourceError: if a sample has a field twice.
    """
    last: str | None = None
    seen: set[str] = set()
    while (info := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # it would keep all headers: 1 GB for a million files
        key, field = base_plus_ext(info.name)
        if key is None or not info.isreg() or os.path.basename(info.name).startswith((".", "__")):
            continue
        if key != last:
            last, seen = key, set()
        if field in seen:
            raise SourceError(f"{name} has {info.name} twice in one sample. Give each sample a key of its own")
        seen.add(field)
        yield _Member(info, key, field, len(seen) == 1)


def _samples(tar: tarfile.TarFile, name: str, fields: Collection[str]) -> Iterator[Sample]:
    sample: Sample | None = None
    for member in _members(tar, name):
        if sample is None or member.first:
            if sample is not None:
                yield sample
            sample = member.key, {}
        if member.field in fields and (file := tar.extractfile(member.info)):
            sample[1][member.field] = file.read()
    if sample is not None:
        yield sample


def _column(field: str, feature: Any, samples: Sequence[Sample], name: str) -> pa.Array:
    """A field of some samples, as its feature has it in Arrow; null where a sample lacks it.

    Raises:
        SourceError: if a value is not what the feature says.
    """
    if isinstance(feature, Image):
        content = [fields.get(field) for _, fields in samples]
        paths = [None if data is None else f"{key}.{field}" for (key, _), data in zip(samples, content, strict=True)]
        return pa.StructArray.from_arrays(
            [pa.array(content, pa.binary()), pa.array(paths, pa.string())], ["bytes", "path"]
        )
    try:
        values = cast_to_python_objects([_value(field, sample, name) for sample in samples], only_1d_for_numpy=True)
        return cast_array_to_feature(pa.array(values), feature)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        where = f"{name} between samples {samples[0][0]} and {samples[-1][0]}"
        reason = " ".join(str(error).split())
        raise SourceError(f"column {field!r} of {where} does not hold {feature}: {reason}") from error


def _value(field: str, sample: Sample, name: str) -> Any:
    """A field of a sample, decoded as its extension says."""
    key, fields = sample
    if field in ("__key__", "__url__"):
        return key if field == "__key__" else name
    content = fields.get(field)
    extensions = field.lower().split(".")
    if content is None:
        return None
    try:
        if decompress := DECOMPRESSORS.get(f".{extensions[-1]}"):
            with decompress(io.BytesIO(content), mode="rb") as file:
                content = file.read()
            extensions.pop()
        return DECODERS.get(extensions[-1] if extensions else "", bytes)(content)
    except Exception as error:  # the decoders of `datasets` raise what content provokes: UnpicklingError, ImportError
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{key}.{field} of {name} cannot be decoded: {reason}. Leave that column out") from error
