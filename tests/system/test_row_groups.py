"""Memory does not grow with a row group: pandas and pyarrow write a million rows into one."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import datasets
import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.conftest import tiny_jpeg

pytestmark = pytest.mark.system
IMAGE_BYTES = 17_000
ROWS = 20_000


def write(path: Path, rows_a_group: int) -> None:
    """20,000 rows of 17 KB; a picture, and noise behind its end."""
    noise = random.Random(0).randbytes(IMAGE_BYTES * 2)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    head = tiny_jpeg(0)
    path.parent.mkdir()
    with pq.ParquetWriter(path, features.arrow_schema, compression="none", use_dictionary=False) as writer:
        for first in range(0, ROWS, rows_a_group):
            numbers = range(first, min(first + rows_a_group, ROWS))
            data = [head + noise[i % IMAGE_BYTES :][: IMAGE_BYTES - len(head)] for i in numbers]
            images = [{"bytes": each, "path": None} for each in data]
            writer.write_table(pa.table({"image": images, "label": list(numbers)}, schema=features.arrow_schema))


class Peak:
    """The most proportional memory that children of this process have had at once, in bytes."""

    def __enter__(self) -> Peak:
        self.nbytes, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            total = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    total += child.memory_full_info().pss
                except psutil.Error:  # it ended meanwhile
                    continue
            self.nbytes = max(self.nbytes, total)
            time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no proportional memory is told here")
def test_memory_is_flat_in_the_size_of_a_row_group(tmp_path: Path) -> None:
    peaks = {}
    for rows_a_group in (100, 1_000, ROWS):
        write(tmp_path / f"s{rows_a_group}" / "train.parquet", rows_a_group)
        with Peak() as peak:
            wdsremux.convert(tmp_path / f"s{rows_a_group}", tmp_path / f"o{rows_a_group}", recipe="resize:8", workers=1)
        peaks[rows_a_group] = peak.nbytes
    print({rows: f"{nbytes / 1e6:.0f} MB" for rows, nbytes in peaks.items()})
    assert peaks[ROWS] <= 1.1 * peaks[1_000]
    assert max(peaks.values()) <= 1.25 * peaks[100]  # 1,000 rows lie in one page of 17 MB, which is held whole
