"""verify names every file that is not what the manifest says, and nothing of a sound split."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.conftest import ConvertTiny, WriteSource, tiny_jpeg
from tests.support.reading import RECORD
from tests.support.splits import header, index, parquet, picture, reseal, tar, write_split
from wdsremux.errors import FormatError
from wdsremux.format import containers, contents, manifest, plain
from wdsremux.inspection import shard_check
from wdsremux.inspection import verify as verification
from wdsremux.inspection.reading import Known
from wdsremux.inspection.verify import Damage, verify

MEND = "Delete it and run the same conversion again to rebuild it"
AGAIN = "Run the same conversion again to rebuild it"
SHARDS = (5, 4, 6)
NOBODY = 65_534


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """15 labelled samples in three shards, numbered with a gap, and two rejects."""
    return write_split(tmp_path / "out", shards=SHARDS, numbers=(0, 1, 3), kept=True, classes=10)


def told(folder: Path, **options: Any) -> list[str]:
    return [str(damage) for damage in verify(folder.parent, **options)]


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


# Sound sets


def _random_split(out: Path, rng: random.Random) -> None:
    for name in rng.sample(["train", "test", "validation.extra"], rng.randint(1, 2)):
        numbers = sorted(rng.sample(range(12), rng.randint(1, 6)))
        write_split(
            out,
            name,
            shards=[rng.randint(1, 9) for _ in numbers],
            numbers=numbers,
            labelled=rng.random() < 0.7,
            kept=rng.random() < 0.5,
            parts=rng.choice([1, 2, 4]),
            rejects=rng.choice([0, 1, 5]),
            classes=rng.choice([None, 3]),
        )


@pytest.mark.parametrize("seed", range(20))
def test_no_false_alarm(tmp_path: Path, seed: int) -> None:
    _random_split(tmp_path, random.Random(seed))
    assert verify(tmp_path) == []
    assert verify(tmp_path, decode=True) == []


@pytest.mark.parametrize("shards", [(), (1,)])
def test_no_false_alarm_at_the_small_end(tmp_path: Path, shards: tuple[int, ...]) -> None:
    assert told(write_split(tmp_path, shards=shards, rejects=1), decode=True) == []


def test_no_false_alarm_after_a_conversion(converted: Path) -> None:
    assert verify(converted) == []
    assert verify(converted, decode=True) == []


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1, {}),
        (100, {}),
        (60, {"samples_per_shard": 7, "workers": 2}),
        (10, {"samples_per_shard": 3, "seed": 3}),
    ],
)
def test_no_false_alarm_after_tiny_conversions(convert_tiny: ConvertTiny, count: int, options: dict[str, Any]) -> None:
    assert verify(convert_tiny(count, **options), decode=True) == []


def test_no_false_alarm_with_rejects_and_gaps(write_source: WriteSource, tmp_path: Path) -> None:
    """Whole shards of rejects are left out; a kept column goes with each sample."""
    images = [tiny_jpeg(i) if i >= 40 else b"" for i in range(80)]
    columns = {"text": (datasets.Value("string"), [f"Bär {i}" for i in range(80)])}
    source = write_source(images, rows_a_group=20, columns=columns)
    sizes: dict[str, Any] = {"samples_per_shard": 10, "samples_per_task": 20, "keep": ("text",)}
    made = wdsremux.convert(source, tmp_path / "out", recipe="copy", workers=1, max_rejects="40", **sizes)
    assert made.nrejects == 40
    assert verify(tmp_path / "out", decode=True) == []


def test_what_is_no_part_of_a_split(split: Path) -> None:
    """Plan and journal, the card, what the Hub's client leaves, a split that is not finished."""
    for name in ("README.md", "_info.json", ".lock", "train/.wdsremux/plan.json", ".cache/x", "test/test-000000.tar"):
        path = split.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert told(split) == []


# One damage


