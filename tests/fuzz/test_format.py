"""What lies on disk: whatever a file holds, each parser of ours gives a value or one sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.mutations import Tally, changed, many, rewritten, some, survives
from tests.support.reading import RECORD
from tests.support.soak import soaking
from tests.support.splits import header, index, parquet, picture, reseal, tar, write_split
from wdsremux.errors import FormatError
from wdsremux.format import keys, manifest, samples
from wdsremux.format.containers import StoredSample, parquet_walk, tar_layout, tar_walk
from wdsremux.inspection import records
from wdsremux.inspection.verify import verify
from wdsremux.loading.reader import Reader
from wdsremux.loading.reader.open_shards import Disk, Shards

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # when one fails
MOST_BYTES = 512 * 2**20  #: that memory may grow by in a test, whatever sizes its inputs announce


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small split, of which examples put back what they change."""
    return write_split(tmp_path_factory.mktemp("fuzz"), shards=(3, 2), kept=True, classes=9)


TARS = [
    tar([("000001-000002", {"jpg": picture(0), "cls": b"7", "json": b"{}"}), ("000001-000003-1", {"jpg": b"x"})]),
    tar([("000000-000000", {"jpg": picture(1)[:90]})]),
    tar([]),
]
TAR_WORDS = [
    header("000001-000004.jpg", 4),
    header("000001-000004.jpg", 8**11 - 1),
    header("000001-000004.jpg", 2**40),
    header("../../x.jpg", 1),
    header("000001-000004.jpg", 1, type=b"2", linkname="/etc/passwd"),
    header("000001-000004.jpg", 1, type=b"L"),
    header("000001-000004.jpg", 1, type=b"x"),
    bytes(512),
    bytes(1024),
    b"ustar\x0000",
    b"ustar  \x00",
    b"77777777777\0",
    b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
]


@many
@given(data=changed(TARS, TAR_WORDS))
def test_tars(data: bytes, tally: Tally) -> None:
    found = survives(lambda: list(tar_walk.walk(io.BytesIO(data), Path("a.tar"), len(data))), tally)
    if isinstance(found, list):
        assert index(data) == tar_layout.index_text([sample.members for sample in found])
        for sample in found:
            assert data[sample.offset : sample.offset + len(sample.image)] == sample.image


PARQUETS = [
    parquet([(f"000001-{row:06d}", {"jpg": picture(row), "cls": b"7", "json": b'{"place": 1}'}) for row in range(4)]),
    parquet([("000001-000003-1", {"jpg": b"x"})], labelled=False),
    parquet([]),
]
PARQUET_WORDS = [
    b"PAR1",
    b"PARE",
    b"\x15\x00",  # of Thrift's compact protocol: an int32 of 0, and of others; an int64; lists; a struct; its end
    b"\x15\xff\xff\xff\xff\x0f",
    b"\x16\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x19\x0c",
    b"\x19\xfc\xff\xff\xff\x07",
    b"\x19\x2c",
    b"\x1c",
    b"\0",
    b"image",
    b"\xff\xff\xff\x7f",
    (2**31).to_bytes(4, "little"),
]


def walked(data: bytes, path: Path) -> list[StoredSample]:
    path.write_bytes(data)
    with path.open("rb") as file:
        return list(parquet_walk.walk(file, path, len(data)))


@many
@given(data=changed(PARQUETS, PARQUET_WORDS))
def test_parquets(tmp_path_factory: pytest.TempPathFactory, data: bytes, tally: Tally) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.parquet"
    found = survives(lambda: walked(data, path), tally)
    for sample in found if isinstance(found, list) else ():
        assert data[sample.offset : sample.offset + len(sample.image)] == sample.image


@pytest.mark.parametrize("number", range(2))
def test_every_byte_of_a_footer(tmp_path: Path, number: int, tally: Tally) -> None:
    """Pyarrow 26 ends the process when it is asked about a chunk with a codec that it does not know."""
    content = PARQUETS[number]
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for at in range(start, len(content), 1 if soaking() else 3):
        for bit in range(8) if soaking() else [at % 8]:
            data = bytearray(content)
            data[at] ^= 1 << bit
            survives(lambda data=bytes(data): walked(data, tmp_path / "a.parquet"), tally)  # type: ignore[misc]


@many
@given(name=st.one_of(st.text(max_size=30), changed([b"000001-000002-3", b"4294967295-000000"], [b"-", b"0"])))
def test_keys(name: str | bytes, tally: Tally) -> None:
    text = name if isinstance(name, str) else name.decode("latin-1")
    place = survives(lambda: keys.place(text), tally)
    assert isinstance(place, FormatError) or keys.key(*place) == text


SHARDS = [
    {"url": f"train-00000{i}.tar", "nsamples": 2, "size_bytes": 10_240, "sha256": "", "idx_sha256": ""} for i in "02"
]
ABOUT: dict[str, Any] = {
    "split": "train",
    "nsamples": 4,
    "nrejects": 1,
    "ndropped": 0,
    "classes": ["ant", "bee"],
    "source": {"kind": "parquet", "name": "pictures", "revision": "ab", "files": 3, "license": None},
    "recipe": {"name": "resize:256", "sha256": "cd", "side": 256},
    "options": {"keep": [], "quality": 90, "shuffle": True, "limit": None},
    "seed": 0,
    "environment": {"wdsremux": "1.0", "numpy": "2.4.6"},
    "shards": SHARDS,
    "files": {"samples.npy": {"sha256": "ef"}, "rejects.jsonl": {"sha256": "01"}},
}


def sealed(values: Any) -> bytes:
    """JSON that bears its own SHA-256, as a manifest does, whatever it says."""
    text = json.dumps(values, allow_nan=True)
    body = f"{text[:-1]}{', ' if values else ''}\n" if isinstance(values, dict) else f"{text}\n"
    return f'{body}"sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'.encode()


