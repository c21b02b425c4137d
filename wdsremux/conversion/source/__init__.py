"""SOURCE -> fragments, columns, rows; read through `datasets`, streaming, never decoded.

    opening.py     joins the others: SOURCE -> Source
    builder.py     SOURCE -> a builder of `datasets`: a Hub id, a folder, a glob
    listing.py     a folder of images, found in one pass over it
    columns.py     features -> which column is the image, which the label, what its classes are
    parquet.py, arrow.py, tars.py, images.py      one file a kind: its fragments, and how one is read
    local.py       what is taken of this machine beside the files themselves
    files.py       images of which the rows hold only the path
    remote.py      files of a commit on the Hub, every answer checked
    patience.py    a reading that a fault of the network cut short goes on where it stopped

The process that makes the plan looks at the whole source once, and never at the image bytes of a remote one. A worker
is handed the open `Source` (it pickles to a few kilobytes) and reads single fragments of it.
"""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from wdsremux.conversion.source import columns, patience
from wdsremux.conversion.source.columns import Columns
from wdsremux.conversion.source.files import Files
from wdsremux.errors import SourceError

_AT_ONCE = 4  #: fragments of a remote source, for each worker
_UNFIT = (ValueError, TypeError, KeyError, zlib.error, zipfile.BadZipFile)  #: what `datasets` raises on odd content


@dataclass(frozen=True, slots=True)
class Fragment:
    """The smallest piece of a source that can be read by itself."""

    file: int  #: place in the source's list of files; the first one, where it is a run of files
    part: int  #: which part of that file
    parts: int  #: of that file, all in all
    rows: int | None  #: None: not known before it is read (a remote tar)
    size_bytes: int  #: as stored, compressed


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
    faults: Mapping[int, str] = field(default_factory=dict)  #: why the image at a place is null, where that is known

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


class Reader(Protocol):
    """How one kind of source is read. It travels to workers, so it pickles."""

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        """The rows of a fragment from its first on, `batch_rows` at a time; images as structs of bytes and path."""

    def values(self, column: str) -> Iterator[pa.Array]:
        """All values of a column that is no image, without reading the images.

        Raises:
            SourceError: if this kind of source cannot give them so.
        """

    def where(self, fragment: Fragment) -> str:
        """A fragment in words, such as "row group 3 of data/train-00000.parquet"."""

    def stored(self, folder: Path) -> Reader:
        """This reader with what is large in it moved to a file in `folder`, which all workers see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An opened split of a source."""

    description: dict[str, Any]  #: what the manifest says of it; no absolute path
    fragments: tuple[Fragment, ...]
    columns: Columns
    classes: list[str] | None  #: names by label; None where labels are plain integers or absent
    reader: Reader = field(repr=False)
    files: Files  #: reads images of which the rows hold only the path
    stamp: str | None = None  #: SHA-256 over when its files were last written to; None where a commit pins them
    faults: patience.Faults  #: which errors are worth another try, and for how long

    @property
    def size_bytes(self) -> int:
        return sum(fragment.size_bytes for fragment in self.fragments)

    @property
    def at_once(self) -> int:
        """How many fragments are worth reading at the same time: a server takes a tenth of a second to begin each."""
        return _AT_ONCE if self.files.remote else 1

    def where(self, number: int) -> str:
        """A fragment in words."""
        return self.reader.where(self.fragments[number])

    def stored(self, folder: Path) -> Source:
        """This source, ready to travel: what is large in it lies in a file in `folder`."""
        return replace(self, reader=self.reader.stored(folder))

    def rows(self, number: int, batch_rows: int, limit: int | None = None) -> Iterator[Rows]:
        """The rows of one fragment, in order, `batch_rows` at a time.

        Args:
            number: of the fragment.
            batch_rows: the last batch has fewer.
            limit: stop after so many rows.

        Raises:
            SourceError: if it cannot be read, or has another number of rows than it was said to have.
        """
        given, promised = 0, self.fragments[number].rows
        if promised == 0 or limit == 0:
            return
        if limit == promised:
            limit = None  # so that rows past the promised ones are noticed
        for rows in patience.read(lambda first: self._read(number, batch_rows, first), self.faults, self.where(number)):
            left = len(rows) if limit is None else min(len(rows), limit - given)
            given += left
            yield rows if left == len(rows) else rows.head(left)
            if given == limit:
                return
        if promised is not None and given != promised:
            raise SourceError(
                f"{self.where(number)} gave {given} rows where {promised} are promised. "
                "The source changed or is damaged: fetch it again"
            )

    def _read(self, number: int, batch_rows: int, first: int) -> Iterator[Rows]:
        """The rows from `first` on, the beginning of a batch."""
        at = 0
        try:
            for table in self.reader.tables(self.fragments[number], batch_rows):
                if at >= first:
                    yield self._rows(number, at, table.combine_chunks())
                at += len(table)
        except _UNFIT as error:
            if isinstance(error, self.faults.kinds):
                raise  # an ArrowInvalid is a ValueError, too
            reason = " ".join(str(error).split())
            raise SourceError(f"{self.where(number)} holds what cannot be read: {reason}. Fetch it again") from error

    def _rows(self, number: int, first: int, table: pa.Table) -> Rows:
        images, paths = self.columns.images(table)
        images, faults = self.files.fill(images, paths)
        kept, unreadable = self.columns.kept_values(table)
        return Rows(
            fragment=number,
            first=first,
            image_column=self.columns.image,
            images=columns.nulled(images, unreadable),
            paths=self.files.relative(paths),
            label_column=self.columns.label,
            labels=self.columns.labels(table),
            kept=kept,
            faults=faults | unreadable,
        )