@pytest.mark.parametrize(
    ("file", "at", "bit", "sentence"),
    [
        ("train-000001.tar", 10, 0, "is damaged at byte 0: the header has a wrong checksum"),
        ("train-000001.tar", 512, 0, "is damaged in sample 000001-000001, whose image is at byte 1536: its label"),
        ("train-000001.tar", 515, 0, "is damaged at byte 515: nonzero bytes after 000001-000001.cls"),
        ("train-000001.tar", 1536, 3, "is damaged in sample 000001-000001, whose image is at byte 1536: its CRC-32"),
        ("train-000001.tar", -1, 7, r"is damaged at byte \d+: nonzero bytes at the end of the archive"),
        ("train-000001.idx", 20, 0, r"differs from the manifest \(SHA-256\), first in line 2"),
        ("train-000001.idx", 0, 0, r"differs from the manifest \(SHA-256\), first in line 1"),
        (
            "samples.npy",
            -44,
            0,
            r"differs from the manifest \(SHA-256\), first in record 14 \(000003-000002\): its shard is 3, b",
        ),
        (
            "samples.npy",
            -28,
            0,
            r"differs .*, first in record 14 \(000003-000002\): its label is 9, but train-000003\.tar has 8",
        ),
        ("samples.npy", -14, 0, r"differs from the manifest \(SHA-256\)\. "),
        ("samples.npy", 0, 0, "is not a sample table"),
        ("samples.npy", 7, 0, "is not a sample table"),
        ("rejects.jsonl", 0, 0, "is damaged: line 1 is not a valid reject"),
        ("rejects.jsonl", -1, 0, "is damaged: line 2 is not a valid reject"),
        ("rejects.jsonl", 73, 1, r"differs from the manifest \(SHA-256\)"),
        ("index.json", 3, 0, "is not a wdsremux manifest"),
        ("index.json", 35, 0, "has version 0; this release of wdsremux reads version 1"),
        ("index.json", 52, 1, "was modified after it was written"),
        ("index.json", -1, 0, "is not JSON"),
    ],
)
def test_one_flipped_bit(split: Path, file: str, at: int, bit: int, sentence: str) -> None:
    flip(split / file, at, bit)
    (damage,) = verify(split.parent)
    assert (damage.split, damage.file) == ("train", file)
    assert re.search(f"^{sentence}", damage.what)
    assert str(damage) == f"train/{file}: {damage.what}"


def test_a_bit_that_only_the_digest_knows(split: Path) -> None:
    """Kept columns have no CRC and may hold anything."""
    at = (split / "train-000001.tar").read_bytes().index(b'{"place"') + 3
    flip(split / "train-000001.tar", at)
    assert told(split) == [f"train/train-000001.tar: differs from the manifest (SHA-256). {MEND}"]


NAMES = [f"train-00000{n}.{e}" for n in (0, 1, 3) for e in ("tar", "idx")] + [
    "rejects.jsonl",
    "samples.npy",
    "index.json",
]


@pytest.mark.parametrize("file", NAMES)
def test_missing(split: Path, file: str) -> None:
    (split / file).unlink()
    assert told(split) == [f"train/{file}: is missing. {AGAIN}"]


@pytest.mark.parametrize("file", NAMES)
@pytest.mark.parametrize("kept", [0, 0.1, 0.5, -1])
def test_cut_short(split: Path, file: str, kept: float) -> None:
    content = (split / file).read_bytes()
    (split / file).write_bytes(content[: int(len(content) * kept) if kept >= 0 else -1])
    (damage,) = verify(split.parent)
    assert damage.file == file
    assert "has the content of" not in damage.what


@pytest.mark.parametrize("file", NAMES)
@pytest.mark.parametrize("more", [b"\n", b"\0" * 10_240, b"{}\n"])
def test_lengthened(split: Path, file: str, more: bytes) -> None:
    with open(split / file, "ab") as opened:
        opened.write(more)
    (damage,) = verify(split.parent)
    assert damage.file == file


def test_where_a_tar_is_cut(split: Path) -> None:
    path = split / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:1600])
    (text,) = told(split)
    assert re.search(r"is damaged at byte 1536: 000001-000001\.jpg of \d+ bytes extends past the end of the file", text)


def test_a_tar_that_grew(split: Path) -> None:
    path = split / "train-000001.tar"
    path.write_bytes(path.read_bytes() * 3)
    assert told(split) == [f"train/train-000001.tar: has 61,440 bytes, but the manifest says 20,480. {MEND}"]


@pytest.mark.parametrize("suffix", ["tar", "idx"])
def test_swapped(split: Path, suffix: str) -> None:
    a, b = (split / f"train-00000{n}.{suffix}" for n in (0, 3))
    a.rename(split / "x")
    b.rename(a)
    (split / "x").rename(b)
    assert [text.partition(". ")[0] for text in told(split)] == [
        f"train/{a.name}: has the content of {b.name}: the files were swapped or renamed",
        f"train/{b.name}: has the content of {a.name}: the files were swapped or renamed",
    ]


