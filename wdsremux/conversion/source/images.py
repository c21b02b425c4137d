"""Folders of image files: a fragment is a run of files. The listing is read once; workers map it into memory."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
from datasets import IterableDataset

from wdsremux import files
from wdsremux.conversion.source import Fragment, patience
from wdsremux.conversion.source.builder import Opened, Survey

FILES_A_FRAGMENT = 100  #: as many as a row group of the Hub's image sets; what mixing draws from
LISTING = "listing.arrow"
_ROWS_AT_ONCE = 1_000  #: of the listing


@dataclass(frozen=True, slots=True)
class ImagesReader:
    """Gives rows of the listing; the images are read by their paths later."""

    listing: pa.Table | None  #: in the process that made it
    stored_in: Path | None = None  #: where the others find it

    def tables(self, fragment: Fragment, batch_rows: int) -> Iterator[pa.Table]:
        listing = self._listing()
        first = fragment.part * FILES_A_FRAGMENT
        for at in range(first, first + (fragment.rows or 0), batch_rows):
            yield listing.slice(at, min(batch_rows, first + (fragment.rows or 0) - at))

    def values(self, column: str) -> Iterator[pa.Array]:
        yield self._listing().column(column).combine_chunks()

    def where(self, fragment: Fragment) -> str:
        return f"files {fragment.part * FILES_A_FRAGMENT} to {fragment.part * FILES_A_FRAGMENT + (fragment.rows or 0) - 1}"

    def stored(self, folder: Path) -> ImagesReader:
        if self.listing is None:
            return self
        with files.atomic(folder / LISTING) as file, pa.ipc.new_file(file, self.listing.schema) as writer:
            writer.write_table(self.listing)
        return replace(self, listing=None, stored_in=folder / LISTING)

    def _listing(self) -> pa.Table:
        return _mapped(self.stored_in) if self.listing is None else self.listing


@functools.lru_cache(maxsize=4)
def _mapped(path: Path | None) -> pa.Table:
    with pa.memory_map(str(path)) as mapped:  # the table keeps the mapping alive
        return pa.ipc.open_file(mapped).read_all()


def survey(opened: Opened, stream: IterableDataset, faults: patience.Faults) -> Survey:
    """List all images: rows hold paths, labels and metadata, and no image is read."""
    tables = patience.call(
        lambda: list(stream.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE)), faults, opened.name
    )
    listing = pa.concat_tables(tables)
    image = next(field.name for field in listing.schema if pa.types.is_struct(field.type) and "path" in field.type.names)
    paths = [row["path"] for row in listing.column(image).to_pylist()]
    sizes = [0 if opened.remote else os.path.getsize(path) if os.path.exists(path) else 0 for path in paths]
    revision = hashlib.sha256()
    for path, size in zip(paths, sizes, strict=True):
        revision.update(repr((opened.relative(path), size)).encode())
    parts = -(-len(paths) // FILES_A_FRAGMENT)
    fragments = []
    for part in range(parts):
        run = sizes[part * FILES_A_FRAGMENT : (part + 1) * FILES_A_FRAGMENT]
        fragments.append(Fragment(0, part, parts, len(run), sum(run)))
    return Survey(tuple(fragments), revision.hexdigest(), ImagesReader(listing))
