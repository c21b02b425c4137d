"""One task: its rows are all there, mixed, and what could not be baked is written down."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WriteSource, tiny_jpeg
from tests.support.kinds import write_tar
from tests.support.kitchen import Kitchen
from tests.support.reading import digests, read_tar
from tests.support.sources import open_source
from wdsremux.conversion import spool
from wdsremux.conversion.bake import bake
from wdsremux.conversion.events import Progress
from wdsremux.conversion.record import journal_names
from wdsremux.conversion.row_stream import RowStream
from wdsremux.conversion.source import Source
from wdsremux.errors import ConversionError, SourceError
from wdsremux.format import containers, keys, samples
from wdsremux.format.rejects import RejectLine


def test_a_task_is_permuted_over_its_shards(write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(i) for i in range(60)], range(60), rows_a_group=20)
    kitchen = Kitchen(source, tmp_path / "out", samples_per_shard=25)
    record = kitchen.bake()
    assert [shard.nsamples for shard in record.shards] == [20, 20, 20]
    seen = []
    for shard in record.shards:
        found = read_tar(kitchen.folder / shard.url)
        for key, content in found.items():
            fragment, row, _ = keys.place(key)
            assert content == {"jpg": tiny_jpeg(20 * fragment + row), "cls": str(20 * fragment + row).encode()}
            seen.append((fragment, row))
        assert len({keys.place(key)[0] for key in found}) == 3  # each shard draws from all fragments
    assert sorted(seen) == [(fragment, row) for fragment in range(3) for row in range(20)]
    assert seen != sorted(seen)


def test_a_large_fragment_is_permuted_block_by_block(write_source: WriteSource, tmp_path: Path) -> None:
    """It is read once from front to end; a block is written before the next is baked."""
    source = write_source([tiny_jpeg(i) for i in range(100)], range(100))
    kitchen = Kitchen(source, tmp_path / "out", samples_per_shard=20, samples_per_task=40)
    record = kitchen.bake()
    assert [shard.url for shard in record.shards] == [f"train-{i:06d}.tar" for i in range(5)]
    for numbers, rows in ((range(2), range(40)), (range(2, 4), range(40, 80)), (range(4, 5), range(80, 100))):
        found = [row for shard in numbers for row in kitchen.rows(shard)]
        assert sorted(found) == list(rows)
        assert found != sorted(found)
    table = samples.read(journal_names(kitchen.work, 0)[0])
    assert table["shard"].tolist() == [i for i in range(5) for _ in range(20)]
    assert table["row"].tolist() == [row for shard in range(5) for row in kitchen.rows(shard)]
    orders = [[row % 40 for row in kitchen.rows(2 * block) + kitchen.rows(2 * block + 1)] for block in range(2)]
    assert orders[0] != orders[1]  # each block has its own permutation


def test_rejects_are_written_down_in_order(write_source: WriteSource, tmp_path: Path) -> None:
    images: list[bytes | None] = [tiny_jpeg(i) for i in range(30)]
    images[17], images[3], images[20] = b"", None, b"text in disguise"
    kitchen = Kitchen(write_source(images, range(30)), tmp_path / "out")
    record = kitchen.bake()
    reasons = {3: "no image: null", 17: "empty: 0 bytes", 20: "not an image of any known format"}
    assert record.rejects == [
        RejectLine(0, row, None, f"{row}.jpg", "image", reason) for row, reason in reasons.items()
    ]
    assert (record.rows, record.ndropped) == (30, 0)
    assert sum(shard.nsamples for shard in record.shards) == 27
    assert sum(progress.rows for progress in kitchen.progress) == 30
    assert sum(progress.samples for progress in kitchen.progress) == 27
    assert sum(progress.nrejects for progress in kitchen.progress) == 3
    assert [progress.rejects for progress in kitchen.progress] == [tuple(record.rejects)]
    assert {progress.task for progress in kitchen.progress} == {0}
    assert sum(progress.bytes_out for progress in kitchen.progress) == sum(len(i or b"") for i in images) - 16


def test_a_block_without_a_sample_leaves_a_gap(write_source: WriteSource, tmp_path: Path) -> None:
    images = [tiny_jpeg(i) if not 20 <= i < 40 else b"" for i in range(60)]
    kitchen = Kitchen(write_source(images), tmp_path / "out", samples_per_shard=10, samples_per_task=20)
    record = kitchen.bake()
    assert [shard.url[6:12] for shard in record.shards] == ["000000", "000001", "000004", "000005"]
    assert len(record.rejects) == 20
    table = samples.read(journal_names(kitchen.work, 0)[0])
    assert sorted(set(table["shard"].tolist())) == [0, 1, 2, 3]  # places in the list, where the gap is none


def test_a_task_without_a_sample(write_source: WriteSource, tmp_path: Path) -> None:
    kitchen = Kitchen(write_source([b""] * 5), tmp_path / "out")
    record = kitchen.bake()
    assert (record.shards, len(record.rejects)) == ([], 5)
    assert len(samples.read(journal_names(kitchen.work, 0)[0])) == 0
    assert list(kitchen.folder.glob("*.tar")) == []


def test_fewer_samples_than_shards(write_source: WriteSource, tmp_path: Path) -> None:
    """No shard is empty: webdataset and DALI choke on one."""
    kitchen = Kitchen(write_source([tiny_jpeg(0), b"", b"", b"", tiny_jpeg(4)]), tmp_path / "out", samples_per_shard=1)
    assert [shard.nsamples for shard in kitchen.bake().shards] == [1, 1]


@pytest.mark.parametrize(("classes", "bad", "known"), [(["x", "y"], 2, "-1 to 1"), (["x", "y"], -2, "-1 to 1")])
def test_a_label_outside_the_classes_is_a_reject(
    write_source: WriteSource, tmp_path: Path, classes: list[str], bad: int, known: str
) -> None:
    source = write_source([tiny_jpeg(i) for i in range(3)], [0, bad, -1], classes=classes)
    kitchen = Kitchen(source, tmp_path / "out", samples_per_shard=10)
    record = kitchen.bake()
    (line,) = record.rejects
    assert (line.row, line.column, line.part) == (1, "label", None)
    assert line.reason.startswith(f"label {bad}, where labels are {known}")
    found = read_tar(kitchen.folder / "train-000000.tar")
    assert [found[f"000000-{row:06d}"].get("cls") for row in (0, 2)] == [b"0", None]  # no label, no file


def test_the_spool_on_disk_gives_the_same_bytes(
    write_source: WriteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source([tiny_jpeg(i) for i in range(40)], range(40))
    in_memory = Kitchen(source, tmp_path / "a", samples_per_shard=10)
    in_memory.bake()
    monkeypatch.setattr(spool, "SPOOL_BYTES", 1)
    on_disk = Kitchen(source, tmp_path / "b", samples_per_shard=10)
    on_disk.bake()
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert sorted(p.name for p in on_disk.work.iterdir()) == ["task-000000.json", "task-000000.npy"]


def test_the_seed_mixes_otherwise(write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(i) for i in range(40)], range(40))
    orders = []
    for seed in range(2):
        kitchen = Kitchen(source, tmp_path / str(seed), seed, samples_per_shard=40)
        kitchen.bake()
        orders.append(kitchen.rows(0))
    assert orders[0] != orders[1]


def test_nothing_has_a_final_name_before_the_task_is_done(
    write_source: WriteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source fails in the second of two blocks, when the first is written."""
    source = write_source([tiny_jpeg(i) for i in range(200)], rows_a_group=200)
    kitchen = Kitchen(source, tmp_path / "out", samples_per_shard=50, samples_per_task=100)

    def fail(progress: Progress) -> None:
        if kitchen.progress:
            raise SourceError("the line broke")
        kitchen.progress.append(progress)

    with pytest.raises(SourceError, match="the line broke"):
        bake(kitchen.plan.tasks[0], kitchen.bakery, fail, RowStream())
    assert [p.name for p in kitchen.folder.iterdir()] == [".wdsremux"]
    assert not list(kitchen.work.glob("task-*"))
    kitchen.bake()
    again = Kitchen(source, tmp_path / "again", samples_per_shard=50, samples_per_task=100)
    again.bake()
    assert digests(tmp_path / "out") == digests(tmp_path / "again")