def test_one_overwritten_with_another(split: Path) -> None:
    shutil.copy(split / "train-000000.tar", split / "train-000001.tar")
    (text,) = told(split)
    assert text.startswith(
        "train/train-000001.tar: has the content of train-000000.tar: the files were swapped or renamed"
    )


@pytest.mark.parametrize("file", [name for name in NAMES if name != "index.json"])
def test_renamed(split: Path, file: str) -> None:
    (split / file).rename(split / "other")
    assert told(split) == [
        f"train/{file}: is missing. {AGAIN}",
        f"train/other: is {file} under another name. Give it its original name",
    ]


def test_moved_to_another_split(split: Path) -> None:
    other = write_split(split.parent, "test", shards=(1,), rejects=0)
    (split / "train-000001.tar").rename(other / "train-000001.tar")
    assert [text.partition(". ")[0] for text in told(split)] == [
        "test/train-000001.tar: is train/train-000001.tar under another name",
        "train/train-000001.tar: is missing",
    ]


def test_manifests_swapped(split: Path) -> None:
    """Of the files that they name nothing can be said, then."""
    other = write_split(split.parent, "test", shards=(1,))
    content = (split / "index.json").read_bytes()
    (other / "index.json").rename(split / "index.json")
    (other / "index.json").write_bytes(content)
    assert [text.partition(": it was")[0] for text in told(split)] == [
        "test/index.json: is the manifest of split 'train'",
        "train/index.json: is the manifest of split 'test'",
    ]


def test_strays(split: Path) -> None:
    (split / "train-000002.tar").write_bytes(b"")
    (split / ".partial\n\x1b[1m").write_bytes(b"x")
    (split / "z").mkdir()
    os.mkfifo(split / "pipe")
    assert told(split) == [
        f"train/{name}: is not part of the split. Move it away or delete it"
        for name in (r".partial\n\x1b[1m", "pipe", "train-000002.tar", "z")
    ]


def test_all_at_once_in_order(split: Path) -> None:
    """One damage a file, in the order of the manifest, split by split."""
    other = write_split(split.parent, "test", shards=(2,))
    flip(other / "index.json", 100)
    (split / "train-000000.idx").unlink()
    flip(split / "train-000001.tar", 600)
    flip(split / "train-000001.tar", 0)
    (split / "extra").write_bytes(b"")
    (split / "samples.npy").unlink()
    (split / "rejects.jsonl").write_bytes(b"")
    files = ["index.json", "train-000000.idx", "train-000001.tar", "rejects.jsonl", "samples.npy", "extra"]
    damages = verify(split.parent)
    assert [damage.file for damage in damages] == files
    assert [damage.split for damage in damages] == ["test", *["train"] * 5]
    assert {damage.split for damage in verify(split.parent, "test")} == {"test"}


# One damage of a Parquet split


@pytest.fixture
def boxed(tmp_path: Path) -> Path:
    """The same samples in three Parquet shards, of two row groups each."""
    return write_split(tmp_path / "boxed", shards=SHARDS, numbers=(0, 1, 3), kept=True, classes=10, container="parquet")


BOXES = [f"train-00000{n}.parquet" for n in (0, 1, 3)]


def test_a_damaged_image_names_its_sample(boxed: Path) -> None:
    """In the first row group and in the second."""
    table = np.load(boxed / "samples.npy")
    for sample, key in ((5, "000001-000001"), (8, "000002-000000")):
        at = int(table["offset"][sample])
        flip(boxed / BOXES[1], at + 100)
        assert told(boxed) == [
            f"train/{BOXES[1]}: is damaged in sample {key}, whose image is at byte {at}: its CRC-32 differs from the "
            f"sample table. {MEND}"
        ]
        flip(boxed / BOXES[1], at + 100)


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (0, r"differs from the manifest \(SHA-256\)"),  # the first four bytes say that it is Parquet, as the last do
        (-1, "is damaged in its metadata: Parquet magic bytes not found in footer"),
        (-5, "is damaged in its metadata: Parquet file size is .* bytes, smaller than the size reported by footer"),
        (-200, r"is damaged in|differs from the manifest \(SHA-256\)"),
    ],
)
def test_a_bit_of_what_is_around_the_images(boxed: Path, at: int, what: str) -> None:
    flip(boxed / BOXES[1], at)
    (text,) = told(boxed)
    assert re.match(rf"train/{BOXES[1]}: ({what}).*\. {MEND}$", text)
    assert text.isprintable()


