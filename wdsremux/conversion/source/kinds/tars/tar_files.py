"""Tars as they lie: plain or compressed, on this machine or on the Hub; damage in them is an error, never an end.

tarfile takes whatever comes last for the end of a tar: a body that a proxy cut short, a damaged header.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import fsspec

from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Opened
from wdsremux.conversion.source.hub_files import Stream, hub_file
from wdsremux.errors import SourceError

_BLOCK_BYTES = 1 << 20  #: of a stream, read at once
_END = "EOFHeaderError"  #: how tarfile calls the zeros that end a tar; its stubs do not know the class
_USTAR = slice(257, 262)  #: where a tar of any age but the oldest says that it is one
_MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
# What reading a damaged tar raises. gzip's own error is an OSError, which would pass for a fault of the network.
DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


@dataclass(frozen=True, slots=True)
class TarFiles:
    """The tars of a split. It travels to workers."""

    files: tuple[str, ...]  #: paths, or addresses on the Hub
    names: tuple[str, ...]  #: relative to the source
    sizes_bytes: tuple[int, ...]  #: as stored
    remote: bool
    faults: retry.Faults

    def plain(self, number: int) -> bool:
        """Whether a tar can be read anywhere: it lies on this machine and is not compressed."""
        if self.remote:
            return False
        with open(self.files[number], "rb") as file:
            return _decompressor(file.read(512)) is None

    @contextlib.contextmanager
    def open(self, number: int) -> Iterator[tarfile.TarFile]:
        """A tar, to be read from front to end; one that is `plain` can be read anywhere."""
        if not self.remote and self.plain(number):
            with tarfile.open(self.files[number], "r:", tarinfo=TarHeader) as tar:
                yield tar
            return
        with contextlib.ExitStack() as stack:
            body = stack.enter_context(self._body(number))
            if decompressor := _decompressor(body.peek(512)):
                body = stack.enter_context(decompressor(body))
            yield stack.enter_context(tarfile.open(fileobj=body, mode="r|", tarinfo=TarHeader))

    @contextlib.contextmanager
    def _body(self, number: int) -> Iterator[Any]:
        """The bytes of a tar as stored, in a buffer."""
        if not self.remote:
            with open(self.files[number], "rb", _BLOCK_BYTES) as file:
                yield file
            return
        found = hub_file(self.files[number], self.faults)
        if found is None:  # not one of a commit
            raise SourceError(f"{self.names[number]} is stored outside its data set. Download it")
        size_bytes = self.sizes_bytes[number]
        with (
            contextlib.closing(Stream(replace(found, size_bytes=size_bytes))) as stream,
            io.BufferedReader(Body(stream, size_bytes, self.faults, self.names[number]), _BLOCK_BYTES) as body,
        ):
            yield body


def tar_files(opened: Opened, faults: retry.Faults) -> TarFiles:
    """The tars of a split, with their sizes; those of remote ones are asked for folder by folder, not one by one."""
    return TarFiles(opened.files, opened.names, tuple(_sizes(opened, faults)), opened.remote, faults)


def _sizes(opened: Opened, faults: retry.Faults) -> list[int]:
    if not opened.remote:
        return [os.path.getsize(file) for file in opened.files]
    filesystem, _ = fsspec.url_to_fs(opened.root)
    paths = [filesystem._strip_protocol(file) for file in opened.files]
    listed: dict[str, int] = {}
    for folder in dict.fromkeys(path.rpartition("/")[0] for path in paths):
        entries = retry.call(lambda folder=folder: filesystem.ls(folder, detail=True), faults, folder)  # type: ignore[misc]
        listed.update((entry["name"], int(entry["size"] or 0)) for entry in entries)
    if strangers := [path for path in paths if path not in listed]:
        raise SourceError(
            f"{opened.name} refers to tar files that are stored elsewhere, such as {strangers[0]}. Download them"
        )
    return [listed[path] for path in paths]


def _decompressor(head: bytes) -> Any:
    """What unpacks a tar that begins so; None if it is not compressed. What its name says does not count."""
    if head[_USTAR] == b"ustar":
        return None  # a member's name may begin with any bytes
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def finish(tar: tarfile.TarFile, seekable: bool) -> None:
    """Read a tar past its end: the checksum of what was compressed comes last, and nothing else may be there.

    Raises:
        tarfile.ReadError: if another tar follows, which every reader would pass over.
    """
    if seekable:
        tar.fileobj.seek(tar.offset)
    while block := tar.fileobj.read(_BLOCK_BYTES):
        if block.count(0) < len(block):
            raise tarfile.ReadError(
                "more data follows the end of the archive, as in tar files joined with cat; join them with `tar -A` "
                "instead"
            )


class Body(io.RawIOBase):
    """A remote file from front to end. After a fault it goes on at the byte where it was; it never ends too early."""

    def __init__(self, file: Any, size_bytes: int, faults: retry.Faults, where: str) -> None:
        self._file, self._size_bytes, self._faults, self._where = file, size_bytes, faults, where
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # Having failed, a stream connects anew, for the bytes after those that it gave.
        block = retry.call(lambda: self._file.read(len(buffer)), self._faults, self._where)
        if not block and self._at < self._size_bytes:
            raise OSError(f"received {self._at} of {self._size_bytes} bytes")
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)


class TarHeader(tarfile.TarInfo):
    """A member. A damaged header is an error, and the lack of the zeros that end a tar; tarfile alone stops there."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if type(error).__name__ == _END:
                raise
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from error
        except (ValueError, IndexError, OverflowError, RecursionError) as error:  # of extended headers
            raise tarfile.ReadError(f"invalid header at byte {tar.offset}") from error
