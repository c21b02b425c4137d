"""index.json comes back as it was, and nobody edits it unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsremux.errors import FormatError
from wdsremux.format import manifest
from wdsremux.format.manifest import Manifest, Shard

TEXT = st.text(max_size=8)
COUNT = st.integers(0, 2**63)
SHARDS = st.lists(
    st.builds(Shard, url=TEXT, nsamples=COUNT, size_bytes=COUNT, sha256=TEXT, idx_sha256=TEXT), max_size=3
)
VALUES = st.dictionaries(TEXT, st.none() | COUNT | TEXT | st.booleans(), max_size=3)


def example(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "split": "train",
        "nsamples": 3,
        "nrejects": 0,
        "ndropped": 0,
        "classes": ["ant", "Bär"],
        "source": {"kind": "parquet"},
        "recipe": {"name": "copy"},
        "options": {"quality": 90},
        "seed": 0,
        "environment": {"numpy": "2.4.6"},
        "shards": [Shard("train-000000.tar", 3, 10_240, "ab", "cd")],
        "files": {"samples.npy": {"sha256": "ef"}},
    }
    return Manifest(**(values | changes))


@given(
    changes=st.fixed_dictionaries(
        {
            "split": TEXT,
            "nsamples": COUNT,
            "classes": st.none() | st.lists(TEXT, max_size=3),
            "source": VALUES,
            "options": VALUES,
            "seed": st.integers(-(2**63), 2**63),
            "shards": SHARDS,
        }
    )
)
def test_round_trip(changes: dict[str, Any]) -> None:
    made = example(**changes)
    assert manifest.loads(made.dumps()) == made


def test_every_edited_byte_is_noticed() -> None:
    """But for white space after the last line's value, which means nothing."""
    content = example().dumps()
    for at in range(len(content)):
        edited = bytearray(content)
        edited[at] ^= 1
        try:
            assert manifest.loads(bytes(edited)) == example(), f"byte {at}"
        except FormatError:
            continue
        assert at == len(content) - 1, f"byte {at} of {len(content)} was edited unnoticed"


def test_every_torn_file_is_noticed() -> None:
    content = example().dumps()
    for size in range(len(content) - 1):
        with pytest.raises(FormatError):
            manifest.loads(content[:size])


def test_layout_of_the_file() -> None:
    """One key a line in the order of the contract, the digest last, as other readers rely on."""
    content = example().dumps()
    assert list(json.loads(content)) == [
        "format",
        "version",
        "split",
        "nsamples",
        "nrejects",
        "ndropped",
        "classes",
        "source",
        "recipe",
        "options",
        "seed",
        "environment",
        "shards",
        "files",
        "sha256",
    ]
    assert content.isascii()
    lines = content.decode().splitlines()
    assert lines[-2].startswith('"sha256": ')
    assert lines[-1] == "}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "is not a wdsremux manifest"),
        (b'{"format": "other"}', "is not a wdsremux manifest"),
        (b'{"format": "wdsremux", "version": 2}', "has version 2; this wdsremux reads version 1"),
        (b'{"format": "wdsremux", "version": 1}', "was changed after it was written"),
    ],
)
def test_what_is_no_manifest(content: bytes, sentence: str) -> None:
    with pytest.raises(FormatError, match=f"^here {sentence}"):
        manifest.loads(content, "here")


def test_no_finished_split(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"holds no finished split: index\.json is missing"):
        manifest.read(tmp_path)


def test_read(tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_bytes(example().dumps())
    assert manifest.read(tmp_path) == example()