def test_the_length_before_an_image(boxed: Path) -> None:
    """All images of a row group are found by their lengths: none of them is, then."""
    flip(boxed / BOXES[1], int(np.load(boxed / "samples.npy")["offset"][6]) - 4)
    (text,) = told(boxed)
    assert text.startswith(f"train/{BOXES[1]}: is damaged in row group 0: ")


@pytest.mark.parametrize("file", [*BOXES, "samples.npy", "rejects.jsonl", "index.json"])
@pytest.mark.parametrize("kept", [0, 0.5, -1])
def test_a_file_beside_or_of_parquet_cut_short(boxed: Path, file: str, kept: float) -> None:
    content = (boxed / file).read_bytes()
    (boxed / file).write_bytes(content[: int(len(content) * kept) if kept >= 0 else -1])
    (damage,) = verify(boxed.parent)
    assert damage.file == file
    assert "has the content of" not in damage.what


def test_parquet_shards_swapped_renamed_and_lost(boxed: Path) -> None:
    a, b, c = (boxed / name for name in BOXES)
    a.rename(boxed / "x")
    b.rename(a)
    (boxed / "x").rename(b)
    c.rename(boxed / "other.parquet")
    swapped = "the files were swapped or renamed. Restore both names"
    assert [text.partition(", or ")[0] for text in told(boxed)] == [
        f"train/{a.name}: has the content of {b.name}: {swapped}",
        f"train/{b.name}: has the content of {a.name}: {swapped}",
        f"train/{c.name}: is missing. {AGAIN}",
        f"train/other.parquet: is {c.name} under another name. Give it its original name",
    ]
    (boxed / "other.parquet").unlink()
    assert told(boxed)[2:] == [f"train/{c.name}: is missing. {AGAIN}"]


def test_a_table_beside_parquet_that_was_edited(boxed: Path) -> None:
    table = np.load(boxed / "samples.npy")
    table["label"][7] ^= 1
    np.save(boxed / "samples.npy", table)
    where = f"record 7 (000001-000003): its label is {table['label'][7]}, but {BOXES[1]} has {table['label'][7] ^ 1}"
    assert told(boxed) == [f"train/samples.npy: differs from the manifest (SHA-256), first in {where}. {MEND}"]
    reseal(boxed)
    assert told(boxed) == [f"train/samples.npy: is wrong in {where}. {MEND}"]


def test_parquet_of_which_the_manifest_was_made_anew(boxed: Path) -> None:
    """Its sums are right: a sample too few, images that are none, and what is no Parquet of ours."""
    path, content = boxed / BOXES[2], (boxed / BOXES[2]).read_bytes()
    image = {"jpg": picture(9), "cls": b"3"}
    rows = [(f"{i // 4:06d}-{i % 4:06d}", image) for i in range(9, 15)]
    other = io.BytesIO()
    pq.write_table(pa.table({"image": [{"bytes": b"x", "path": 7}]}), other)
    for made, said in (
        (parquet(rows[:5]), "has the wrong number of samples: 5, but the manifest says 6"),
        (parquet([*rows[:5], ("wrong", image)]), "is damaged in row group 1: "),
        (parquet([]), "is damaged in|has the wrong number of samples: 0"),
        (other.getvalue(), "is damaged in its metadata: its columns are not of the types that a conversion writes"),
        (b"PAR1" + bytes(500), "is damaged in its metadata: Parquet magic bytes not found in footer"),
        (b"PAR1" + b"\xff" * 500 + b"\xff\xff\xff\x7fPAR1", "is damaged in its metadata: Parquet file size is 512"),
        (content + b"PAR1", "is damaged in its metadata: Couldn't deserialize thrift|is damaged in its metadata: Parq"),
    ):
        path.write_bytes(made)
        reseal(boxed)
        (text,) = [text for text in told(boxed) if path.name in text]
        assert re.match(rf"train/{path.name}: ({said})", text), text


def test_decode_names_an_image_of_parquet_that_is_none(boxed: Path) -> None:
    """All sums are right: the recipe made it so."""
    path, wrong = boxed / BOXES[2], picture(11)[:-60]
    contents = [{"jpg": wrong if i == 11 else picture(i), "cls": b"%d" % (i * 7 % 10)} for i in range(9, 15)]
    path.write_bytes(parquet([(f"{i // 4:06d}-{i % 4:06d}", content) for i, content in enumerate(contents, 9)]))
    table = np.load(boxed / "samples.npy")
    for i, content in enumerate(contents, 9):
        image = content["jpg"]
        table["offset"][i] = path.read_bytes().index(image)
        table["size"][i], table["crc32"][i] = len(image), zlib.crc32(image)
    np.save(boxed / "samples.npy", table)
    reseal(boxed)
    assert told(boxed) == []
    (text,) = told(boxed, decode=True)
    assert text.startswith(f"train/{path.name}: has images that failed the check: 000002-000003 (")


