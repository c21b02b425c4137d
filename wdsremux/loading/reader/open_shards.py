"""The shards of a split: opened when first read, known again by their first sample, and read piece by piece.

A shard is never trained on before it is seen to be the one that the manifest names: its size, then its first sample's
name and CRC-32. So a shard put in another's place, also one of the same size or of another split, is an error instead
of wrong labels.
"""

from __future__ import annotations

import os
import resource
from collections import OrderedDict
from errno import EACCES, EISDIR, EMFILE, ENFILE, ENOENT

from wdsremux.errors import FormatError
from wdsremux.loading.reader.split import DELETE, DELETE_SHARD, REBUILD, Mark, Split, marks

OPEN_SHARDS = 256  #: file descriptors kept at most; four windows, and a quarter of the usual limit of 1,024
MORE = "Close other files, or raise the limit with `ulimit -n`"
_ADVISE = getattr(os, "posix_fadvise", None)  #: not on macOS
_FULL = frozenset({EMFILE, ENFILE})  #: errors of a process, or a machine, that has too much open
_LASTING = frozenset({EACCES, EISDIR, ENOENT})  #: errors that the next sample of the shard would meet as well


class Disk:
    """All that is asked of the file system for a shard; tests put a slow or a failing one in its place."""

    def open(self, path: str | os.PathLike[str]) -> int:
        """A file descriptor for reading; of a pipe, too, at once: its size then says that it is no shard."""
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))

    def read(self, descriptor: int, into: memoryview, offset: int) -> int:
        """Fill `into` from a place in the file; the bytes read, 0 at the file's end."""
        return os.preadv(descriptor, [into], offset)

    def hint(self, descriptor: int, offset: int, size: int) -> None:
        """Have the system begin to read a part of the file, and return at once; where it cannot, nothing happens."""
        if _ADVISE is not None:
            try:  # noqa: SIM105  # suppress() takes 0.5 us, twice what the call takes
                _ADVISE(descriptor, offset, size, os.POSIX_FADV_WILLNEED)
            except OSError:  # advice that cannot be taken: the read that follows will say why
                pass


def _descriptors() -> int:
    """How many files this process may have open."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 4 * OPEN_SHARDS if most == resource.RLIM_INFINITY else most


class Shards:
    """The shards of a split, as far as they are open. Not for several threads at once.

    Args:
        split: which.
        disk: how they are read.
        lenient: whether a shard that turned out wrong is taken to be so from then on, without another look; and one of
            which only the first sample is damaged is taken.
    """

    def __init__(self, split: Split, disk: Disk, lenient: bool = False) -> None:
        self.split, self.disk = split, disk
        self._lenient = lenient
        self._most = max(1, min(OPEN_SHARDS, _descriptors() // 4))  # the rest is the training's
        self._open: OrderedDict[int, int] = OrderedDict()  # shard -> file descriptor, least recently used first
        self._known: set[int] = set()  # shards seen to be the right ones
        self._wrong: dict[int, str] = {}  # what is said of shards that are not

    def read(self, shard: int, offset: int, into: memoryview) -> None:
        """Fill `into` with a shard's bytes from `offset` on.

        Raises:
            FormatError: naming the shard that is missing, was changed, is cut short, or cannot be read.
        """
        descriptor = self.descriptor(shard)
        try:
            count = self.disk.read(descriptor, into, offset)
        except OSError as error:
            raise self._unreadable(shard, error) from error
        if count < len(into):  # once in a lifetime; the file may also have ended
            self._fill(shard, descriptor, offset, into)

    def hint(self, shard: int, offset: int, size: int) -> None:
        """Have a part of a shard read soon. What is wrong with the shard is left to `read` to say."""
        try:  # noqa: SIM105  # as above
            self.disk.hint(self.descriptor(shard), offset, size)
        except FormatError:
            pass

    def descriptor(self, shard: int) -> int:
        """The file descriptor of a shard, opened and checked; it stays open for `_most` - 1 others.

        Raises:
            FormatError: as `read`.
        """
        descriptor = self._open.get(shard)
        if descriptor is not None:
            self._open.move_to_end(shard)
            return descriptor
        if shard in self._wrong:
            raise FormatError(self._wrong[shard])
        descriptor = self._open[shard] = self._opened(shard)
        if len(self._open) > self._most:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def close(self) -> None:
        """Close the shards, and forget which were wrong; the next read opens them again."""
        self._wrong.clear()
        while self._open:
            os.close(self._open.popitem()[1])

    def _opened(self, shard: int) -> int:
        path = self.split.path(shard)
        try:
            descriptor = self.disk.open(path)
        except OSError as error:
            what = f"{path} cannot be opened: {error.strerror}. {MORE if error.errno in _FULL else REBUILD}"
            raise self._found(shard, what, error.errno in _LASTING) from error
        try:
            self._check_size(shard, descriptor)
            if shard not in self._known:
                self._check_marks(shard, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check_size(self, shard: int, descriptor: int) -> None:
        size, wanted = os.fstat(descriptor).st_size, self.split.manifest.shards[shard].size_bytes
        if size != wanted:
            what = (
                f"{self.split.path(shard)} was changed after the conversion: it has {size} bytes, but the manifest says"
            )
            raise self._found(shard, f"{what} {wanted}. {REBUILD}")

    def _check_marks(self, shard: int, descriptor: int) -> None:
        """The first sample has to be there; where it is not, the last one tells damage from another shard."""
        first, last = marks(self.split, shard)
        if not self._agrees(shard, descriptor, first):
            if not self._agrees(shard, descriptor, last):
                what = f"{self.split.path(shard)} is damaged, or is another shard: {first.key}.jpg is not at byte"
                raise self._found(shard, f"{what} {first.offset}. {DELETE}")
            if not self._lenient:
                raise FormatError(
                    f"{self.split.place(first.sample_id)} is damaged: its CRC-32 or header is wrong. {DELETE_SHARD}"
                )
        self._known.add(shard)

    def _agrees(self, shard: int, descriptor: int, wanted: Mark) -> bool:
        content = memoryview(bytearray(wanted.size))
        self._fill(shard, descriptor, wanted.offset, content)
        return wanted.agrees(content)

    def _found(self, shard: int, what: str, lasting: bool = True) -> FormatError:
        if self._lenient and lasting:
            self._wrong[shard] = what
        return FormatError(what)

    def _unreadable(self, shard: int, error: OSError) -> FormatError:
        return FormatError(f"{self.split.path(shard)} cannot be read: {error.strerror}. {REBUILD}")

    def _fill(self, shard: int, descriptor: int, offset: int, into: memoryview) -> None:
        done = 0
        while done < len(into):  # once, but for file systems and signals that cut a read short
            try:
                count = self.disk.read(descriptor, into[done:], offset + done)
            except OSError as error:
                raise self._unreadable(shard, error) from error
            if not count:
                raise FormatError(
                    f"{self.split.path(shard)} ends in the middle of the sample at byte {offset}. {REBUILD}"
                )
            done += count
