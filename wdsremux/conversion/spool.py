"""Encoded samples wait until their block can be written permuted, without a second decode and in bounded memory.

Those of a task that one worker bakes are spooled in memory up to 16 MB, then in an unnamed temporary file. Those of a
portion go to files, for another worker to gather: the contents one after the other, and a table of them (.npy).
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from wdsremux.conversion.recipes.base import Sample
from wdsremux.errors import RecipeError
from wdsremux.format import keys
from wdsremux.format.containers import DEFAULT, SampleColumns, container

SPOOL_BYTES = 16 * 2**20  #: of encoded samples held in memory; past that the spool is a file
CONTENTS, TABLE = "contents", "table.npy"  #: the files of a portion's samples
_NOTHING_KEPT = -1  #: in the table, where a sample has no kept columns
_FIELDS = {  #: of the table: those of `Spooled`, then those that the sample table has, too
    "place": "<u8",
    "position": "<u8",
    "size": "<u4",
    "kept_size": "<i8",
    "label": "<i8",
    "crc32": "<u4",
    "width": "<u4",
    "height": "<u4",
    "fragment": "<u8",
    "row": "<u8",
    "part": "<u8",
}


@dataclass(frozen=True, slots=True)
class Form:
    """How shards are written."""

    container: str = DEFAULT  #: its name in the table
    columns: SampleColumns = field(default_factory=SampleColumns)


@dataclass(slots=True)
class Spooled:
    """A sample's content, or where it lies in a file; and what the table will say of it."""

    image: bytes | None  #: None: in the file
    kept: bytes | None  #: as the container packs it
    file: BinaryIO | None  #: None: in memory
    place: int  #: among the task's rows
    position: int  #: in the file
    size: int  #: of the image, in bytes
    kept_size: int | None  #: of the kept columns behind it
    label: int
    table: tuple[int, ...]  #: crc32, width, height, fragment, row, part

    def content(self) -> tuple[bytes, bytes | None]:
        """The sample's image and its kept columns."""
        if self.file is None:
            return cast(bytes, self.image), self.kept
        self.file.seek(self.position)
        image = self.file.read(self.size)
        return image, None if self.kept_size is None else self.file.read(self.kept_size)

    def spill(self, file: BinaryIO) -> None:
        """Move it into a file, whose end is its place."""
        file.write(cast(bytes, self.image))
        file.write(self.kept or b"")
        self.image, self.kept, self.file = None, None, file


@dataclass(slots=True)
class Spool:
    """Encoded samples in the order in which they were baked."""

    folder: Path
    form: Form
    samples: list[Spooled] = field(default_factory=list)
    file: BinaryIO | None = None  #: None as long as all fits into memory
    nbytes: int = 0

    def add(self, place: int, fragment: int, sample: Sample) -> None:
        image, data = sample.image, sample.image.data
        kept = None if sample.kept is None else self._packed(fragment, sample, sample.kept)
        table = (zlib.crc32(data), image.width, image.height, fragment, sample.row, sample.part)
        kept_size = None if kept is None else len(kept)
        spooled = Spooled(data, kept, None, place, self.nbytes, len(data), kept_size, sample.label, table)
        self.samples.append(spooled)
        self.nbytes += len(data) + (kept_size or 0)
        if self.file is not None:
            spooled.spill(self.file)
        elif self.nbytes > SPOOL_BYTES:
            self.file = cast(BinaryIO, tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115  # `spooled` closes it
            for spooled in self.samples:
                spooled.spill(self.file)

    def _packed(self, fragment: int, sample: Sample, values: dict[str, Any]) -> bytes:
        try:
            return container(self.form.container).pack(values, self.form.columns)
        except ValueError as error:
            raise RecipeError(
                f"sample {keys.key(fragment, sample.row, sample.part)} cannot be stored: {error}. Return a value of "
                "that type, or give the column another name, under which it is stored as JSON"
            ) from error


@contextmanager
def spooled(folder: Path, form: Form) -> Iterator[Spool]:
    """An empty spool; past its bound in memory, a file without a name in `folder`."""
    spool = Spool(folder, form)
    try:
        yield spool
    finally:
        if spool.file is not None:
            spool.file.close()


@contextmanager
def stored(folder: Path, form: Form) -> Iterator[Spool]:
    """An empty spool whose samples lie in files in `folder` when the block ends: see `load`."""
    with open(folder / CONTENTS, "xb") as file:
        spool = Spool(folder, form, file=file)
        yield spool
    rows = [
        (s.place, s.position, s.size, _NOTHING_KEPT if s.kept_size is None else s.kept_size, s.label, *s.table)
        for s in spool.samples
    ]
    np.save(folder / TABLE, np.array(rows, list(_FIELDS.items())), allow_pickle=False)


def load(folder: Path, places: range, opened: ExitStack) -> list[Spooled]:
    """The samples that `stored` left in a folder, of rows at some places in the task.

    Args:
        folder: where they lie.
        places: of the rows.
        opened: closes their file.
    """
    table = np.load(folder / TABLE, allow_pickle=False)
    table = table[(table["place"] >= places.start) & (table["place"] < places.stop)]
    file = opened.enter_context(open(folder / CONTENTS, "rb"))  # noqa: SIM115  # `opened` closes it
    return [
        Spooled(None, None, file, place, position, size, None if kept == _NOTHING_KEPT else kept, label, tuple(rest))
        for place, position, size, kept, label, *rest in table.tolist()
    ]