def test_memory_is_that_of_a_row_group(tmp_path: Path) -> None:
    """A shard of 40 MB, and behind it one that was replaced by 8 GB of nothing."""
    folder = write_split(tmp_path, shards=(1, 1), rejects=0, container="parquet")
    shards = sorted(folder.glob("*.parquet"))
    shards[0].write_bytes(parquet([(f"000000-{row:06d}", {"jpg": bytes(2**20)}) for row in range(40)]))
    os.truncate(shards[1], 8 * 2**30)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        damages = verify(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() == before
    assert [damage.file for damage in damages] == [shard.name for shard in shards]


# What only a manifest that was made anew can hide


def test_index_untrue_to_its_tar(split: Path) -> None:
    flip(split / "train-000001.idx", 20)
    reseal(split)
    assert told(split) == [f"train/train-000001.idx: does not match train-000001.tar. {MEND}"]


@pytest.mark.parametrize("column", [name for name in RECORD.names or () if name not in ("width", "height")])
def test_table_untrue_to_the_tars(split: Path, column: str) -> None:
    table = np.load(split / "samples.npy")
    table[column][7] ^= 1
    np.save(split / "samples.npy", table)
    reseal(split)
    (text,) = told(split)
    word = column.replace("crc32", "CRC-32")
    assert text.startswith(f"train/samples.npy: is wrong in record 7 (000001-000003): its {word} is ")
    assert f", but train-000001.tar has {table[column][7] ^ 1}. " in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"nsamples": 14}, "index.json: records 14 samples, but its shards do not add up to that number"),
        ({"nrejects": 3}, "rejects.jsonl: has the wrong number of rejects: 2, but the manifest says 3"),
        ({"classes": ["a", "b"]}, "samples.npy: has label 9, but the number of classes is 2"),
    ],
)
def test_counts(split: Path, changes: dict[str, Any], sentence: str) -> None:
    reseal(split, **changes)
    assert told(split) == [f"train/{sentence}. {MEND}"]


def test_a_table_that_is_short(split: Path) -> None:
    np.save(split / "samples.npy", np.load(split / "samples.npy")[:-1])
    reseal(split)
    assert told(split) == [f"train/samples.npy: has the wrong number of records: 14, but the manifest says 15. {MEND}"]


def test_a_tar_that_is_short(split: Path) -> None:
    path = split / "train-000001.tar"
    key, content = "000001-000001", {"jpg": picture(5)}
    path.write_bytes(tar([(key, content)]))
    path.with_suffix(".idx").write_bytes(index(path.read_bytes()))
    reseal(split)
    assert told(split) == [f"train/{path.name}: has the wrong number of samples: 1, but the manifest says 4. {MEND}"]


def test_a_key_twice(split: Path) -> None:
    """Sample 9, the first of the third shard, gets the key of sample 0."""
    path = split / "train-000003.tar"
    path.write_bytes(_renamed(path.read_bytes(), b"000002-000001", b"000000-000000"))
    path.with_suffix(".idx").write_bytes(index(path.read_bytes()))
    table = np.load(split / "samples.npy")
    table[["fragment", "row"]][9] = 0, 0
    np.save(split / "samples.npy", table)
    reseal(split)
    assert told(split) == [
        f"train/train-000003.tar: has sample 000000-000000, which is also in train-000000.tar. {MEND}"
    ]


def _renamed(data: bytes, key: bytes, other: bytes) -> bytes:
    """A tar in which a sample has another key, with headers that hold."""
    assert sum(key) - key.count(b"-") * 45 >= 0
    written = bytearray(data)
    while (at := written.find(key)) >= 0:
        name, size = written[at : at + 100].rstrip(b"\0").decode(), int(written[at + 124 : at + 135], 8)
        written[at : at + 512] = header(name.replace(key.decode(), other.decode()), size)
    return bytes(written)


