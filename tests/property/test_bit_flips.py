"""One law: whatever is done to one file of a split, verify names that file and no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.soak import soaking, tries
from tests.support.splits import write_split
from wdsremux.errors import FormatError
from wdsremux.inspection import records
from wdsremux.inspection.verify import verify

KINDS = [
    *(f"tar/train/{name}" for name in ("train-000000.tar", "train-000002.tar", "train-000000.idx")),
    *(f"tar/train/{name}" for name in ("samples.npy", "rejects.jsonl", "index.json")),
    "parquet/train/train-000000.parquet",
]
PLACE = st.floats(0, 1, exclude_max=True)  #: in a file, as a share of its bytes


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets, of tars and of Parquet; every example puts back what it damaged."""
    out = tmp_path_factory.mktemp("flips")
    write_split(out / "tar", "train", shards=(3, 1, 4), numbers=(0, 2, 3), kept=True, classes=5)
    write_split(out / "tar", "test", shards=(2,), rejects=0)
    write_split(out / "parquet", shards=(7, 1), kept=True, classes=5, container="parquet")
    return out


def named(out: Path, file: str, content: bytes, decode: bool = False) -> list[str]:
    """What verify names while a file has other content."""
    path = out / file
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        set_ = path.parents[1]
        return [f"{set_.name}/{damage.split}/{damage.file}" for damage in verify(set_, decode=decode)]
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("file", KINDS)
@settings(max_examples=tries(30, 1500), deadline=None)
@given(at=PLACE, bit=st.integers(0, 7), decode=st.booleans())
def test_a_flipped_bit(out: Path, file: str, at: float, bit: int, decode: bool) -> None:
    content = bytearray((out / file).read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    assert named(out, file, bytes(content), decode) == [file]


@pytest.mark.parametrize("file", KINDS)
@settings(max_examples=tries(15, 750), deadline=None)
@given(at=PLACE, noise=st.binary(min_size=1, max_size=600), kept=st.booleans())
def test_noise(out: Path, file: str, at: float, noise: bytes, kept: bool) -> None:
    """Written over, or put in."""
    content = (out / file).read_bytes()
    start = int(at * len(content))
    changed = content[:start] + noise + content[start + (len(noise) if kept else 0) :]
    assert named(out, file, changed) == ([file] if changed != content else [])


@pytest.mark.parametrize("file", KINDS)
@settings(max_examples=tries(15, 750), deadline=None)
@given(at=PLACE)
def test_a_cut(out: Path, file: str, at: float) -> None:
    content = (out / file).read_bytes()
    assert named(out, file, content[: int(at * len(content))]) == [file]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of one sample and one reject: 12 KB in all, and a Parquet shard of 3 KB."""
    out = tmp_path_factory.mktemp("tiny")
    for container in ("tar", "parquet"):
        write_split(out / container, shards=(1,), rejects=1, kept=True, container=container)
    return out


@pytest.mark.parametrize("file", [file for file in KINDS if "000002" not in file])
def test_every_single_bit(tiny: Path, file: str, tally: Callable[[str, str], None]) -> None:
    """All of them in the soak, otherwise a hundred of a file."""
    content = (tiny / file).read_bytes()
    kind = "Parquet shard" if file.endswith(".parquet") else "tar, idx, samples.npy, rejects.jsonl or index.json"
    bits = 8 * len(content)
    for bit in range(0, bits, 1 if soaking() else -(-bits // 100)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        assert named(tiny, file, bytes(changed)) == [file], f"bit {bit % 8} of byte {bit // 8}"
        tally(f"one bit flipped in a {kind}", "verify names the file")


def test_sound(out: Path) -> None:
    assert [verify(path, decode=True) for path in out.iterdir()] == [[], []]


def test_the_last_lines_of_the_manifest(out: Path) -> None:
    """Its own digest does not cover them; it vouches for all the others."""
    content = (out / "tar" / "test" / "index.json").read_bytes()
    for at in range(len(content) - 90, len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        (out / "tar" / "test" / "index.json").write_bytes(changed)
        try:
            with pytest.raises(FormatError, match=r"index\.json "):
                records.read_manifest(out / "tar" / "test")
        finally:
            (out / "tar" / "test" / "index.json").write_bytes(content)
