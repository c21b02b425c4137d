"""samples.npy is plain numpy, written in pieces, and refused when damaged."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsremux.errors import FormatError
from wdsremux.format import samples

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(-1, 2**63 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**16 - 1),
        st.integers(0, 2**16 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    ),
    max_size=9,
)


@given(rows=ROWS, cuts=st.lists(st.integers(0, 9), max_size=3))
def test_numpy_reads_what_was_written_in_pieces(rows: list[tuple[int, ...]], cuts: list[int]) -> None:
    table = np.array(rows, samples.SAMPLE)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    file = io.BytesIO()
    samples.write(file, (table[a:b] for a, b in itertools.pairwise(edges)), len(rows))
    file.seek(0)
    read = np.load(file)
    assert read.dtype == samples.SAMPLE
    assert read.tolist() == rows


def test_record_of_the_contract() -> None:
    assert samples.SAMPLE.itemsize == 44
    assert samples.SAMPLE.names == (
        "shard", "offset", "size", "label", "crc32", "width", "height", "fragment", "row", "part",
    )  # fmt: skip
    kinds = [samples.SAMPLE[name].str for name in samples.SAMPLE.names]
    assert kinds == ["<u4", "<u8", "<u4", "<i8", "<u4", "<u2", "<u2", "<u4", "<u4", "<u4"]


def write(path: Path, count: int) -> Path:
    with open(path, "wb") as file:
        samples.write(file, [np.zeros(count, samples.SAMPLE)], count)
    return path


def test_read_maps_and_protects(tmp_path: Path) -> None:
    table = samples.read(write(tmp_path / "samples.npy", 5))
    assert isinstance(table, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        table["label"] = 1


def test_read_empty(tmp_path: Path) -> None:
    assert len(samples.read(write(tmp_path / "samples.npy", 0))) == 0


@pytest.mark.parametrize("kept", [0, 5, 60, 128, 200, -1])
def test_cut_short(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "samples.npy", 5)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FormatError, match="cannot be read as a sample table"):
        samples.read(path)


@pytest.mark.parametrize("other", [np.zeros(3), np.zeros((2, 2), samples.SAMPLE)])
def test_another_array(tmp_path: Path, other: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "samples.npy", other)
    with pytest.raises(FormatError, match="not a sample table of version 1"):
        samples.read(tmp_path / "samples.npy")


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(FormatError, match="cannot be read"):
        samples.read(tmp_path / "samples.npy")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is missing"):
        samples.read(tmp_path / "samples.npy")


def test_wrong_count_is_refused() -> None:
    with pytest.raises(FormatError, match="2 samples written instead of 3"):
        samples.write(io.BytesIO(), [np.zeros(2, samples.SAMPLE)], 3)