@pytest.mark.parametrize(("part", "clash"), [(None, True), (0, False), (1, True), (2, False)])
def test_a_row_both_sample_and_reject(tmp_path: Path, part: int | None, clash: bool) -> None:
    """Row 1 of fragment 0 made parts 0 and 1; as part 2 it may be a reject, as a whole not."""
    folder = write_split(tmp_path, shards=(4, 4), parts=2, rejects=1)
    line = {"fragment": 0, "row": 1, "part": part, "where": None, "column": None, "reason": "?"}
    if part == 0:  # of a row that is in no shard
        line["fragment"] = 9
    (folder / "rejects.jsonl").write_text(json.dumps(line) + "\n")
    reseal(folder)
    key = "000000-000001-1" if part else "000000-000001"
    wanted = [f"train/rejects.jsonl: lists {key} as a reject in line 1, but it is also a sample. {MEND}"]
    assert told(folder) == (wanted if clash else [])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"{}",
        b'{"fragment": 1, "row": -1, "part": null, "where": null, "column": null, "reason": ""}',
        b'{"fragment": 1, "row": 1e99, "part": null, "where": null, "column": null, "reason": ""}',
        b'{"fragment": 1, "row": 99999999999999999999, "part": null, "where": null, "column": null, "reason": ""}',
        b'{"fragment": 1, "row": 1, "part": "0", "where": null, "column": null, "reason": ""}',
        b'{"fragment": 1, "row": 1, "part": null, "column": null, "reason": ""}',
        b'{"fragment": 1, "row": 1, "part": null, "where": null, "column": null, "reason": null}',
    ],
)
def test_what_is_no_reject(split: Path, line: bytes) -> None:
    (split / "rejects.jsonl").write_bytes(line + b"\n")
    reseal(split, nrejects=1)
    assert told(split) == [f"train/rejects.jsonl: is damaged: line 1 is not a valid reject. {MEND}"]


# Hostile files, with a manifest that agrees

ZIP = b"PK\x05\x06" + bytes(18)


def _npy(text: str, body: bytes = bytes(44 * 15)) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1") + body


DESCR = np.lib.format.dtype_to_descr(RECORD)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        ZIP,
        b"\x80\x04K\x01.",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
        _npy(""),
        _npy("{'descr': "),
        _npy("{" * 9_000),
        _npy("(" * 9_000),
        _npy("'\\d'"),
        _npy("'unclosed\n"),
        _npy("{'descr': '|O', 'fortran_order': False, 'shape': (15,)}"),
        _npy("{'descr': [1, 2], 'fortran_order': False, 'shape': (15,)}"),
        _npy("{'descr': 'q9', 'fortran_order': False, 'shape': (15,)}"),
        _npy(f"{{'descr': {DESCR}, 'fortran_order': False, 'shape': (15L,)}}"),
        _npy(f"{{'descr': {DESCR}, 'fortran_order': False, 'shape': (-15,)}}"),
        _npy(f"{{'descr': {DESCR}, 'fortran_order': False, 'shape': ({10**30},)}}"),
        _npy(f"{{'descr': {DESCR}, 'fortran_order': False, 'shape': ({2**62}, 4)}}"),
        _npy(f"{{'descr': {DESCR}, 'fortran_order': False, 'shape': (3, 5)}}"),
        _npy(f"{{'descr': {DESCR}, 'fortran_order': False, 'shape': (15,)}}", b"short"),
        _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (15,)}"),
    ],
)
def test_hostile_tables(split: Path, content: bytes, sealed: bool) -> None:
    (split / "samples.npy").write_bytes(content)
    if sealed:
        reseal(split)
    (text,) = told(split)
    assert text.startswith("train/samples.npy: ")


def test_an_endless_shard_number_in_the_table(split: Path) -> None:
    """Nothing is looked up by what a table says."""
    table = np.load(split / "samples.npy")
    table["shard"][:] = 2**32 - 1
    table[["fragment", "row", "part"]][:] = 0, 0, 0
    np.save(split / "samples.npy", table)
    for name in ("train-000000.tar", "train-000001.tar", "train-000003.tar"):
        flip(split / name, 0)
    reseal(split)
    assert {damage.file for damage in verify(split.parent)} >= {"train-000000.tar", "train-000003.tar"}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 10_240,
        b"\xff" * 512,
        header("000001-000001.jpg", 8**11 - 1),
        header("000001-000001.jpg", 2**40) + bytes(512),
        header("../../etc/passwd", 0) + bytes(9_728),
        tar([("000001-000001", {"cls": b"9" * 5_000})]),
    ],
)
def test_hostile_tars(split: Path, content: bytes, sealed: bool) -> None:
    (split / "train-000001.tar").write_bytes(content)
    if sealed:
        reseal(split)
    assert "train-000001.tar" in [damage.file for damage in verify(split.parent, decode=True)]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"9" * 100_000,
        b'{"format": "wdsremux", "version": 1, "sha256": ""}',
        b"\xff\xfe\x00",
        b'{"format": "wdsremux", "version": [1]}',
    ],
)
def test_hostile_manifests(split: Path, content: bytes) -> None:
    (split / "index.json").write_bytes(content)
    (damage,) = verify(split.parent)
    assert damage.file == "index.json"


