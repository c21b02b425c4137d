"""A sound shard read back for what was made of it: its rows of the sample table, and the index beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from wdsremux.errors import FormatError, WdsremuxError
from wdsremux.format import samples
from wdsremux.format.containers import Container, StoredSample
from wdsremux.format.plain import FREE, MEND, open_plain


def index_of(path: Path, container: Container) -> bytes:
    """The index beside a shard, to the byte as the conversion wrote it; nothing where there is none.

    Raises:
        FormatError: naming the place where the shard is damaged, or why it cannot be read.
    """
    return container.index_text(sample.members for sample in _read(path, container)) or b""


def table_of(path: Path, container: Container, shard: int, sides: Callable[[bytes], tuple[int, int]]) -> samples.Table:
    """A shard's rows of the sample table, to the byte as the conversion wrote them.

    Args:
        path: the shard.
        container: what it is.
        shard: its place in the manifest's list.
        sides: gives (width, height) in pixels of a JPEG's content.

    Raises:
        FormatError: naming the place where the shard is damaged, or why it cannot be read.
    """
    rows = []
    for sample in _read(path, container):
        try:
            width, height = sides(sample.image)
        except WdsremuxError as error:
            what = f"is damaged at byte {sample.offset}: {sample.key}.jpg is {error}. {MEND}"
            raise FormatError(what, path.name) from error
        rows.append((shard, *sample.record, width, height, *sample.place))
    return np.array(rows, samples.SAMPLE)


def _read(path: Path, container: Container) -> Iterator[StoredSample]:
    try:
        with open_plain(path, 2**20) as file:
            yield from container.walk(file, path, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}. {FREE}", path) from error
