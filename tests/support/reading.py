"""A converted split read by its contract alone: with tarfile, json and numpy, trusting nothing it says of itself."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

RECORD = np.dtype(
    [
        ("shard", "<u4"),
        ("offset", "<u8"),
        ("size", "<u4"),
        ("label", "<i8"),
        ("crc32", "<u4"),
        ("width", "<u2"),
        ("height", "<u2"),
        ("fragment", "<u4"),
        ("row", "<u4"),
        ("part", "<u4"),
    ]
)
Content = dict[str, bytes]  #: of a sample's files, by extension


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(out: Path) -> dict[str, str]:
    """The SHA-256 of every file of the splits in OUT, journal and locks left out."""
    return {str(path.relative_to(out)): sha256(path) for path in sorted(out.glob("*/*")) if path.is_file()}


def read_tar(path: Path) -> dict[str, Content]:
    """The samples of a shard by key, in their order; the files of one stand side by side."""
    found: dict[str, Content] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            assert key not in found or list(found)[-1] == key, f"{key} is torn apart"
            file = tar.extractfile(member)
            assert file is not None
            found.setdefault(key, {})[extension] = file.read()
    return found


def read_split(folder: Path) -> dict[str, Content]:
    """All samples of a split by key, in their order."""
    found: dict[str, Content] = {}
    for path in sorted(folder.glob("*.tar")):
        samples = read_tar(path)
        assert not samples.keys() & found.keys()
        found |= samples
    return found


def check_split(folder: Path, rows: int) -> None:
    """A finished split keeps its contract, and accounts for each of `rows` rows of the source exactly once."""
    index = check_manifest(folder)
    table = np.load(folder / "samples.npy", allow_pickle=False)
    assert table.dtype == RECORD
    rejects = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert len(table) == index["nsamples"] == sum(shard["nsamples"] for shard in index["shards"])
    assert len(rejects) == index["nrejects"]
    assert all(list(line) == ["fragment", "row", "part", "where", "column", "reason"] for line in rejects)
    places = list(zip(table["fragment"].tolist(), table["row"].tolist(), strict=True))
    lost = [(line["fragment"], line["row"]) for line in rejects]
    assert len({*places, *lost}) == len(places) + len(lost) == rows - index["ndropped"]
    first = 0
    for number, shard in enumerate(index["shards"]):
        check_shard(folder, shard, number, table[first : first + shard["nsamples"]])
        first += shard["nsamples"]


def check_manifest(folder: Path) -> dict[str, Any]:
    """The manifest is whole, and what it names is there and nothing else."""
    content = (folder / "index.json").read_bytes()
    index: dict[str, Any] = json.loads(content)
    head = content[: content.rindex(b'"sha256"')]
    assert head.endswith(b"\n")
    assert index["sha256"] == hashlib.sha256(head).hexdigest()
    assert (index["format"], index["version"], index["split"]) == ("wdsremux", 1, folder.name)
    tars = [shard["url"] for shard in index["shards"]]
    assert all(re.fullmatch(rf"{folder.name}-\d{{6}}\.tar", name) for name in tars)
    assert tars == sorted(set(tars))
    named = {"index.json", ".wdsremux", *index["files"], *tars, *(name[:-3] + "idx" for name in tars)}
    assert {path.name for path in folder.iterdir()} == named
    for name, file in index["files"].items():
        assert file["sha256"] == sha256(folder / name)
    return index


def check_shard(folder: Path, shard: dict[str, Any], number: int, rows: np.ndarray[Any, Any]) -> None:
    """A shard is what the manifest, the table and DALI's index say of it."""
    path = folder / shard["url"]
    raw = path.read_bytes()
    assert len(raw) == shard["size_bytes"]
    assert hashlib.sha256(raw).hexdigest() == shard["sha256"]
    assert sha256(path.with_suffix(".idx")) == shard["idx_sha256"]
    assert len(rows) == shard["nsamples"] > 0
    assert set(rows["shard"].tolist()) == {number}
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, len(m.pax_headers)) for m in members} == {(0, 0, 0, "", "", 0)}
    lines = path.with_suffix(".idx").read_text().splitlines()
    assert lines[0] == f"v1.2 {len(rows)}"
    indexed = [line.split() for line in lines[1:]]
    assert [m for line in indexed for m in zip(*[iter(line)] * 4, strict=True)] == [
        (m.name.partition(".")[2], str(m.offset_data), str(m.size), m.name) for m in members
    ]
    place = {m.name: m.offset_data for m in members}
    for row, (key, content) in zip(rows, read_tar(path).items(), strict=True):
        check_sample(row, key, content)
        assert row["offset"] == place[f"{key}.jpg"]


def check_sample(row: Any, key: str, content: Content) -> None:
    """A sample is what its record says, and its picture what every decoder takes."""
    assert key == f"{row['fragment']:06d}-{row['row']:06d}" + (f"-{row['part']}" if row["part"] else "")
    image = content["jpg"]
    assert (row["size"], row["crc32"]) == (len(image), zlib.crc32(image))
    assert content.get("cls", b"-1") == str(row["label"]).encode()
    at = 2
    while image[at + 1] not in (0xC0, 0xC1, 0xC2, 0xC3, 0xDA):
        at += 2 + int.from_bytes(image[at + 2 : at + 4], "big")
    assert image[at + 1] == 0xC0, "baseline"
    height, width = (int.from_bytes(image[i : i + 2], "big") for i in (at + 5, at + 7))
    assert (row["width"], row["height"]) == (width, height)
    assert image[at + 9] in (1, 3)
