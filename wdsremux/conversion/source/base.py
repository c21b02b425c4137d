"""What the modules of this room hand each other: fragments, columns, rows; and what a kind of source has to give."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from wdsremux.conversion.source.retry import Faults

STORED = "listing.arrow"  #: the file in which a reader keeps what is large in it, in the folder of the journal
Untaken = Mapping[str, Sequence[str]]  #: names of files that are not converted, by the reason, such as "hidden"


@dataclass(frozen=True, slots=True)
class Opened:
    """A split of which the files are known; nothing has been read of them yet but a listing."""

    kind: str  #: of source: a name in the table of file_kinds.py
    name: str  #: of the folder, or the Hub id
    root: str  #: what file names are relative to: a folder, or hf://datasets/ORG/NAME@SHA
    split: str
    splits: Mapping[str, tuple[str, ...]]  #: the files of every split, in the order in which they are read
    how: str = ""  #: how the splits were told apart, in words that go on after "by"
    split_by: str = ""  #: what of a path names its split: whole "folders", "words" of it; "": nothing
    revision: str | None = None  #: the commit on the Hub; None of a source on this machine
    config: str | None = None
    license: Any = None  #: as the dataset card says it
    citation: str | None = None
    features: Mapping[str, Any] | None = None  #: of `datasets`, as the dataset card states them; None where it does not
    builder: Any = None  #: datasets.DatasetBuilder that found the files; None where they were listed by us
    beside: tuple[str, ...] = ()  #: files of the split's folder that are no pictures, where the kind is images
    label_asked: str | None = None  #: what the user gave as --label-column
    untaken: Untaken = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Those of the split."""
        return self.splits[self.split]

    @property
    def remote(self) -> bool:
        return self.revision is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The files of the split, relative to the root."""
        return tuple(self.relative(file) for file in self.files)

    def relative(self, file: str) -> str:
        return relative(file, self.root)

    def at(self, split: str) -> Opened:
        """Another split of the same source."""
        return replace(self, split=split)


@dataclass(frozen=True, slots=True)
class Column:
    """What a look at all files of a split tells of one of its columns."""

    feature: Any  #: of `datasets`; a pyarrow.DataType where `datasets` has none for it
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  #: of a ClassLabel: its class names, by file
    least: int | None = None  #: of integers: the smallest, where footers tell it
    integers: bool = False  #: of texts: they are integers by convention (a tar's .cls)
    seen: tuple[str, ...] = ()  #: of texts: the first values, where no more is known before all is read
    lacking: str | None = None  #: the first file that has no such column, in words
    clash: str | None = None  #: two files that do not agree on its type, in words


@dataclass(frozen=True, slots=True)
class Fragment:
    """The smallest piece of a source that can be read by itself."""

    file: int  #: place in the source's list of files; the first one, where it is a run of files
    part: int  #: which part of that file
    parts: int  #: of that file, all in all
    rows: int | None  #: None: not known before it is read (a remote or compressed tar)
    size_bytes: int  #: as stored, compressed


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be baked, found while it was read."""

    column: str  #: whose value is at fault
    reason: str  #: the same on every machine


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows as a reader gives them: columns under their names, values as the source has them."""

    table: pa.Table
    faults: Mapping[int, Fault] = field(default_factory=dict)  #: by place in the table
    keys: pa.Array | None = None  #: string [N]: what the source calls rows whose image has no path


class SourceReader(Protocol):
    """How one kind of source is read. It travels to workers, so it pickles."""

    def pieces(self, fragment: Fragment, names: Sequence[str], batch_rows: int) -> Iterator[Piece]:
        """The rows of a fragment from its first on, `batch_rows` at a time, with the columns of these names.

        Images are structs of bytes and path, or binary. A row at fault may hold nulls.
        """

    def values(self, column: str) -> Iterator[tuple[int, pa.Array]]:
        """All values of a column that is no image, without reading the images: (number of the file, some values).

        Raises:
            SourceError: if this kind of source cannot give them so.
        """

    def where(self, fragment: Fragment) -> str:
        """A fragment in words, such as "row group 3 of data/train-00000.parquet"."""

    def stored(self, folder: Path) -> SourceReader:
        """This reader with what is large in it moved to a file in `folder`, which all workers see."""

    def sparing(self, rows: int) -> SourceReader:
        """This reader for who wants only the first rows of a fragment, about so many: little else is read."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at a whole split found."""

    fragments: tuple[Fragment, ...]
    revision: Callable[[Sequence[str]], str]  #: SHA-256 over what was looked at of these columns; see `fixed`
    columns: Mapping[str, Column]  #: by name, in the source's order
    reader: SourceReader
    partial: bool = False  #: whether rows may have columns that are not among these: only the first were looked at
    ragged: bool = False  #: whether rows may lack columns, being files side by side: then a Json is the text of one
    untaken: Untaken = field(default_factory=dict)
    unread: Untaken = field(default_factory=dict)  #: by column: files that are taken only where it is asked for
    warnings: tuple[str, ...] = ()  #: what the user should know of it, though it can be read


