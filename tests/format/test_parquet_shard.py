"""Parquet shards by themselves: their row groups, and that every image lies where the sample table will say."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wdsremux
from tests.conftest import WriteSource, tiny_jpeg
from tests.support.kitchen import Kitchen
from wdsremux.conversion.spool import Form
from wdsremux.errors import FormatError, OutputError
from wdsremux.format import keys
from wdsremux.format.containers import SampleColumns, parquet_layout, parquet_shard
from wdsremux.format.samples import NO_LABEL

KEPT = SampleColumns(kept=pa.schema([pa.field("text", pa.string())]))
BARE = SampleColumns(labelled=False)


@dataclass(frozen=True)
class Written:
    path: Path
    images: list[bytes]
    offsets: list[int]

    @property
    def groups(self) -> list[int]:
        """The rows of each row group."""
        about = pq.read_metadata(self.path)
        return [about.row_group(i).num_rows for i in range(about.num_row_groups)]

    def check(self) -> None:
        """By the file's bytes alone, as pyarrow reads it, and as verify and mending do."""
        content = self.path.read_bytes()
        for image, offset in zip(self.images, self.offsets, strict=True):
            assert content[offset : offset + len(image)] == image
            assert int.from_bytes(content[offset - 4 : offset], "little") == len(image)
        rows = pq.read_table(self.path).to_pylist()
        assert [row["image"]["bytes"] for row in rows] == self.images
        with self.path.open("rb") as file:
            read = list(parquet_shard.walk(file, self.path, len(content)))
        assert [(sample.offset, sample.image) for sample in read] == list(zip(self.offsets, self.images, strict=True))
        assert [sample.key for sample in read] == [keys.key(0, i, 0) for i in range(len(read))]
        assert [sample.label for sample in read] == [row.get("label", NO_LABEL) for row in rows]


def write(
    folder: Path, images: Sequence[bytes], columns: SampleColumns = BARE, kept: Sequence[str | None] = ()
) -> Written:
    """A shard of these images, labelled by their place if they are."""
    with parquet_shard.create(folder, "train", 3, columns) as shard:
        for i, image in enumerate(images):
            packed = parquet_shard.pack({"text": kept[i]}, columns) if kept else None
            shard.add(keys.key(0, i, 0), image, i if columns.labelled else NO_LABEL, zlib.crc32(image), packed)
    assert shard.index is None
    return Written(folder / "train-000003.parquet", list(images), list(shard.offsets))


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed * 1_000_003 + size).randbytes(size)


@pytest.mark.parametrize("count", [1, 100, 101, 250])
def test_a_row_group_has_a_hundred_rows(tmp_path: Path, count: int) -> None:
    written = write(tmp_path, [noise(200 + i % 50, i) for i in range(count)], SampleColumns())
    assert written.groups == [100] * (count // 100) + [count % 100] * bool(count % 100)
    written.check()


def test_large_images_have_a_row_group_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_shard, "GROUP_BYTES", 1_000)
    sizes = [100, 900, 1, 1_001, 5_000, 400, 600, 2_000, 3]
    written = write(tmp_path, [noise(size) for size in sizes])
    assert written.groups == [2, 1, 1, 1, 2, 1, 1]
    written.check()


