"""WebDataset tars: a fragment is a tar. Those on this machine are counted by their headers; remote ones are not."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pyarrow as pa
from datasets import IterableDataset
from datasets.packaged_modules.webdataset.webdataset import base_plus_ext

from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.errors import SourceError


@dataclass(frozen=True, slots=True)
class TarReader:
    """Reads tars through `datasets`, from front to end."""

    stream: IterableDataset  #: one shard a tar
    files: tuple[str, ...]
    names: tuple[str, ...]
    remote: bool

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        piece = self.stream.shard(len(self.files), fragment.file)
        yield from piece.with_format("arrow").iter(batch_size=batch_rows)

    def values(self, column: str) -> Iterator[pa.Array]:
        if self.remote:
            raise SourceError(
                f"the labels in {column!r} are strings, which a remote tar cannot give without its images. "
                "Download it and give the folder, choose another --label-column, or --keep that one"
            )
        for file in self.files:
            with tarfile.open(file) as tar:
                members = (member for member in tar if _field(member) == column)
                yield pa.array([_content(tar, member).decode() for member in members], pa.string())

    def where(self, fragment: Fragment) -> str:
        return self.names[fragment.file]

    def stored(self, folder: Path) -> TarReader:
        return self


def survey(opened: Opened, stream: IterableDataset, faults: patience.Faults) -> Survey:
    """Count the samples of all tars of this machine, and ask for the sizes of remote ones.

    Raises:
        SourceError: if a tar is damaged.
    """
    fragments: list[Fragment] = []
    revision = hashlib.sha256()
    for number, (file, name) in enumerate(zip(opened.files, opened.names, strict=True)):
        if opened.remote:
            size_bytes, rows = patience.call(lambda file=file: _size(file), faults, name), None  # type: ignore[misc]
        else:
            size_bytes, rows = os.path.getsize(file), _count(file, revision)
        revision.update(repr((name, size_bytes, rows)).encode())
        fragments.append(Fragment(number, 0, 1, rows, size_bytes))
    reader = TarReader(stream, opened.files, opened.names, opened.remote)
    return Survey(tuple(fragments), revision.hexdigest(), reader)


def _size(file: str) -> int:
    filesystem, path = fsspec.url_to_fs(file)
    return int(filesystem.size(path))


def _count(file: str, revision: hashlib._Hash) -> int:
    """The samples of a tar: runs of files with one key, as `datasets` takes them.

    Raises:
        SourceError: if it ends within a member.
    """
    samples, last, size_bytes = 0, None, os.path.getsize(file)
    try:
        with tarfile.open(file) as tar:
            for member in tar:
                revision.update(repr((member.name, member.size, member.mtime)).encode())
                if member.offset_data + member.size > size_bytes:
                    raise SourceError(f"{file} is cut short: {member.name} ends past its {size_bytes} bytes")
                if _field(member) is not None:
                    key = base_plus_ext(member.name)[0]
                    samples += key != last
                    last = key
    except (tarfile.TarError, OSError) as error:
        raise SourceError(f"{file} cannot be read as a tar: {error}") from error
    return samples


def _field(member: tarfile.TarInfo) -> str | None:
    """The field that a member is of its sample; None for what `datasets` passes over."""
    if not member.isreg() or os.path.basename(member.name).startswith((".", "__")):
        return None
    field: str | None = base_plus_ext(member.name)[1]
    return field


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""