def test_an_index_has_its_name_before_its_tar(
    write_source: WriteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kitchen = Kitchen(write_source([tiny_jpeg(i) for i in range(4)]), tmp_path / "out", samples_per_shard=2)
    renamed: list[str] = []
    replace = os.replace

    def traced(source: Any, target: Any) -> None:
        renamed.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", traced)
    kitchen.bake()
    assert renamed == [
        "train-000000.idx",
        "train-000000.tar",
        "train-000001.idx",
        "train-000001.tar",
        "task-000000.npy",
        "task-000000.json",
    ]


# Tars of which nobody knows the rows


def remote(tmp_path: Path, *counts: int, size: int | None = None) -> Source:
    """Tars as if they were far away: of their sizes alone."""
    first = 0
    for number, count in enumerate(counts):
        images = [tiny_jpeg(first + i) for i in range(count)]
        samples_ = [(f"{first + i:04d}", {"jpg": image}) for i, image in enumerate(images)]
        write_tar(tmp_path / "tars" / f"{number}.tar", samples_)
        first += count
    source = open_source(str(tmp_path / "tars"), "train")
    fragments = (replace(f, rows=None, size_bytes=size or f.size_bytes) for f in source.fragments)
    return replace(source, fragments=tuple(fragments))


def test_unknown_rows_are_all_baked(tmp_path: Path) -> None:
    """Names come of the sizes; what they do not fill is a gap."""
    kitchen = Kitchen(remote(tmp_path, 50, 7, 30), tmp_path / "out", samples_per_shard=10, samples_per_task=20)
    found: list[bytes] = []
    for task in kitchen.plan.tasks:
        record = kitchen.bake(task.number)
        count = [50, 7, 30][task.reads[0].fragment]
        numbers = [containers.shard_number(shard.url) for shard in record.shards]
        assert record.rows == sum(shard.nsamples for shard in record.shards) == count
        assert [shard.nsamples for shard in record.shards] == [10] * (count // 10) + [7] * (count == 7)
        assert numbers == list(range(task.shards.start, task.shards.start + len(numbers)))
        assert len(task.shards) > len(numbers)
        found += [sample["jpg"] for shard in record.shards for sample in read_tar(kitchen.folder / shard.url).values()]
    assert sorted(found) == sorted(tiny_jpeg(i) for i in range(87))


def test_blocks_of_unknown_rows_are_mixed_one_by_one(tmp_path: Path) -> None:
    kitchen = Kitchen(remote(tmp_path, 50), tmp_path / "out", samples_per_shard=10, samples_per_task=20)
    kitchen.bake()
    for numbers, rows in ((range(2), range(20)), (range(2, 4), range(20, 40)), (range(4, 5), range(40, 50))):
        found = [row for number in numbers for row in kitchen.rows(number)]
        assert sorted(found) == list(rows)
        assert found != sorted(found)


@pytest.mark.parametrize("limit", [1, 30, 57, 60, 87, 100])
def test_a_limit_of_unknown_rows(limit: int, tmp_path: Path) -> None:
    kitchen = Kitchen(remote(tmp_path, 50, 7, 30), tmp_path / "out", samples_per_shard=10, limit=limit)
    assert len(kitchen.plan.tasks) == 1
    record = kitchen.bake()
    assert sum(shard.nsamples for shard in record.shards) == record.rows == min(limit, 87)
    assert all(0 < shard.nsamples <= 10 for shard in record.shards)


def test_more_rows_than_a_size_can_hold(tmp_path: Path) -> None:
    """Their shards would take the numbers of others."""
    kitchen = Kitchen(remote(tmp_path, 50, size=30_000), tmp_path / "out", samples_per_shard=10, samples_per_task=20)
    with pytest.raises(ConversionError, match=r"0\.tar has more rows than its size allows"):
        kitchen.bake()
    assert list(kitchen.folder.glob("*.tar")) == []