class SourceKind(Protocol):
    """What the module of a kind gives: see the table in file_kinds.py."""

    def survey(self, opened: Opened, faults: Faults) -> Survey:
        """Look at all files of a split, without reading images from a remote one.

        Raises:
            SourceError: if they are not what they seem, or damaged.
        """


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of one fragment, as Arrow: no Python object a row."""

    fragment: int
    first: int  #: row number, in the fragment, of the first
    image_column: str  #: its name in the source
    images: pa.Array  #: binary or large_binary [N]; null where the source has no bytes
    paths: pa.Array  #: string [N]; what the source calls the image, null where it does not say
    label_column: str | None
    labels: pa.Array  #: int64 [N]; null or -1 where there is none
    kept: pa.Table  #: the columns of --keep, N rows; without a column where there are none
    faults: Mapping[int, Fault] = field(default_factory=dict)  #: by place; such a row is a reject

    def __len__(self) -> int:
        return len(self.images)

    @property
    def contents(self) -> list[memoryview | None]:
        """The images' bytes, not copied; None where the image is null.

        Taken by offsets out of Arrow's one buffer (Arrow columnar format, "Variable-size Binary Layout"): an Arrow
        scalar an image costs sixteen times as much.
        """
        if not len(self.images):
            return []
        validity, offsets, content = self.images.buffers()
        width = np.int64 if pa.types.is_large_binary(self.images.type) else np.int32
        edges = np.frombuffer(offsets, width)[self.images.offset :][: len(self.images) + 1].tolist()
        view = memoryview(content or b"").cast("B")  # Arrow's are signed, which simplejpeg refuses
        found: list[memoryview | None] = [view[start:end] for start, end in itertools.pairwise(edges)]
        if validity is not None:
            for place in np.flatnonzero(self.images.is_null()):
                found[place] = None
        return found

    @property
    def nbytes(self) -> int:
        """Of the images, in bytes."""
        return int(self.images.nbytes)

    def head(self, count: int) -> Rows:
        """The first rows."""
        return replace(
            self,
            images=self.images[:count],
            paths=self.paths[:count],
            labels=self.labels[:count],
            kept=self.kept[:count],
            faults={place: fault for place, fault in self.faults.items() if place < count},
        )


def fixed(revision: str) -> Callable[[Sequence[str]], str]:
    """The revision of a kind of source that is looked at as a whole: by names, sizes, footers or headers."""
    return lambda names: revision


def relative(path: str, root: str) -> str:
    """A path relative to a root, also inside zip://…::…; the last part of one that lies elsewhere on this machine."""
    inner, link, last = path.rpartition("::")
    if last.startswith(f"{root}/"):
        last = last[len(root) + 1 :]
    elif last.startswith("/"):
        last = last.rpartition("/")[2]
    return inner + link + last
