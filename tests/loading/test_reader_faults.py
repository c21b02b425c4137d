"""Reader: a shard missing, short, swapped or damaged is an error that names it, or is skipped; never a wrong label."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.support.splits import header, reseal, write_split
from wdsremux.errors import FormatError, ImageError
from wdsremux.format import manifest, samples
from wdsremux.loading.reader import Reader, fault, skip_log
from wdsremux.loading.reader.encoded import Encoded
from wdsremux.loading.reader.open_shards import Disk

COUNT = 12  #: samples, in four shards of three
ALL = np.arange(COUNT)
Damage = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A split to be damaged."""
    return write_split(tmp_path, shards=(3,) * 4)


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said in another test is said again."""
    monkeypatch.setattr(skip_log, "LOG", skip_log.SkipLog())


def shard(folder: Path, number: int) -> Path:
    return folder / f"train-{number:06d}.tar"


def flip(folder: Path, sample_id: int, at: int = 100) -> None:
    """Change one bit of an image; a negative place lies in the header before it."""
    row = np.load(folder / samples.NAME)[sample_id]
    with open(shard(folder, int(row["shard"])), "r+b") as file:
        file.seek(int(row["offset"]) + at)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def swap(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def truncate(folder: Path) -> None:
    os.truncate(shard(folder, 2), shard(folder, 2).stat().st_size - 512)


def lengthen(folder: Path) -> None:
    with open(shard(folder, 2), "ab") as file:
        file.write(b"\0")


def remove(folder: Path) -> None:
    shard(folder, 2).unlink()


def swap_of_one_size(folder: Path) -> None:
    assert shard(folder, 2).stat().st_size == shard(folder, 3).stat().st_size
    swap(shard(folder, 2), shard(folder, 3))


def swap_with_another_split(folder: Path) -> None:
    """Of the same name, size and first key: only the CRC-32 tells."""
    other = write_split(folder.parent / "other", shards=(3,) * 4)
    path = shard(other, 2)
    table, content = np.load(other / samples.NAME), bytearray(path.read_bytes())
    for row in table[table["shard"] == 2]:
        content[int(row["offset"]) + 100] ^= 1
    path.write_bytes(content)
    shutil.copy(path, shard(folder, 2))


def directory(folder: Path) -> None:
    shard(folder, 2).unlink()
    shard(folder, 2).mkdir()


DAMAGES: list[tuple[Damage, str]] = [
    (remove, r"cannot be opened: No such file or directory\. Run the same conversion again to rebuild it$"),
    (truncate, r"was changed after the conversion: it has 9728 bytes, but the manifest says 10240\. Run the same"),
    (lengthen, r"was changed after the conversion: it has 10241 bytes, but the manifest says 10240\. Run the same"),
    (directory, r"was changed after the conversion: it has \d+ bytes, but the manifest says 10240\. Run the same"),
    (
        swap_of_one_size,
        r"is damaged, or is another shard: 000001-000002\.jpg is not at byte 1024\. Delete it",
    ),
    (
        swap_with_another_split,
        r"is damaged, or is another shard: 000001-000002\.jpg is not at byte 1024",
    ),
]
damages = pytest.mark.parametrize(("damage", "sentence"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])


@damages
def test_a_bad_shard_is_named(folder: Path, damage: Damage, sentence: str) -> None:
    """Whichever of its samples comes first; what lies elsewhere can be read."""
    damage(folder)
    with closing(Reader(folder)) as reader:
        assert len(reader.read(np.arange(6))) == 6
        for sample_id in (7, 6):
            with pytest.raises(FormatError, match=rf"^{shard(folder, 2)} {sentence}"):
                reader.read(np.array([0, sample_id]))


@damages
def test_samples_of_a_bad_shard_are_skipped(
    folder: Path, damage: Damage, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The next good one of the batch stands in; one warning says why."""
    with closing(Reader(folder)) as reader:
        sound = reader.read(np.array([3, 9, 5]))
    damage(folder)
    with closing(Reader(folder, on_error="skip")) as reader:
        bad = [6, 7, 8] if damage is not swap_of_one_size else list(range(6, 12))
        encoded = reader.read(np.array([3, 6, 7, 5, 8]))
        assert encoded.ids.tolist() == [3, 5, 5, 5, 3]
        assert encoded.skipped == 3
        assert [encoded.image(i).tobytes() for i in (0, 4)] == [sound.image(0).tobytes()] * 2
        assert [encoded.image(i).tobytes() for i in (1, 2, 3)] == [sound.image(2).tobytes()] * 3
        assert encoded.width.tolist() == reader.table["width"][[3, 5, 5, 5, 3]].tolist()
        assert encoded.height.tolist() == reader.table["height"][[3, 5, 5, 5, 3]].tolist()
        assert all(encoded.sound(i) for i in range(5))
        assert reader.read(ALL).skipped == len(bad)
        with pytest.raises(FormatError, match=f"^{shard(folder, 2)} {sentence}"):
            reader.read(np.array([7, 6]))
    texts = [record.getMessage() for record in caplog.records if str(shard(folder, 2)) in record.getMessage()]
    assert len(texts) == 1
    assert texts[0].startswith(f"skipped: {shard(folder, 2)} ")


