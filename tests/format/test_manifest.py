"""index.json comes back as it was, and nobody edits it unnoticed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsremux.errors import FormatError
from wdsremux.format import manifest
from wdsremux.format.manifest import Manifest, Shard

TEXT = st.text(max_size=8)
COUNT = st.integers(0, 2**62)
SPLIT = st.from_regex(r"\w{1,8}(\.\w{1,8})?", fullmatch=True)
SHARD = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 2**59), COUNT, TEXT, TEXT)
SHARDS = st.lists(SHARD, max_size=3, unique_by=lambda shard: shard[0])
VALUES = st.dictionaries(TEXT, st.none() | COUNT | TEXT | st.booleans(), max_size=3)


def example(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "split": "train",
        "nsamples": 3,
        "nrejects": 0,
        "ndropped": 0,
        "classes": ["ant", "Bär"],
        "source": {"kind": "parquet", "name": "pictures"},
        "recipe": {"name": "copy"},
        "options": {"quality": 90},
        "seed": 0,
        "environment": {"numpy": "2.4.6", "wdsremux": "1.0"},
        "shards": [Shard("train-000000.tar", 3, 10_240, "ab", "cd")],
        "files": {"samples.npy": {"sha256": "ef"}, "rejects.jsonl": {"sha256": "01"}},
    }
    return Manifest(**(values | changes))


@given(
    changes=st.fixed_dictionaries(
        {
            "split": SPLIT,
            "classes": st.none() | st.lists(TEXT, max_size=3),
            "source": VALUES.map(lambda values: values | {"name": "pictures"}),
            "options": VALUES,
            "seed": st.integers(-(2**63), 2**63),
        }
    ),
    shards=SHARDS,
)
def test_round_trip(changes: dict[str, Any], shards: list[tuple[int, int, int, str, str]]) -> None:
    named = [Shard(f"{changes['split']}-{shard[0]:06d}.tar", *shard[1:]) for shard in shards]
    made = example(**changes, shards=named, nsamples=sum(s.nsamples for s in named))
    assert manifest.loads(made.dumps()) == made


LEADS_OUT = ["../train", "/train", "a/b", "..", ".", "", "train\n", "tr\0ain", "C:train", "a..b", ".train", "-x"]


@pytest.mark.parametrize("split", LEADS_OUT)
def test_no_split_leads_out_of_its_folder(split: str) -> None:
    shard = Shard(f"{split}-000000.tar", 3, 10_240, "", "")
    with pytest.raises(FormatError, match="contains values that no conversion writes"):
        manifest.loads(example(split=split, shards=[shard]).dumps())


@pytest.mark.parametrize(
    "url",
    [
        "../train-000000.tar",
        "/etc/train-000000.tar",
        "train/../../x-000000.tar",
        "train-000000.tar/../../x",
        "train-00000.tar",
        "train-000000.tar\n",
        "test-000000.tar",
        "train-٠٠٠٠٠٠.tar",
        "http://example.org/train-000000.tar",
        "pipe:rm -rf train-000000.tar",
        "",
    ],
)
def test_no_shard_lies_elsewhere(url: str) -> None:
    with pytest.raises(FormatError, match="contains values that no conversion writes"):
        manifest.loads(example(shards=[Shard(url, 3, 10_240, "", "")]).dumps())


@pytest.mark.parametrize("name", ["../x.npy", "/x.npy", "index.json", "train-000000.tar", ".wdsremux", "x", "a/b.npy"])
def test_no_other_file_lies_elsewhere(name: str) -> None:
    with pytest.raises(FormatError, match="contains values that no conversion writes"):
        manifest.loads(example(files=example().files | {name: {"sha256": ""}}).dumps())


@pytest.mark.parametrize(
    "changes",
    [
        {"nsamples": 4},
        {"ndropped": -1},
        {"ndropped": "0"},
        {"nrejects": 1.5},
        {"seed": None},
        {"classes": [1]},
        {"classes": {"a": 1}},
        {"source": []},
        {"source": {"name": 5}},
        {"recipe": {}},
        {"environment": {"wdsremux": None}},
        {"files": {}},
        {"files": {"samples.npy": {"sha256": 1}, "rejects.jsonl": {"sha256": ""}}},
    ],
)
def test_whoever_reads_on_can_rely_on_types(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"contains values that no conversion writes|records 4 samples"):
        manifest.loads(example(**changes).dumps())


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling", "loop"])
def test_no_plain_file(tmp_path: Path, kind: str) -> None:
    """A pipe would be waited for."""
    path = tmp_path / "train" / manifest.NAME
    path.parent.mkdir()
    makers: dict[str, Callable[[], None]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "dangling": lambda: path.symlink_to("nowhere"),
        "loop": lambda: path.symlink_to(path),
    }
    makers[kind]()
    with pytest.raises(FormatError, match=r"is not a regular file\. Delete|is missing|cannot be read: Too many levels"):
        manifest.read(path.parent)


def test_a_manifest_without_end(tmp_path: Path) -> None:
    with open(tmp_path / manifest.NAME, "wb") as file:
        file.truncate(8 * 2**30)
    with pytest.raises(FormatError, match="has 8,589,934,592 bytes, which is too large for a manifest"):
        manifest.read(tmp_path)


def test_every_edited_byte_is_noticed() -> None:
    content = example().dumps()
    for at in range(len(content)):
        edited = bytearray(content)
        edited[at] ^= 1
        with pytest.raises(FormatError):
            manifest.loads(bytes(edited))


def test_every_torn_file_is_noticed() -> None:
    content = example().dumps()
    for size in range(len(content)):
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
        (b'{"format": "wdsremux", "version": 2}', "has version 2; this release of wdsremux reads version 1"),
        (b'{"format": "wdsremux", "version": 1}', "was modified after it was written"),
    ],
)
def test_what_is_no_manifest(content: bytes, sentence: str) -> None:
    with pytest.raises(FormatError, match=f"^here {sentence}"):
        manifest.loads(content, "here")


def test_no_finished_split(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(FormatError, match=r"contains no finished split: index\.json is missing"):
        manifest.read(tmp_path / "train")


def test_read(tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_bytes(example().dumps())
    assert manifest.read(tmp_path) == example()


def test_it_is_shown_in_a_line() -> None:
    """However many shards and classes there are."""
    shards = [Shard(f"train-{number:06d}.tar", 3, 10_240, "ab", "cd") for number in range(1_000)]
    made = example(shards=shards, nsamples=3_000, classes=["<b>"] * 1_000, nrejects=2)
    assert repr(made) == (
        "wdsremux.Manifest(split train, samples 3,000, classes 1,000, shards 1,000 (10.2 MB), rejects 2, "
        "source 'pictures', recipe 'copy')"
    )
    html = made._repr_html_()
    assert html.startswith("<table><caption style='text-align:left'>wdsremux.Manifest</caption>")
    assert '<th style="text-align:left">samples</th><td style="text-align:left">3,000</td>' in html
    assert len(html) < 2_000
    odd = example(source={"name": "<script>" + "x" * 10_000}, classes=None, ndropped=5)
    assert "<script>" not in odd._repr_html_()
    assert len(repr(odd)) < 250
    assert "classes no names, " in repr(odd)
    assert "rejects 0, and 5 dropped by the recipe, " in repr(odd)
    assert manifest.loads(made.dumps()) == made != odd