PLAIN = {"format": "wdsremux", "version": 1} | ABOUT
MANIFEST = sealed(PLAIN)
JSON_WORDS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"null",
    b"1e999",
    b"-1",
    b"NaN",
    b"[" * 3_000,
    b"9" * 5_000,
    b"\\ud800",
]


def test_what_is_changed_is_valid() -> None:
    assert manifest.loads(MANIFEST).nsamples == 4


@many
@given(content=changed([MANIFEST, b"[]"], JSON_WORDS) | rewritten(PLAIN).map(sealed))
def test_manifests(content: bytes, tally: Tally) -> None:
    read = survives(lambda: manifest.loads(content, "index.json"), tally)
    if isinstance(read, manifest.Manifest):
        names = [shard.url for shard in read.shards] + list(read.files)
        assert all(re.fullmatch(r"[\w.]+(-[0-9]+)?\.(tar|npy|jsonl)", name) for name in names)
        assert sum(shard.nsamples for shard in read.shards) == read.nsamples
        assert survives(lambda: manifest.loads(read.dumps())) == read


def table(count: int = 3) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(count, RECORD))
    return file.getvalue()


TABLE_WORDS = [
    b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"PK\x03\x04", b"\x80\x04K\x01.", b"'descr'", b"|O", b"'shape': (3,)",
    b"(" * 200, b"10" * 40, b"-1", b"True", b"lambda: 0", b"__import__('os')", b"\xff\xff",
]  # fmt: skip


@many
@given(content=changed([table(), table(0), table(1)], TABLE_WORDS))
def test_tables(tmp_path_factory: pytest.TempPathFactory, content: bytes, tally: Tally) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.npy"
    path.write_bytes(content)
    found = survives(lambda: samples.read(path), tally)
    if not isinstance(found, FormatError):
        assert (found.dtype, found.ndim) == (RECORD, 1)
        np.array(found)  # all of it is there


LINES = [
    b'{"fragment": 1, "row": 2, "part": null, "where": "a.jpg", "column": "image", "reason": "empty: 0 bytes"}\n'
    b'{"fragment": 1, "row": 3, "part": 0, "where": null, "column": null, "reason": "?"}\n',
    b"",
]


@many
@given(content=changed(LINES, [*JSON_WORDS, b"\n"]), count=st.integers(0, 3))
def test_rejects(tmp_path_factory: pytest.TempPathFactory, content: bytes, count: int, tally: Tally) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.jsonl"
    path.write_bytes(content)
    places = records.Places.of(np.zeros(1, RECORD))
    survives(lambda: records.check_rejects(path, count, places), tally)


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as Parquet."""
    folder = write_split(tmp_path_factory.mktemp("boxed"), shards=(3, 2), kept=True, classes=9, container="parquet")
    reseal(folder, options={"keep": ["place"]})
    return folder


KINDS = [
    "train-000000.tar",
    "train-000001.idx",
    "samples.npy",
    "rejects.jsonl",
    "index.json",
    "train-000000.parquet",
]


@some
@given(data=st.data(), file=st.sampled_from(KINDS), reseals=st.booleans())
def test_a_split_read_as_a_whole(
    folder: Path, boxed: Path, data: st.DataObject, file: str, reseals: bool, tally: Tally
) -> None:
    """By verify and by the loader's reader, with a manifest that agrees with whatever the file holds."""
    folder = boxed if file.endswith(".parquet") else folder
    path, about = folder / file, folder / manifest.NAME
    before, manifest_before = path.read_bytes(), about.read_bytes()
    words = {".tar": TAR_WORDS, ".npy": TABLE_WORDS, ".parquet": PARQUET_WORDS}.get(path.suffix, JSON_WORDS)
    content = data.draw(changed([before], words))
    path.write_bytes(content)
    try:
        if reseals and file != manifest.NAME:
            reseal(folder)
        damages = survives(lambda: verify(folder.parent, decode=True), tally)
        assert isinstance(damages, list)
        assert (damages != []) or content == before or reseals
        survives(lambda: _read_all(folder))
    finally:
        path.write_bytes(before)
        about.write_bytes(manifest_before)


def _read_all(folder: Path) -> None:
    reader = Reader(folder, verify_crc=True)
    try:
        ids = np.arange(len(reader.table))
        reader.read(ids)
        reader.keys(ids)
        reader.json(ids)
    finally:
        reader.close()


@pytest.fixture(scope="module")
def reader(folder: Path) -> Iterator[Reader]:
    """Of that split; examples give it other tables."""
    reader = Reader(folder, verify_crc=True)
    yield reader
    reader.close()


@many
@given(data=st.data())
def test_tables_that_place_samples_anywhere(reader: Reader, data: st.DataObject, tally: Tally) -> None:
    """A table of more than 256 MB is read by without having been hashed."""
    split = reader.split
    rows = np.array(split.table)
    for _ in range(data.draw(st.integers(1, 3))):
        column = data.draw(st.sampled_from(["shard", "offset", "size", "crc32", "width"]))
        largest = int(np.iinfo(RECORD[column]).max)
        rows[column][data.draw(st.integers(0, 4))] = data.draw(st.sampled_from([0, 1, 511, largest, 2**16 - 1, 600]))
    reader.split = dataclasses.replace(split, table=rows)
    reader.table = rows
    reader.shards = Shards(reader.split, Disk())
    try:
        survives(lambda: reader.read(np.arange(len(rows))), tally)
        survives(lambda: reader.json(np.arange(len(rows))))
    finally:
        reader.close()
        reader.split, reader.table = split, split.table