def test_a_bad_shard_is_looked_at_once(folder: Path) -> None:
    """Until the reader is closed; and without "skip" each time, so that a shard put back is read."""
    remove(folder)
    disk = CountingDisk()
    with closing(Reader(folder, on_error="skip", disk=disk)) as reader:
        for _ in range(3):
            reader.read(ALL)
        assert disk.opened.count(shard(folder, 2).name) == 1
        reader.close()
        reader.read(ALL)
        assert disk.opened.count(shard(folder, 2).name) == 2
    with closing(Reader(folder, disk=disk)) as reader:
        with pytest.raises(FormatError):
            reader.read(ALL)
        assert disk.opened.count(shard(folder, 2).name) > 2


class CountingDisk(Disk):
    """Notes which tars are opened and how much is read."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.reads = 0

    def open(self, path: str | os.PathLike[str]) -> int:
        self.opened.append(Path(path).name)
        return super().open(path)

    def read(self, descriptor: int, into: memoryview, offset: int) -> int:
        self.reads += 1
        return super().read(descriptor, into, offset)


def test_a_shard_is_known_again_at_no_further_cost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read more when it is first opened; when it is opened again, only its size is looked at."""
    monkeypatch.setattr("wdsremux.loading.reader.open_shards.OPEN_SHARDS", 1)
    monkeypatch.setattr("wdsremux.loading.reader.base.HINTED", 1)
    disk = CountingDisk()
    with closing(Reader(folder, disk=disk)) as reader:
        reader.read(ALL)
        assert disk.reads == COUNT + 4
        reader.read(ALL)
        assert disk.reads == 2 * COUNT + 4
        assert len(disk.opened) == 8
        truncate(folder)
        with pytest.raises(FormatError, match="was changed after the conversion"):
            reader.read(ALL)


def test_damage_to_the_first_sample_is_told_from_another_shard(folder: Path) -> None:
    """By the last sample, which is where it has to be; with "skip" the shard's others are read."""
    for at in (20, -500):
        flip(folder, 6, at)
        place = rf"^sample 6 at byte 1536 of {shard(folder, 2)} is damaged: its CRC-32 or header is wrong\. Delete this"
        with closing(Reader(folder)) as reader, pytest.raises(FormatError, match=place):
            reader.read(np.array([7]))
        with closing(Reader(folder, on_error="skip", verify_crc=True)) as reader:
            assert reader.read(np.arange(6, 9)).ids.tolist() == ([7, 7, 8] if at > 0 else [6, 7, 8])
        flip(folder, 6, at)
    flip(folder, 6)
    flip(folder, 8)
    with closing(Reader(folder)) as reader, pytest.raises(FormatError, match="is damaged, or is another shard"):
        reader.read(np.array([7]))


def test_a_bit_flip_is_found_when_asked_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    flip(folder, 4)
    offset = np.load(folder / samples.NAME)["offset"][4]
    place = f"sample 4 at byte {offset} of {shard(folder, 1)} is damaged: its CRC-32 is wrong. Delete this shard"
    with closing(Reader(folder)) as reader:
        assert reader.read(ALL).skipped == 0
    with closing(Reader(folder, verify_crc=True)) as reader:
        reader.read(np.array([3, 5]))
        with pytest.raises(FormatError, match=f"^{re.escape(place)}"):
            reader.read(ALL)
    with closing(Reader(folder, verify_crc=True, on_error="skip")) as reader:
        for _ in range(2):
            assert reader.read(ALL).ids.tolist() == [*range(4), 5, *range(5, 12)]
        with pytest.raises(FormatError, match="is damaged: its CRC-32 is wrong"):
            reader.read(np.array([4]))
    assert [record.getMessage().startswith(f"skipped: {place}") for record in caplog.records] == [True]


