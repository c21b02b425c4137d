"""Files read with suspicion: whatever stands under a name, the answer is its content or a sentence."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from wdsremux import files
from wdsremux.errors import FormatError
from wdsremux.format.manifest import Manifest
from wdsremux.format.plain import FREE, check_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

DIFFERS = "differs from the manifest (SHA-256)"
_RENAME = "Restore both names, or delete both files and run the same conversion again to rebuild them"
_EMPTY = hashlib.sha256().hexdigest()  #: tells nothing: many a file is cut down to it


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the system's refusal to read a file into a sentence.

    Raises:
        FormatError: instead of an OSError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FormatError("is missing. Run the same conversion again to rebuild it", path.name) from error
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}. {FREE}", path.name) from error


def size_of(path: Path) -> int:
    """A file's size in bytes.

    Raises:
        FormatError: if there is none, or something else under its name: opening a pipe would wait for ever.
    """
    with readable(path):
        return check_plain(path)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        FormatError: if it cannot be read.
    """
    size_of(path)
    with readable(path):
        return files.sha256(path)


class Hashing(io.RawIOBase):
    """Hashes all that is read through it. Under a buffer that takes large pieces, so that hashlib drops the GIL."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._file.readinto(buffer)
        self.sha256.update(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def hashed(path: Path) -> Iterator[tuple[BinaryIO, Hashing]]:
    """Open a file for one reading from front to end, and the hash of what was read of it."""
    with readable(path), Hashing(io.FileIO(path)) as raw, io.BufferedReader(raw, 2**20) as file:
        yield cast(BinaryIO, file), raw


@dataclass(frozen=True, slots=True)
class Known:
    """Where content belongs, by its SHA-256: what all sound manifests say."""

    places: dict[str, tuple[str, str]] = field(default_factory=dict)  #: (split, file)
    sizes: set[int] = field(default_factory=set)  #: of the shards, in bytes

    @staticmethod
    def of(manifests: Iterable[Manifest]) -> Known:
        """What the manifests say."""
        known = Known()
        for split in manifests:
            digests = [(name, described["sha256"]) for name, described in split.files.items()]
            for shard in split.shards:
                digests += shard.files
                known.sizes.add(shard.size_bytes)
            for name, sha256 in digests:
                known.places.setdefault(sha256, (split.split, name))
        known.places.pop(_EMPTY, None)
        return known

    def name(self, sha256: str, split: str) -> str | None:
        """The file that this content belongs to, as people of `split` call it; None if no manifest knows it."""
        place = self.places.get(sha256)
        return place and (place[1] if place[0] == split else f"{place[0]}/{place[1]}")

    def swapped(self, sha256: str, split: str) -> str | None:
        """What to say of a file that holds another's content; None if it does not."""
        name = self.name(sha256, split)
        return name and f"has the content of {name}: the files were swapped or renamed. {_RENAME}"