SHARD = manifest.Shard("train-000000.tar", 5, 10_240, "a", "b")
WELL_NAMED: dict[str, Any] = {
    "url": "train-000000.tar",
    "nsamples": 15,
    "size_bytes": 1,
    "sha256": "",
    "idx_sha256": "",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"nsamples": "15"},
        {"nsamples": -1},
        {"nsamples": 10**40},
        {"nrejects": None},
        {"classes": 7},
        {"files": []},
        {"files": {}},
        {"files": {"samples.npy": {}, "rejects.jsonl": {}}},
        {"files": {"samples.npy": {"sha256": ""}, "rejects.jsonl": {"sha256": ""}, "../x": {"sha256": ""}}},
        {"shards": [WELL_NAMED | {"url": "../../train-000000.tar"}]},
        {"shards": [WELL_NAMED | {"url": 5}]},
        {"shards": [WELL_NAMED | {"nsamples": 0}, WELL_NAMED]},
        {"shards": [WELL_NAMED | {"nsamples": 7}, WELL_NAMED | {"nsamples": 8}]},
        {"shards": [WELL_NAMED | {"sha256": None}]},
        {"shards": [WELL_NAMED | {"size_bytes": 1e300}]},
        {"split": None},
    ],
)
def test_sealed_nonsense(split: Path, changes: dict[str, Any]) -> None:
    values = json.loads((split / "index.json").read_bytes())
    shards = [manifest.Shard(**shard) for shard in (values | changes)["shards"]]
    names = [field for field in values if field not in ("format", "version", "sha256", "shards")]
    made = manifest.Manifest(**{name: (values | changes)[name] for name in names}, shards=shards)
    (split / "index.json").write_bytes(made.dumps())
    (damage,) = verify(split.parent)
    assert damage.file == "index.json"


# What cannot be read


@pytest.mark.parametrize("file", NAMES)
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "dangling", "unreadable"])
def test_no_plain_file(split: Path, file: str, kind: str) -> None:
    path = split / file
    path.unlink()
    if kind == "unreadable" and not Path("/proc/self/mem").exists():
        pytest.skip("no file at hand that opens and cannot be read")
    makers: dict[str, Callable[[], None]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path),
        "dangling": lambda: path.symlink_to("nowhere"),
        "unreadable": lambda: path.symlink_to("/proc/self/mem"),  # a plain file, whose first bytes give EIO
    }
    makers[kind]()
    (damage,) = verify(split.parent)
    assert damage.file == file
    what = {
        "folder": "not a regular file",
        "pipe": "not a regular file",
        "loop": "cannot be read",
        "dangling": "is missing",
    }
    assert what.get(kind, "cannot be read: Input/output error") in damage.what