def test_an_image_that_really_is_larger_than_a_row_group(tmp_path: Path) -> None:
    sizes = [10, parquet_shard.GROUP_BYTES + 1, 20]
    written = write(tmp_path, [noise(size) for size in sizes])
    assert written.groups == [1, 1, 1]
    written.check()


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=40), bound=st.integers(1, 9_000))
def test_any_sizes(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], bound: int) -> None:
    """No row group but one of a single row is over the bound, and none could have held the next row too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_shard, "GROUP_BYTES", bound)
        written = write(tmp_path_factory.mktemp("any"), [noise(size, i) for i, size in enumerate(sizes)])
    written.check()
    first = 0
    for rows in written.groups:
        part = sizes[first : first + rows]
        assert rows == 1 or sum(part) <= bound
        assert first + rows == len(sizes) or sum(part) + sizes[first + rows] > bound
        first += rows
    assert first == len(sizes)


def test_kept_columns_count(tmp_path: Path) -> None:
    """10 MB of text a row: three rows are within 32 MB, and no more wait in memory; nothing and null are kept."""
    long = "läuft " * (10 * 2**20 // 7)
    kept = [long, long, long, long, "", None, long]
    written = write(tmp_path, [noise(300, i) for i in range(len(kept))], KEPT, kept)
    assert written.groups == [3, 4]
    written.check()
    assert pq.read_table(written.path).column("text").to_pylist() == kept


def test_what_the_metadata_says_of_the_columns(tmp_path: Path) -> None:
    """Images are stored as they are, in one page; all else is compressed."""
    group = pq.read_metadata(write(tmp_path, [noise(300, i) for i in range(5)], KEPT, ["a"] * 5).path).row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    assert {chunk.path_in_schema: chunk.compression for chunk in chunks} == {
        "image.bytes": "UNCOMPRESSED",
        "image.path": "ZSTD",
        "label": "ZSTD",
        "text": "ZSTD",
    }
    assert [chunk.has_dictionary_page for chunk in chunks] == [False, True, True, True]
    assert [chunk.is_stats_set for chunk in chunks] == [False, True, True, True]


LAID_OUT = parquet_layout.offsets
MISPLACED = r"train-00000\d\.parquet was not written as expected: no image is at byte \d+\..* install another version"


def off_by_one(end: int, sizes: Sequence[int]) -> list[int]:
    """Right but for the last image."""
    *others, last = LAID_OUT(end, sizes)
    return [*others, last + 1]


def test_a_wrong_offset_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_layout, "offsets", off_by_one)
    with pytest.raises(OutputError, match=MISPLACED):
        write(tmp_path, [noise(300, i) for i in range(250)])


def test_a_shard_with_a_wrong_offset_gets_no_name(
    write_source: WriteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen = Kitchen(write_source([tiny_jpeg(i) for i in range(60)], range(60)), tmp_path / "out")
    kitchen.bakery = replace(kitchen.bakery, form=Form("parquet", SampleColumns()))
    monkeypatch.setattr(parquet_layout, "offsets", off_by_one)
    with pytest.raises(OutputError, match=MISPLACED):
        kitchen.bake()
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    monkeypatch.undo()
    record = kitchen.bake()
    assert {path.name for path in kitchen.folder.glob("*.parquet")} == {shard.url for shard in record.shards}


def fail_within(folder: Path) -> None:
    with parquet_shard.create(folder, "train", 0, BARE) as shard:
        shard.add(keys.key(0, 0, 0), b"image", NO_LABEL, 0, None)
        raise ZeroDivisionError("of the block")


def test_an_error_in_the_block_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="of the block"):
        fail_within(tmp_path)


@pytest.mark.parametrize("options", [{"use_dictionary": True}, {"compression": "zstd"}, {"data_page_size": 100}])
def test_a_shard_laid_out_otherwise_is_damaged(tmp_path: Path, options: dict[str, Any]) -> None:
    """The same rows, as another program writes them: offsets would be wrong."""
    written = write(tmp_path, [noise(300, i) for i in range(50)])
    ours = {"use_dictionary": False, "compression": "none", "write_batch_size": 1}
    pq.write_table(pq.read_table(written.path), written.path, **ours | options)
    with written.path.open("rb") as file, pytest.raises(FormatError, match=r"is damaged in row group 0: "):
        list(parquet_shard.walk(file, written.path, written.path.stat().st_size))


def test_a_loader_takes_rows_out_of_all_row_groups(write_source: WriteSource, tmp_path: Path) -> None:
    """A converted shard of three; the kept columns are read group by group."""
    import datasets

    texts = (datasets.Value("string"), [f"row {i}" for i in range(250)])
    source = write_source([tiny_jpeg(i) for i in range(250)], range(250), columns={"text": texts})
    sizes: dict[str, Any] = {"samples_per_shard": 250, "samples_per_task": 250}
    wdsremux.convert(source, tmp_path, recipe="copy", container="parquet", keep="text", workers=1, **sizes)
    [path] = (tmp_path / "train").glob("*.parquet")
    about = pq.read_metadata(path)
    assert [about.row_group(i).num_rows for i in range(about.num_row_groups)] == [100, 100, 50]
    assert wdsremux.verify(tmp_path, decode=True) == []
    with wdsremux.DataLoader(tmp_path, 64, tail="even", fields=("json", "label"), augment=None) as loader:
        rows = [row for batch in loader for row in zip(*batch, strict=True)]
    assert sorted(int(label) for _, label in rows) == list(range(250))
    assert all(kept == {"text": f"row {int(label)}"} for kept, label in rows)
