"""What a container has to give, and what it hands to whoever writes or reads shards.

A container is what the samples of a shard lie in: a file that other tools open, and in which each image lies in one
piece, so that a loader takes it out by its place alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """What the samples of a split have beside their images; the same in all its shards."""

    labelled: bool = True
    classes: tuple[str, ...] | None = None  #: names by label; None where labels are plain integers
    kept: pa.Schema | None = None  #: the kept columns and their types, in their order; None where none are kept


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive."""

    extension: str  #: such as "jpg": all that follows the key's dot
    offset: int  #: of the first byte of content in the archive
    size: int  #: of the content, in bytes
    name: str  #: key and extension


@dataclass(frozen=True, slots=True)
class StoredSample:
    """One sample as it lies in a shard."""

    key: str
    place: tuple[int, int, int]  #: fragment, row, part: what the key says
    label: int  #: NO_LABEL where there is none
    offset: int  #: of the image's first byte in the shard
    image: bytes  #: the content of the JPEG file
    members: list[Member] = field(default_factory=list)  #: in the order in which they lie, where it is an archive

    @property
    def record(self) -> tuple[int, ...]:
        """Offset, size, label and CRC-32, as in the sample table."""
        return self.offset, len(self.image), self.label, zlib.crc32(self.image)


@dataclass(frozen=True, slots=True)
class Located:
    """Where a sample lies, by the sample table."""

    key: str
    number: int  #: of the sample in its shard, from 0
    offset: int  #: of the image's first byte in the shard
    size: int  #: of the image, in bytes


LABEL = "label"  #: the dtype of the label in `Card.features`: an integer, or a class where classes have names


@dataclass(frozen=True, slots=True)
class Card:
    """What a dataset card says of a container."""

    shards: str  #: what shards are called: goes on after "as"
    sample: str  #: goes on after "Each sample is"
    #: (name, dtype) of each column that `datasets` reads; none where the shards themselves tell it
    features: Sequence[tuple[str, str]] = ()
    timm: bool = False  #: whether timm reads such shards


class ShardFile(Protocol):
    """A shard that is being written."""

    def add(self, key: str, image: bytes, label: int, crc32: int, kept: bytes | None) -> None:
        """Append a sample.

        Args:
            key: its `__key__`.
            image: the content of the JPEG file.
            label: NO_LABEL for none.
            crc32: of the image.
            kept: its kept columns, as `Container.pack` made them.
        """

    @property
    def offsets(self) -> Sequence[int]:
        """Where each image begins in the shard, in bytes; once the shard is closed."""

    @property
    def index(self) -> bytes | None:
        """The content of the index beside the shard; None where the container has none. Once the shard is closed."""


class KeptReader(Protocol):
    """Takes the kept columns of samples out of shards. Not for several threads at once."""

    def values(self, shard: int, sample: Located) -> dict[str, Any]:
        """Those of one sample, as JSON has them, by name.

        Raises:
            ValueError: if they are not there; the text goes on after the shard's name.
        """


class Container(Protocol):
    """One container: a module with these names."""

    @property
    def LEAD_BYTES(self) -> int:  # a constant of the module
        """How many bytes in front of each image tell that it is this one."""

    @property
    def BESIDE_BYTES(self) -> int:
        """What a sample takes on the disk beside its image and its kept columns, about: for an estimate."""

    @property
    def RESERVED(self) -> frozenset[str]:
        """Names that kept columns cannot have."""

    def card(self, labelled: bool, keep: Sequence[str]) -> Card:
        """What the dataset card says of the samples of a set.

        Args:
            labelled: whether they may have labels.
            keep: names of the kept columns.
        """

    # Writing

    def pack(self, values: Mapping[str, Any], columns: SampleColumns) -> bytes:
        """The kept columns of a sample, in the order of --keep, as `ShardFile.add` takes them.

        Raises:
            ValueError: naming the column whose value is not of its type.
        """

    def create(
        self, folder: Path, split: str, number: int, columns: SampleColumns
    ) -> AbstractContextManager[ShardFile]:
        """Write the shard of that number; it is whole on the disk when the block ends without an error.

        Raises:
            OSError: if it cannot be written.
        """

    # Reading back with suspicion

    def walk(self, file: BinaryIO, path: Path, size_bytes: int) -> Iterator[StoredSample]:
        """Read a shard once, a few samples in memory at a time; after the last one, all of `file` has been read.

        Args:
            file: the shard, open for reading, buffered, at its start.
            path: the same shard, for who has to jump in it.
            size_bytes: its size.

        Raises:
            FormatError: naming the place of the first damage.
        """

    def index_text(self, samples: Iterable[list[Member]]) -> bytes | None:
        """The index beside a shard with these samples, to the byte as it was written; None where there is none."""

    # Loading

    def is_lead(self, lead: memoryview, key: str, size: int) -> bool:
        """Whether these `LEAD_BYTES` bytes stand before the image of that sample, which has `size` bytes."""

    def kept_reader(self, opened: Callable[[int], BinaryIO], names: Sequence[str]) -> KeptReader:
        """What takes out kept columns.

        Args:
            opened: gives a shard, by its place in the manifest's list, open for reading and seekable.
            names: of the kept columns, in their order.
        """
