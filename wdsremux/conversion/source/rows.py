"""An opened split: its fragments, and their rows as Arrow, never decoded."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Fault, Fragment, Piece, Rows, SourceReader
from wdsremux.conversion.source.bookmark import Bookmark
from wdsremux.conversion.source.columns import Columns
from wdsremux.conversion.source.image_files import Files
from wdsremux.conversion.source.labels import Labels
from wdsremux.conversion.source.numbering import read_as_before
from wdsremux.errors import SourceError, counted, one_line

_AT_ONCE = 4  #: fragments of a remote source, for each worker
_UNFIT = (ValueError, TypeError, KeyError, zlib.error, zipfile.BadZipFile)  #: what libraries raise on odd content


@dataclass(frozen=True, slots=True)
class Finding:
    """How a source was made out, for people."""

    splits: tuple[str, ...]  #: all that it has
    splits_how: str  #: in words that go on after "by"; empty where nothing tells them apart
    image_how: str  #: why that column is the image, in words
    label_how: str  #: why that one is the label, or why there is none
    by_row: bool  #: whether a row is read without those before it in its fragment


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An opened split of a source."""

    description: dict[str, Any]  #: what the manifest says of it; no absolute path
    fragments: tuple[Fragment, ...]
    columns: Columns
    labels: Labels | None  #: how labels become numbers; None where there are none
    reader: SourceReader = field(repr=False)
    files: Files  #: reads images of which the rows hold only the path
    local_files: tuple[str, ...] = field(default=(), repr=False)  #: that it is read from, where it is on this machine
    stamp: str | None = None  #: SHA-256 over when its files were last written to; None where a commit pins them
    adopted: tuple[str, ...] | None = None  #: the classes of OUT, where the split itself knows none
    faults: retry.Faults  #: which errors are worth another try, and for how long
    notes: tuple[str, ...] = ()  #: what was not taken of the source, each in a line
    warnings: tuple[str, ...] = ()  #: what the user should know of it, though it can be read
    finding: Finding | None = field(default=None, repr=False)  #: None in a worker

    @property
    def classes(self) -> list[str] | None:
        """Names by label; None where labels are plain integers or absent."""
        known = self.labels.classes if self.labels is not None else None
        known = self.adopted if known is None else known
        return None if known is None else list(known)

    def read_as_before(self) -> bool:
        """Whether version 0.1.0 gave the same labels the same numbers."""
        return self.labels is None or read_as_before(self.labels, self.reader)

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
        return replace(self, reader=self.reader.stored(folder), local_files=(), finding=None)

    def rows(
        self, number: int, batch_rows: int, stop: int | None = None, first: int = 0, bookmark: Bookmark | None = None
    ) -> Iterator[Rows]:
        """The rows of one fragment, in order, `batch_rows` at a time.

        Args:
            number: of the fragment.
            batch_rows: the last batch has fewer.
            stop: before this row; None: at the end.
            first: begin with this row, a multiple of `batch_rows`; those before it are passed over.
            bookmark: goes on where it lies, and lies afterwards where this ends.

        Raises:
            SourceError: if it cannot be read, or has another number of rows than it was said to have.
        """
        given, promised = first, self.fragments[number].rows
        if promised == 0 or stop == first:
            return
        if stop == promised:
            stop = None  # so that rows past the promised ones are noticed
        place = bookmark or Bookmark()
        read = partial(self._read, number, batch_rows, place)
        for rows in retry.read(lambda read_rows: read(first + read_rows), self.faults, self.where(number)):
            left = len(rows) if stop is None else min(len(rows), stop - given)
            given += left
            yield rows if left == len(rows) else rows.head(left)
            if given == stop:
                return
        self._check_count(number, given)

    def _check_count(self, number: int, count: int) -> None:
        """
        Raises:
            SourceError: if a fragment should have another number of rows.
        """
        promised = self.fragments[number].rows
        if promised is not None and count != promised:
            raise SourceError(
                f"{self.where(number)} contains {counted(count, 'row')}, not {promised:,} as recorded. "
                "The source changed or is damaged. Download it again"
            )

    def _read(self, number: int, batch_rows: int, bookmark: Bookmark, first: int) -> Iterator[Rows]:
        """The rows from `first` on, the beginning of a batch."""
        fragment = self.fragments[number]
        try:
            begin = partial(self.reader.pieces, fragment, self.columns.names, batch_rows)
            for at, piece in bookmark.pieces((number, batch_rows), first, begin):
                if at < first < at + len(piece.table):
                    raise SourceError(
                        f"{self.where(number)} is not read {batch_rows:,} rows at a time, so that several workers "
                        "cannot share it. Use --workers 1, or a smaller --batch-size"
                    )
                if at >= first:
                    yield self._rows(number, at, piece)
        except Exception as error:  # whatever ends it lets go of what is open
            bookmark.close()
            if not isinstance(error, _UNFIT) or isinstance(error, self.faults.kinds):
                raise  # an ArrowInvalid is a ValueError, too
            where = self.where(number)
            raise SourceError(
                f"{where} contains values that cannot be read: {one_line(error)}. Download it again"
            ) from error
        if bookmark.at < first:
            self._check_count(number, bookmark.at)

    def _rows(self, number: int, first: int, piece: Piece) -> Rows:
        table = piece.table
        images, paths = self.columns.images(table)
        images, missing = self.files.fill(images, paths)
        labels, unfit = self._labels(table, self.fragments[number].file)
        kept, inexact = self.columns.kept_values(table)
        absent = {place: Fault(self.columns.image, reason) for place, reason in missing.items()}
        return Rows(
            fragment=number,
            first=first,
            image_column=self.columns.image,
            images=images,
            paths=self.files.relative(paths if piece.keys is None else pyarrow.compute.coalesce(paths, piece.keys)),
            label_column=self.columns.label,
            labels=labels,
            kept=kept,
            faults={**inexact, **unfit, **absent, **piece.faults},
        )

    def _labels(self, table: pa.Table, file: int) -> tuple[pa.Array, Mapping[int, Fault]]:
        if self.labels is None:
            return pa.nulls(len(table), pa.int64()), {}
        return self.labels.numbers(table.column(self.labels.column), file)
