"""A disk that fails while a Parquet shard is written: the disk's own error, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import gc
import resource
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.splits import picture
from wdsremux.format.containers import SampleColumns, parquet_shard

ROWS = 120  #: two row groups
STEP_BYTES = 7_919


def write(folder: Path) -> Path:
    with parquet_shard.create(folder, "train", 0, SampleColumns()) as shard:
        for row in range(ROWS):
            image = picture(row % 9)
            shard.add(f"000000-{row:06d}", image, row, zlib.crc32(image), None)
    return folder / "train-000000.parquet"


@contextlib.contextmanager
def no_larger_files_than(size_bytes: int) -> Iterator[None]:
    """The system refuses to write on in any file of this process that has so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_wherever_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the end, where pyarrow writes the description of the file; and no shard is left open."""
    unraised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)
    size = write(tmp_path).stat().st_size
    for most in [*range(0, size, STEP_BYTES), size - 1]:
        with no_larger_files_than(most), pytest.raises(OSError, match="too large") as raised:
            write(tmp_path)
        assert raised.value.errno == errno.EFBIG, most
        gc.collect()
    with no_larger_files_than(size):
        write(tmp_path)
    assert unraised == []
