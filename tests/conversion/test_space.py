"""Whether the rest fits is told from what is left of this run, not from all of the source."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest

from tests.conftest import WriteSource, tiny_jpeg
from tests.support.sources import open_source
from wdsremux import files
from wdsremux.conversion.events import Progress
from wdsremux.conversion.plan import Extent, make_plan
from wdsremux.conversion.portions import divide, whole
from wdsremux.conversion.source import Source
from wdsremux.conversion.space import Estimate
from wdsremux.errors import SpaceError
from wdsremux.format.containers import CONTAINERS, container

GIGABYTE = 10**9


@pytest.fixture
def unknown(write_source: WriteSource) -> Source:
    """Four fragments of 1 GB, of which nobody knows the rows."""
    source = open_source(str(write_source([tiny_jpeg(i) for i in range(40)], rows_a_group=10)), "train")
    fragments = tuple(dataclasses.replace(f, rows=None, size_bytes=GIGABYTE) for f in source.fragments)
    return dataclasses.replace(source, fragments=fragments)


def progress(rows: int) -> Progress:
    """Of images that shrink to a fifth: 20 kB of 100."""
    return Progress(0, rows, rows, 0, rows * 100_000, rows * 20_000)


def estimate(
    source: Source, folder: Path, *, limit: int | None = None, done: int = 0, beside_bytes: int = 2_048
) -> Estimate:
    plan = make_plan([Extent(f.rows, f.size_bytes) for f in source.fragments], 0, limit=limit)
    return Estimate.of([(whole(task),) for task in plan.tasks[done:]], source, folder, 100, beside_bytes)


def test_unknown_rows_count_by_bytes(unknown: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda folder: GIGABYTE // 2)
    whole = estimate(unknown, tmp_path)
    whole.add(progress(99))  # too few to tell
    with pytest.raises(
        SpaceError, match=r"needs about 0\.88 GB more, estimated from the 199 images .* 0\.50 GB are free"
    ):
        whole.add(progress(100))


def test_tasks_of_an_earlier_run_are_not_counted(
    unknown: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda folder: GIGABYTE // 2)
    estimate(unknown, tmp_path, done=2).add(progress(200))
    with pytest.raises(SpaceError):  # were they still to come
        estimate(unknown, tmp_path).add(progress(200))


def test_a_limit_is_all_that_comes(unknown: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first try of 1,000 rows of a large remote source fits on a small disk."""
    monkeypatch.setattr(files, "free_bytes", lambda folder: 20_000_000)
    estimate(unknown, tmp_path, limit=1_000).add(progress(200))
    with pytest.raises(SpaceError):
        estimate(unknown, tmp_path, limit=2_000).add(progress(200))


def test_the_container_tells_what_a_sample_takes(
    unknown: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,000 images of 1 kB, tars make 3 MB."""
    monkeypatch.setattr(files, "free_bytes", lambda folder: 1_500_000)
    tiny = Progress(0, 200, 200, 0, 200_000, 200_000)
    taken = {name: container(name).BESIDE_BYTES for name in CONTAINERS}
    estimate(unknown, tmp_path, limit=1_000, beside_bytes=taken["parquet"]).add(tiny)
    with pytest.raises(SpaceError):
        estimate(unknown, tmp_path, limit=1_000, beside_bytes=taken["tar"]).add(tiny)


def test_a_shared_block_takes_its_space_twice(
    write_source: WriteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once as the samples of its portions, once as shards."""
    monkeypatch.setattr(files, "free_bytes", lambda folder: 6_000_000)
    source = open_source(str(write_source([tiny_jpeg(i) for i in range(300)])), "train")
    plan = make_plan([Extent(f.rows, f.size_bytes) for f in source.fragments], 0)
    for workers, fits in ((1, True), (2, False)):
        divided = divide(plan.tasks, workers, 64)
        assert (len(divided[0]) == 1) == fits
        found = Estimate.of(divided, source, tmp_path, 100, 0)
        with contextlib.nullcontext() if fits else pytest.raises(SpaceError, match=r"needs about 0\.01 GB more"):
            found.add(progress(100))
