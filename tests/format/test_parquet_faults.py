"""A disk that fails while a Parquet shard is written: the disk's own error, and nothing else."""

from __future__ import annotations

import builtins
import contextlib
import errno
import gc
import io
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.splits import picture
from wdsremux.format.containers import SampleColumns, parquet_shard

ROWS = 9  #: three row groups


class FailingFile(io.RawIOBase):
    """A file whose disk is full from one of its writes on."""

    def __init__(self, path: Path, writes: int) -> None:
        self._file, self._left = io.FileIO(path, "wb"), writes

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, content: Any) -> int:
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def write(folder: Path) -> None:
    with parquet_shard.create(folder, "train", 0, SampleColumns()) as shard:
        for row in range(ROWS):
            image = picture(row % 9)
            shard.add(f"000000-{row:06d}", image, row, zlib.crc32(image), None)


@pytest.mark.parametrize("buffering", [64, 4_096, 2**20])
def test_each_write_that_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffering: int) -> None:
    """Also those of the end, and of what is left in a buffer when the file is closed."""
    unraised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)
    monkeypatch.setattr(parquet_shard, "GROUP_ROWS", 3)
    fits, writes = False, 0
    while not fits:
        made = FailingFile(tmp_path / "train-000000.parquet", writes)

        def opened(path: Path, mode: str, made: FailingFile = made, **options: Any) -> Any:
            return io.BufferedWriter(made, buffering) if mode == "wb" else builtins.open(path, mode, **options)

        monkeypatch.setattr(parquet_shard, "open", opened, raising=False)
        with contextlib.suppress(OSError):  # any other fails the test
            write(tmp_path)
            fits = True
        writes += 1
    gc.collect()
    assert writes > (10 if buffering == 64 else 1)
    assert unraised == []
