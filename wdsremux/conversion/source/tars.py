"""WebDataset tars: a fragment is a tar. Those on this machine are counted by their headers; remote ones are not."""

from __future__ import annotations

import functools
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from datasets import IterableDataset
from datasets.packaged_modules.webdataset.webdataset import base_plus_ext

from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey
from wdsremux.errors import SourceError

_SIZES_AT_ONCE = 16  #: each is two or three requests of a tenth of a second
_TAIL_BYTES = 65_536  #: that are fetched for the end of a remote tar
_CUT = "is cut short: it has no end-of-archive mark. Fetch it again"


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
            with _open(file) as tar:
                members = (member for member in _members(tar) if _field(member) == column)
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
    if opened.remote:
        with ThreadPoolExecutor(_SIZES_AT_ONCE, "wdsremux-tar") as pool:
            look = functools.partial(_size, faults=faults)
            sizes: list[tuple[int | None, int]] = [(None, size) for size in pool.map(look, opened.files, opened.names)]
    else:
        sizes = [
            (_count(file, name, revision), os.path.getsize(file))
            for file, name in zip(opened.files, opened.names, strict=True)
        ]
    for number, (name, (rows, size_bytes)) in enumerate(zip(opened.names, sizes, strict=True)):
        revision.update(repr((name, size_bytes, rows)).encode())
        fragments.append(Fragment(number, 0, 1, rows, size_bytes))
    reader = TarReader(stream, opened.files, opened.names, opened.remote)
    return Survey(tuple(fragments), revision.hexdigest(), reader)


def _size(file: str, name: str, faults: patience.Faults) -> int:
    """The size of a remote tar.

    Raises:
        SourceError: if it is compressed, for its size then says nothing of its rows; or ends without the mark.
    """
    if not file.endswith(".tar"):
        raise SourceError(f"{name} is compressed, and cannot be converted over the network. Download and unpack it")
    size_bytes, end = patience.call(lambda: _end(file), faults, name)
    if any(end) or len(end) < tarfile.BLOCKSIZE:
        raise SourceError(f"{name} {_CUT}")
    return size_bytes


def _end(file: str) -> tuple[int, bytes]:
    """The size of a remote file, in bytes, and its last block."""
    with fsspec.open(file, "rb", block_size=_TAIL_BYTES) as opened:
        opened.seek(0, os.SEEK_END)
        size_bytes = opened.tell()
        opened.seek(max(0, size_bytes - tarfile.BLOCKSIZE))
        return size_bytes, opened.read()


def _count(file: str, name: str, revision: hashlib._Hash) -> int:
    """The samples of a tar: runs of files with one key, as `datasets` takes them.

    Raises:
        SourceError: if it is damaged or cut short.
    """
    samples, last = 0, None
    try:
        with _open(file) as tar:
            for member in _members(tar):
                revision.update(repr((member.name, member.size, member.mtime)).encode())
                if _field(member) is not None:
                    key = base_plus_ext(member.name)[0]
                    samples += key != last
                    last = key
            _check_end(tar, name)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{name} cannot be read as a tar: {' '.join(str(error).split())}. Fetch it again") from error
    return samples


def _open(file: str) -> tarfile.TarFile:
    return tarfile.open(file, "r:" if file.endswith(".tar") else "r:*")


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a tar, none of them kept: those of a large tar do not fit in memory."""
    while (member := tar.next()) is not None:
        tar.members.clear()
        yield member


def _check_end(tar: tarfile.TarFile, name: str) -> None:
    """Refuse a tar that does not end with a block of zeros (POSIX pax, "ustar Interchange Format").

    tarfile takes whatever is no header for the end, a damaged header and a half one too, and says nothing.
    """
    file: Any = tar.fileobj
    file.seek(tar.offset)
    block = file.read(tarfile.BLOCKSIZE)
    if any(block):
        raise SourceError(f"{name} is damaged at byte {tar.offset:,}: there is no header of a file. Fetch it again")
    if not block:
        raise SourceError(f"{name} {_CUT}")


def _field(member: tarfile.TarInfo) -> str | None:
    """The field that a member is of its sample; None for what `datasets` passes over."""
    if not member.isreg() or os.path.basename(member.name).startswith((".", "__")):
        return None
    field: str | None = base_plus_ext(member.name)[1]
    return field


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""