class FailingDisk(Disk):
    """Fails, or ends, at one place."""

    def __init__(self, offset: int, number: int | None) -> None:
        self.offset, self.number = offset, number

    def read(self, descriptor: int, into: memoryview, offset: int) -> int:
        if offset != self.offset:
            return super().read(descriptor, into, offset)
        if self.number is None:
            return 0
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EIO, r"cannot be read: Input/output error\. Run the same conversion"),
        (None, r"ends in the middle of the sample at byte \d+\. Run the same conversion"),
    ],
    ids=["error", "end"],
)
def test_a_read_that_fails_names_the_shard(folder: Path, number: int | None, sentence: str) -> None:
    """And costs that sample only."""
    disk = FailingDisk(int(np.load(folder / samples.NAME)["offset"][7]), number)
    with (
        closing(Reader(folder, disk=disk)) as reader,
        pytest.raises(FormatError, match=rf"^{shard(folder, 2)} {sentence}"),
    ):
        reader.read(np.arange(6, 9))
    with closing(Reader(folder, on_error="skip", disk=disk)) as reader:
        assert reader.read(np.arange(6, 9)).ids.tolist() == [6, 8, 8]


def test_reads_that_come_in_pieces_are_put_together(folder: Path) -> None:
    """As FUSE and a signal on NFS may cut them."""

    class Stuttering(Disk):
        def read(self, descriptor: int, into: memoryview, offset: int) -> int:
            return super().read(descriptor, into[: max(1, len(into) // 2)], offset)

    with closing(Reader(folder, verify_crc=True, disk=Stuttering())) as reader:
        assert len(reader.read(ALL)) == COUNT


def test_missing_shards_are_counted_at_one_look(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    strict, lenient = Reader(folder), Reader(folder, on_error="skip")
    strict.check_present()
    remove(folder)
    with pytest.raises(
        FormatError, match=rf"^{shard(folder, 2)} is missing\. Run the same conversion again to rebuild it$"
    ):
        strict.check_present()
    shard(folder, 3).unlink()
    sentence = f"{shard(folder, 2)} and 1 more of 4 shards are missing"
    with pytest.raises(FormatError, match=rf"^{sentence}\."):
        strict.check_present()
    lenient.check_present()
    assert caplog.records[0].getMessage().startswith(f"skipped: {sentence}")
    for number in (0, 1):
        shard(folder, number).unlink()
    with pytest.raises(FormatError, match=r"and 3 more of 4 shards are missing"):
        lenient.check_present()


def test_a_table_that_places_samples_otherwise_is_refused(folder: Path) -> None:
    """Above 256 MB nobody has hashed it."""
    table = np.load(folder / samples.NAME)
    table["shard"][6] = 1
    np.save(folder / samples.NAME, table)
    reseal(folder)
    sentence = r"samples\.npy does not match the manifest: sample 6 should be in train-000002\.tar\. Delete it"
    with closing(Reader(folder)) as reader, pytest.raises(FormatError, match=sentence):
        reader.read(np.array([7]))


# Decoders


def test_a_decoders_fault_is_explained_by_the_crc(folder: Path) -> None:
    """Damage is told from a file that was never an image."""
    flip(folder, 4)
    with closing(Reader(folder)) as reader:
        encoded = reader.read(np.array([3, 4]))
    for i, kind, sentence in (
        (0, ImageError, rf"^sample 3 at byte \d+ of {shard(folder, 1)} cannot be decoded: no JPEG$"),
        (1, FormatError, rf"^sample 4 at byte \d+ of {shard(folder, 1)} is damaged: its CRC-32 is wrong\. Delete this"),
    ):
        with pytest.raises(kind, match=sentence):
            raise fault(encoded, i, "no JPEG")


def test_images_of_no_split_are_named_by_their_id() -> None:
    side = np.full(1, 8)
    encoded = Encoded(np.array([7]), side, side, np.zeros(4, np.uint8), np.array([0]), np.array([4]))
    assert str(fault(encoded, 0, "no JPEG")) == "sample 7 cannot be decoded: no JPEG"


def test_the_next_good_image_stands_in_cyclically(folder: Path) -> None:
    with closing(Reader(folder)) as reader:
        encoded = dataclasses.replace(reader.read(np.array([9, 2, 5, 7])), width=np.arange(4), height=np.arange(4, 8))
    cases = [([], [0, 1, 2, 3]), ([0], [1, 1, 2, 3]), ([3, 2], [0, 1, 0, 0]), ([0, 1, 3], [2, 2, 2, 2])]
    for bad, wanted in cases:
        other, index = encoded.without(bad)
        assert index.tolist() == wanted
        assert other.ids.tolist() == encoded.ids[index].tolist()
        assert [other.image(i).tobytes() for i in range(4)] == [encoded.image(i).tobytes() for i in wanted]
        assert other.width.tolist() == wanted
        assert other.height.tolist() == [4 + place for place in wanted]
        assert other.skipped == len(bad)
        assert all(other.sound(i) for i in range(4))
    once = encoded.without([0])[0]
    assert once.without([3])[0].ids.tolist() == [2, 2, 5, 2]
    assert once.without([3])[0].skipped == 2  # the one before counts, too
    assert once.without([0, 1])[0].skipped == 2  # places, not attempts
    with pytest.raises(
        ImageError, match=r"^sample 9 at .* cannot be decoded: no other image of its batch can be decoded either$"
    ):
        encoded.without([1, 0, 3, 2])


def test_many_faults_are_not_all_said(caplog: pytest.LogCaptureFixture) -> None:
    log = skip_log.SkipLog()
    for number in range(100):
        for _ in range(2):
            log.warn(FormatError(f"fault {number}"))
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == skip_log.MOST + 1
    assert texts[-1] == "skipped: more than 20 faults. Further ones are counted, but not logged"
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.name for record in caplog.records} == {"wdsremux"}


# Kept columns


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A split with KEY.json."""
    folder = write_split(tmp_path, shards=(3,) * 4, kept=True)
    reseal(folder, options={"keep": ["place"]})
    return folder


def rewrite_json(folder: Path, sample_id: int, name: str, content: bytes, size: int | None = None) -> None:
    """Put another member in the place of a KEY.json, of two blocks."""
    row = np.load(folder / samples.NAME)[sample_id]
    start = int(row["offset"]) + -(-int(row["size"]) // 512) * 512
    block = header(name, len(content) if size is None else size) + content.ljust(512, b"\0")
    with open(shard(folder, int(row["shard"])), "r+b") as file:
        file.seek(start)
        file.write(block)


def test_kept_columns_are_read(kept: Path) -> None:
    with closing(Reader(kept)) as reader:
        assert reader.has_json
        assert reader.json(np.array([7, 0, 11])) == [{"place": 7}, {"place": 0}, {"place": 11}]


def _with_text(text: str, value: dict[str, Any]) -> str:
    return json.dumps(value | {"text": text})


def test_long_kept_columns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come with the header is read after it."""
    for size in (1_512, 1_513, 1_514, 5_000):  # {"place": 0, "text": "…"} adds 24 bytes, and 1,536 come at once
        dumps = partial(_with_text, "x" * size)
        monkeypatch.setattr("tests.support.splits.json", SimpleNamespace(dumps=dumps))
        folder = write_split(tmp_path / str(size), kept=True, rejects=0)
        with closing(Reader(folder)) as reader:
            assert [values["text"] for values in reader.json(np.array([0, 4]))] == ["x" * size] * 2
            assert [values["place"] for values in reader.json(np.array([0, 4]))] == [0, 4]


def test_a_set_without_kept_columns_has_none(folder: Path) -> None:
    with closing(Reader(folder)) as reader:
        assert not reader.has_json
        for sample_id in (4, COUNT - 1):  # before another sample, and before the end of the tar
            with pytest.raises(
                FormatError, match=rf"{sample_id // 3:06d}\.tar has no valid .*\.json at byte \d+: found '"
            ):
                reader.json(np.array([sample_id]))


@pytest.mark.parametrize(
    ("content", "size", "sentence"),
    [
        (b"[1]", None, r"expected a JSON object, got list"),
        (b'{"place": ', None, r"Expecting value"),
        (b"\xff\xfe\xff", None, r"codec can't decode"),
        (b"{}", 8**11 - 1, r"its 8,589,934,591 bytes extend beyond the end of the tar"),
    ],
    ids=["list", "torn", "bytes", "large"],
)
def test_what_is_no_json_is_named(kept: Path, content: bytes, size: int | None, sentence: str) -> None:
    rewrite_json(kept, 4, "000001-000000.json", content, size)
    with closing(Reader(kept)) as reader:
        with pytest.raises(
            FormatError,
            match=rf"^{shard(kept, 1)} has no valid 000001-000000\.json at byte \d+: .*{sentence}.*\. Delete it",
        ):
            reader.json(np.array([3, 4]))
        assert reader.json(np.array([3, 5])) == [{"place": 3}, {"place": 5}]


def test_json_too_deep_to_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.splits.json", SimpleNamespace(dumps=lambda _: "[" * 300_000))
    folder = write_split(tmp_path, kept=True, rejects=0)
    with (
        closing(Reader(folder)) as reader,
        pytest.raises(FormatError, match=r"has no valid 000000-000000\.json at byte"),
    ):
        reader.json(np.array([0]))


def test_a_shard_cut_off_before_its_json_is_named(kept: Path) -> None:
    row = np.load(kept / samples.NAME)[11]
    os.truncate(shard(kept, 3), int(row["offset"]) + int(row["size"]))
    about = manifest.read(kept)
    reseal(kept, shards=about.shards)
    with closing(Reader(kept)) as reader, pytest.raises(FormatError, match=r"has no valid 000002-000003\.json at byte"):
        reader.json(np.array([11]))


# Kept columns of Parquet


@pytest.fixture
def boxed(tmp_path: Path) -> Path:
    """A split with a kept column in two Parquet shards, of two row groups each."""
    folder = write_split(tmp_path, shards=(5, 6), kept=True, container="parquet")
    reseal(folder, options={"keep": ["place"]})
    return folder


def change(folder: Path, start: int, content: bytes) -> Path:
    """Write over a part of the second Parquet shard, from its end if `start` is negative."""
    path = folder / "train-000001.parquet"
    with open(path, "r+b") as file:
        file.seek(start, os.SEEK_END if start < 0 else os.SEEK_SET)
        file.write(content)
    return path


def chunk(folder: Path, group: int, column: str) -> int:
    """Where a column of a row group of the second shard begins."""
    about = pq.read_metadata(folder / "train-000001.parquet").row_group(group)
    (found,) = [about.column(i) for i in range(about.num_columns) if about.column(i).path_in_schema == column]
    return int(found.dictionary_page_offset or found.data_page_offset)


def test_kept_columns_of_parquet_are_read(boxed: Path) -> None:
    with closing(Reader(boxed)) as reader:
        assert reader.json(np.array([7, 0, 10, 4, 5])) == [{"place": i} for i in (7, 0, 10, 4, 5)]


@pytest.mark.parametrize(
    ("start", "content", "what"),
    [
        (-1, b"2", "Parquet magic bytes not found in footer.*"),
        (-8, b"\xff\xff\xff\x7f", "Parquet file size is .* bytes, smaller than the size reported by footer's .*"),
        (-8, bytes(4), r"[ -~]+"),
        (-300, b"\xee" * 200, r"[ -~]+"),
    ],
    ids=["magic", "length", "empty", "overwritten"],
)
def test_a_damaged_footer_is_named(boxed: Path, start: int, content: bytes, what: str) -> None:
    """With the sample that was to be read; images are read by the table and need none of it."""
    path = change(boxed, start, content)
    with closing(Reader(boxed, verify_crc=True)) as reader:
        assert reader.read(np.arange(11)).skipped == 0
        assert reader.json(np.array([4])) == [{"place": 4}]
        for _ in range(2):
            sentence = rf"^{path} has no valid kept columns of 000001-000002: {what}\. Delete it and run the same"
            with pytest.raises(FormatError, match=sentence):
                reader.json(np.array([0, 6]))


@pytest.mark.parametrize("column", ["place", "image.path"])
def test_a_damaged_column_is_named(boxed: Path, column: str) -> None:
    """What lies in other row groups can be read."""
    path = change(boxed, chunk(boxed, 1, column), b"\xee" * 20)
    with closing(Reader(boxed)) as reader:
        assert reader.json(np.array([7, 4])) == [{"place": 7}, {"place": 4}]
        with pytest.raises(FormatError, match=rf"^{path} has no valid kept columns of 000002-000000: .+\. Delete it"):
            reader.json(np.array([7, 8]))


def test_kept_columns_of_another_sample_are_not_taken(boxed: Path) -> None:
    """A shard of the same size, with the same images at the same places, but other keys."""
    path = boxed / "train-000001.parquet"
    table = pq.read_table(path)
    images = [image | {"path": f"000009-{i:06d}.jpg"} for i, image in enumerate(table.column("image").to_pylist())]
    table = table.set_column(0, table.schema.field(0), pa.array(images, table.schema.field(0).type))
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    offsets = np.load(boxed / samples.NAME)
    for i, image in enumerate(images, 5):
        offsets["offset"][i] = path.read_bytes().index(image["bytes"])
    np.save(boxed / samples.NAME, offsets)
    reseal(boxed)
    with closing(Reader(boxed, verify_crc=True)) as reader:
        reader.read(np.arange(11))
        sentence = (
            rf"^{path} has no valid kept columns of 000001-000002: found '000009-000001\.jpg' instead\. Delete it"
        )
        with pytest.raises(FormatError, match=sentence):
            reader.json(np.array([6]))


def test_a_shard_of_too_few_rows_is_named(boxed: Path) -> None:
    path = boxed / "train-000001.parquet"
    pq.write_table(pq.read_table(path).slice(0, 4), path, compression="none", use_dictionary=False)
    reseal(boxed)
    with closing(Reader(boxed)) as reader:
        reader.shards._known.add(1)  # whose first image is not looked at: it is at another place
        with pytest.raises(FormatError, match=rf"^{path} has no valid kept columns of 000002-000002: .+\. Delete it"):
            reader.json(np.array([10]))


def test_a_parquet_shard_that_is_gone_is_named_as_that(boxed: Path) -> None:
    """Or cut short: what the reader says of any shard, although pyarrow stands between."""
    path = boxed / "train-000001.parquet"
    os.truncate(path, path.stat().st_size - 1)
    with closing(Reader(boxed)) as reader:
        with pytest.raises(FormatError, match=rf"^{path} was changed after the conversion: it has \d+ bytes, but"):
            reader.json(np.array([6]))
        path.unlink()
        with pytest.raises(FormatError, match=rf"^{path} cannot be opened: No such file"):
            reader.json(np.array([6]))


@pytest.mark.parametrize("place", ["footer", "column"])
def test_a_loader_names_damaged_kept_columns(boxed: Path, place: str) -> None:
    """One error for the epoch, and no thread is left."""
    path = change(boxed, -1, b"2") if place == "footer" else change(boxed, chunk(boxed, 1, "place"), b"\xee" * 20)
    given: dict[str, Any] = {"size": 8, "augment": None, "backend": "torchvision", "num_threads": 1}
    sentence = (
        rf"^{path} has no valid kept columns of 00000[12]-00000\d: [^\n]+\. Delete it and run the same conversion"
    )
    with (
        wdsremux.DataLoader(boxed.parent, 2, fields=("id", "json"), **given) as loader,
        pytest.raises(FormatError, match=sentence),
    ):
        list(loader)


# Nothing is written

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.truncate", "os.utime", "os.chmod", "os.link", "os.symlink"}
_watched: list[str] = []
_written: list[tuple[str, Any]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or not arguments or not str(arguments[0]).startswith(_watched[0]):
        return
    writes = event == "open" and int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    if event in WRITES or writes or event.startswith("fcntl."):
        _written.append((event, arguments))


@pytest.fixture
def written() -> Iterator[list[tuple[str, Any]]]:
    """Collects what is written below the watched folder, named by the test in `_watched`."""
    if not hasattr(_audit, "added"):
        sys.addaudithook(_audit)  # which cannot be taken back
        _audit.added = True  # type: ignore[attr-defined]
    yield _written
    _watched.clear()
    _written.clear()


def test_nothing_is_written_or_locked(kept: Path, written: list[tuple[str, Any]]) -> None:
    """A split on a read-only disk will do."""
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in kept.iterdir()}
    for path in (*kept.iterdir(), kept):
        path.chmod(0o555 if path.is_dir() else 0o444)
    _watched.append(str(kept))
    try:
        with closing(Reader(kept, verify_crc=True, on_error="skip")) as reader:
            reader.check_present()
            assert reader.read(ALL).skipped == 0
            reader.json(ALL)
    finally:
        _watched.clear()
        kept.chmod(0o755)
    assert written == []
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in kept.iterdir()}