@pytest.fixture
def common_user() -> Iterator[Path]:
    """A folder that a user without root's rights can reach, and those rights for the test."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        if root:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.parametrize("file", [*NAMES, "."])
@pytest.mark.parametrize("mode", [0, 0o111])
def test_no_permission(common_user: Path, file: str, mode: int) -> None:
    folder = write_split(common_user, shards=SHARDS, numbers=(0, 1, 3))
    (folder / file).chmod(mode)
    try:
        (damage,) = verify(common_user)
    finally:
        (folder / file).chmod(0o755)
    assert damage.file == (file if file != "." else "index.json")
    assert damage.what == f"cannot be read: Permission denied. {plain.FREE}"


# Pictures


def test_decode_names_what_fails(split: Path) -> None:
    """Ten pictures cut short, and one that is smaller than the table says; the digests agree with all of it."""
    samples = [(f"000000-{row:06d}", {"jpg": picture(row)[: -40 if row else None]}) for row in range(11)]
    folder = write_split(split.parent, "test", shards=(11,), labelled=False)
    (folder / "test-000000.tar").write_bytes(tar(samples))
    (folder / "test-000000.idx").write_bytes(index(tar(samples)))
    rows = contents.table_of(folder / "test-000000.tar", containers.container("tar"), 0, lambda _: (8, 9))
    np.save(folder / "samples.npy", rows)
    reseal(folder)
    assert verify(split.parent) == []
    (text,) = told(split, decode=True)
    assert text.startswith("test/test-000000.tar: has images that failed the check: 000000-000001 (damaged JPEG: ")
    assert "000000-000008 (" in text
    assert text.endswith(f" and 3 more. {MEND}")


def test_decode_names_another_size(split: Path) -> None:
    table = np.load(split / "samples.npy")
    table["width"][6] += 1
    np.save(split / "samples.npy", table)
    reseal(split)
    assert verify(split.parent) == []
    (text,) = told(split, decode=True)
    assert (
        "train-000001.tar: has images that failed the check: 000001-000002 (8x9 pixels, but samples.npy says 9x9)"
        in text
    )


# The call


def test_tell_counts_up(split: Path) -> None:
    write_split(split.parent, "test", shards=(2, 2))
    seen: list[tuple[int, int]] = []
    assert verify(split.parent, tell=lambda done, total: seen.append((done, total))) == []
    total = sum(path.stat().st_size for path in split.parent.glob("*/*.tar"))
    assert len(seen) == 5
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


@pytest.mark.parametrize(("cores", "threads"), [(1.0, 5), (2.5, 7), (16.0, 20), (64.0, 32)])
def test_all_cores_are_used(monkeypatch: pytest.MonkeyPatch, cores: float, threads: int) -> None:
    """Those that this process may use, which a container or an affinity makes fewer; and some more for the disk."""
    monkeypatch.setattr("wdsremux.machine.cores", lambda: cores)
    assert verification.threads() == threads


def test_shards_are_decoded_side_by_side(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other: one thread alone would never come to an end."""
    both = threading.Barrier(2, timeout=30)
    real = shard_check.check

    def waiting(expected: shard_check.Expected, known: Known, decode: bool) -> list[shard_check.Finding]:
        if expected.number < 2:
            both.wait()
        return real(expected, known, decode)

    monkeypatch.setattr(shard_check, "check", waiting)
    assert verify(split.parent, decode=True) == []


def test_what_was_looked_at(split: Path) -> None:
    checked = verification.check(split.parent)
    sizes = [path.stat().st_size for path in split.iterdir() if path.is_file()]
    shards = len(list(split.glob("*.tar")))
    assert checked == verification.Checked([], 1, shards, len(sizes), sum(sizes))
    next(split.glob("*.tar")).unlink()
    assert verification.check(split.parent).size_bytes < sum(sizes)


def test_no_finished_split(tmp_path: Path, split: Path) -> None:
    (tmp_path / "empty").mkdir()
    makes = r"empty contains no finished split\. Run `wdsremux convert SOURCE .*empty` to create one"
    for out, said in ((tmp_path / "empty", makes), (split, "is itself a split of a converted set")):
        with pytest.raises(FormatError, match=said):
            verify(out)
    with pytest.raises(FormatError, match="contains no finished split 'test', only train"):
        verify(split.parent, "test")
    for out in (tmp_path / "none", split / "index.json"):
        with pytest.raises(FormatError, match=r"cannot be read: (No such file|Not a directory)"):
            verify(out)


def test_damage_is_plain() -> None:
    damage = Damage("train", "train-000003.tar", f"is missing. {AGAIN}")
    assert str(damage) == f"train/train-000003.tar: is missing. {AGAIN}"
    assert damage == Damage("train", "train-000003.tar", f"is missing. {AGAIN}")


def test_memory_is_that_of_a_picture(tmp_path: Path) -> None:
    """A shard of 40 MB, and behind it one that was replaced by 8 GB of nothing."""
    folder = write_split(tmp_path, shards=(1, 1), rejects=0)
    samples = [(f"000000-{row:06d}", {"jpg": bytes(2**20)}) for row in range(40)]
    (folder / "train-000000.tar").write_bytes(tar(samples))
    os.truncate(folder / "train-000001.tar", 8 * 2**30)
    tracemalloc.start()
    try:
        damages = verify(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert [damage.file for damage in damages] == ["train-000000.tar", "train-000001.tar"]


def test_torch_is_not_needed(split: Path) -> None:
    """Nor webdataset, which loads it: a check of files begins at once."""
    code = (
        "import sys, pathlib; from wdsremux.inspection.verify import verify\n"
        "print(verify(pathlib.Path(sys.argv[1]))); print('torch' in sys.modules, 'simplejpeg' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, split.parent], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["[]", "False False"]
