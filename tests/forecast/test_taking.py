"""Rows that are taken of a source here and there: of every kind they are what a conversion would bake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_source import jpeg as photo

from tests.conftest import WriteSource, tiny_jpeg
from tests.support.kinds import KINDS, NAMES, Photos
from tests.support.sources import open_source
from wdsremux.conversion.job import extents
from wdsremux.conversion.source import Rows, Source
from wdsremux.forecast.places import SampledPlace, Wanted, places
from wdsremux.forecast.sampled import TakenSample
from wdsremux.forecast.taking import take

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file.*metadata.csv:ResourceWarning")
COUNT = 23


@pytest.fixture(scope="module")
def photos() -> Photos:
    labels = tuple(number * len(NAMES) // COUNT for number in range(COUNT))
    return Photos(tuple(photo(label, "train", number) for number, label in enumerate(labels)), labels)


def rows_of(source: Source) -> Iterator[tuple[bytes | None, int | None]]:
    """(image, label) of all rows of a source."""
    for number in range(len(source.fragments)):
        for rows in source.rows(number, 4):
            yield from pairs(rows)


def pairs(rows: Rows) -> list[tuple[bytes | None, int | None]]:
    images = [None if image is None else bytes(image) for image in rows.contents]
    return list(zip(images, rows.labels.to_pylist(), strict=True))


def nothing(share: float) -> None:
    """Nobody watches."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [7, 1_000])
def test_what_is_taken_is_what_is_there(kind: str, rows: int, photos: Photos, tmp_path: Path) -> None:
    KINDS[kind].write(tmp_path / "photos", {"train": photos})
    options = KINDS[kind].label_options(photos)
    source = open_source(KINDS[kind].source(tmp_path / "photos", "train"), "train", **options)
    assert source.finding is not None
    wanted = Wanted(rows, 3, source.finding.by_row, 10**9)
    taken = take(source, places(extents(source), wanted, 0), nothing)
    first = np.cumsum([0, *(fragment.rows or 0 for fragment in source.fragments)])
    everything = list(rows_of(source))
    expected = [
        everything[first[place.fragment] + place.first + at] for place in taken.places for at in range(place.rows)
    ]
    sample = TakenSample.of(source, taken)
    assert [*rows_of(sample.by_place())] == [*rows_of(sample.in_runs(1))] == expected
    assert list(rows_of(sample.in_runs(3))) == 3 * expected
    assert len(expected) == COUNT or rows == 7
    assert sum(taken.image_bytes) >= sum(len(image or b"") for image, _ in expected)


@given(
    rows_at=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    files=st.integers(1, 3),
    kept=st.integers(1, 40),
)
def test_rows_find_back_to_their_places(rows_at: list[int], files: int, kept: int) -> None:
    import pyarrow as pa

    table = pa.table({"at": np.repeat(np.arange(len(rows_at)), rows_at)})
    file_at = tuple(number * files // len(rows_at) for number in range(len(rows_at)))
    whole = TakenSample(None, table, {}, tuple(rows_at), file_at)  # type: ignore[arg-type]
    sample, chosen = whole.thinned(kept)
    assert len(chosen) <= max(1, kept)
    runs = sample._runs()
    fragments = np.repeat(np.arange(len(runs)), [rows for rows, _ in runs])
    rows = np.concatenate([np.arange(count) for count, _ in runs])
    found = sample.places_of(fragments, rows)
    assert chosen[found].tolist() == sample.table["at"].to_pylist()


def test_faults_stay_with_their_rows(write_source: WriteSource) -> None:
    images = [None if number % 5 == 2 else tiny_jpeg(number) for number in range(40)]
    source = open_source(str(write_source(images, range(40))), "train")
    spots = [SampledPlace(0, 1, 3), SampledPlace(0, 10, 5), SampledPlace(0, 36, 4)]
    sample = TakenSample.of(source, take(source, spots, nothing))
    for each in (sample, sample.thinned(2)[0]):
        assert any(image is None for image, _ in rows_of(each.in_runs(1)))
        for image, label in rows_of(each.in_runs(1)):
            assert label is not None
            assert image == images[label]


def test_class_names_that_differ_between_files(write_source: WriteSource, tmp_path: Path) -> None:
    """A row's number means what its own file says."""
    one = write_source([tiny_jpeg(number) for number in range(6)], [0, 1] * 3, classes=["cat", "dog"], name="one")
    two = write_source([tiny_jpeg(number) for number in range(6)], [0, 1] * 3, classes=["dog", "eel"], name="two")
    (tmp_path / "both").mkdir()
    for name, folder in (("a", one), ("b", two)):
        (file,) = folder.rglob("*.parquet")
        file.rename(tmp_path / "both" / f"train-{name}.parquet")
    source = open_source(str(tmp_path / "both"), "train")
    assert source.classes == ["cat", "dog", "eel"]
    sample = TakenSample.of(source, take(source, [SampledPlace(0, 0, 6), SampledPlace(1, 0, 6)], nothing))
    assert [label for _, label in rows_of(sample.in_runs(1))] == [0, 1] * 3 + [1, 2] * 3
