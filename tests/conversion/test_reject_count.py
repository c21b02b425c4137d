"""Rejects name what could not be baked; and a run that stops for too many of them leaves the list of those known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wdsremux
from tests.conftest import WriteSource, tiny_jpeg
from tests.support.kinds import KINDS, Photos, read_lines, write_tar
from wdsremux import files
from wdsremux.conversion import journal
from wdsremux.conversion.events import Event, Progress
from wdsremux.conversion.plan import Extent, make_plan
from wdsremux.conversion.reject_count import RejectCount
from wdsremux.conversion.request import Request
from wdsremux.conversion.spec import make_spec
from wdsremux.errors import RejectError
from wdsremux.format.rejects import RejectLine

SIZES: dict[str, Any] = {"samples_per_shard": 10, "samples_per_task": 20}


def convert(source: Path, out: Path, **options: Any) -> list[Event]:
    events: list[Event] = []
    given: dict[str, Any] = {"recipe": "copy", "workers": 1, **SIZES, **options}
    wdsremux.convert(source, out, tell=events.append, **given)
    return events


def listed(out: Path) -> Path:
    return out / "train" / ".wdsremux" / "rejects.jsonl"


# What is named

NAMED = {
    "parquet": r"row 2 of row group 0 of data/train-00000-of-00002\.parquet",
    "arrow-glob": r"row 2 of record batch 0 of 0\.arrow",
    "arrow-saved-paths": r"002\.jpg",
    "images": r"train/\w+/002\.jpg",
    "images-jsonl": r"train/002\.jpg",
    "images-zip": r"zip://002\.jpg::train/photos\.zip",
    "tars": r"002\.jpg",
}


@pytest.mark.parametrize("kind", NAMED)
def test_the_image_is_named_as_in_its_source(kind: str, tmp_path: Path) -> None:
    images = [tiny_jpeg(i) if i != 2 else b"no image" for i in range(12)]
    KINDS[kind].write(tmp_path / "photos", {"train": Photos(tuple(images), tuple(i % 3 for i in range(12)))})
    source, out = Path(KINDS[kind].source(tmp_path / "photos", "train")), tmp_path / "out"
    sentence = (
        rf"^1 row could not be converted, and 0 are allowed, for example {NAMED[kind]}: not an image of any known"
    )
    with pytest.raises(RejectError, match=sentence):
        convert(source, out, max_rejects=0)
    convert(source, out, max_rejects=1)
    (reject,) = read_lines(out / "train" / "rejects.jsonl")
    assert re.fullmatch(NAMED[kind], reject["where"])


def test_a_row_without_an_image_is_named_by_the_key_of_its_sample(tmp_path: Path) -> None:
    samples = [("a", {"jpg": tiny_jpeg(0), "cls": b"0"}), ("b/c", {"cls": b"1"}), ("d", {"jpg": b"", "cls": b"1"})]
    write_tar(tmp_path / "photos" / "train-0.tar", samples)
    convert(tmp_path / "photos", tmp_path / "out", max_rejects=2)
    found = read_lines(tmp_path / "out" / "train" / "rejects.jsonl")
    assert [(line["row"], line["where"], line["reason"]) for line in found] == [
        (1, "b/c", "no image: null"),
        (2, "d.jpg", "empty: 0 bytes"),
    ]


def test_a_label_that_is_unknown_is_named(write_source: WriteSource, tmp_path: Path) -> None:
    def bake(batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "label": [label if label != 4 else 9 for label in batch["label"]]}

    classes = [f"c{i}" for i in range(5)]
    source = write_source([tiny_jpeg(i) for i in range(5)], range(5), classes=classes)
    with pytest.raises(RejectError, match=r"for example 4\.jpg: label 9, where labels are -1 to 4"):
        convert(source, tmp_path, recipe=bake, max_rejects=0)


# What is listed where a run stops


@pytest.fixture
def source(write_source: WriteSource) -> Path:
    """60 tiny pictures in three tasks, of which the fragments 1, 3 and 5 hold two broken ones each."""
    images = [b"" if i // 10 % 2 and i % 10 in (4, 7) else tiny_jpeg(i) for i in range(60)]
    return write_source(images, range(60), rows_a_group=10)


def test_a_run_that_stops_lists_what_it_knows(source: Path, tmp_path: Path) -> None:
    """The rejects of tasks of an earlier run, too; and a later run that succeeds leaves nothing of it."""
    out = tmp_path / "out"
    for allowed in (1, 3, 5):
        with pytest.raises(RejectError) as caught:
            convert(source, out, max_rejects=allowed)
        assert f"They are listed in {listed(out)}. Check the source" in str(caught.value)
        found = read_lines(listed(out))
        assert len(found) > allowed
        assert str(caught.value).startswith(
            f"{len(found)} rows could not be converted, and {allowed} {'is' if allowed == 1 else 'are'} allowed, for "
        )
        assert f"for example {found[0]['where']}: empty: 0 bytes. They" in str(caught.value)
        assert sorted(path.name for path in (out / "train").glob("*.jsonl")) == []
    convert(source, out, max_rejects=6)
    assert not listed(out).exists()
    assert len(read_lines(out / "train" / "rejects.jsonl")) == 6
    assert wdsremux.verify(out) == []


def test_rejects_of_an_earlier_run_alone_are_listed(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path, max_rejects=6)
    whole = (tmp_path / "train" / "rejects.jsonl").read_bytes()
    (tmp_path / "train" / "index.json").unlink()
    with pytest.raises(RejectError, match=rf"6 rows .*They are listed in {re.escape(str(listed(tmp_path)))}"):
        convert(source, tmp_path, max_rejects=2)
    assert listed(tmp_path).read_bytes() == whole


def test_a_run_that_goes_on_removes_the_list_of_the_last(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RejectError):
        convert(source, tmp_path, max_rejects=1)
    assert listed(tmp_path).exists()
    convert(source, tmp_path, max_rejects=6, overwrite=True)
    assert not listed(tmp_path).exists()


# The count by itself


@pytest.fixture
def count(tmp_path: Path) -> Callable[[str], RejectCount]:
    """Makes a count of a run with two tasks that has not begun, of given rejects that are allowed."""

    def count(allowed: str) -> RejectCount:
        plan = make_plan([Extent(20, 20), Extent(20, 20)], 0, 10, 20)
        (tmp_path / "train" / journal.FOLDER).mkdir(parents=True)
        begun = journal.begin(tmp_path / "train" / journal.FOLDER, Request({}, {}, {}, 0), plan, {})
        return RejectCount.of(make_spec("source", tmp_path, max_rejects=allowed), begun, plan.tasks)

    return count


def told(task: int, *rows: int, count: int | None = None) -> Progress:
    lines = tuple(RejectLine(task, row, None, f"{task}/{row}.jpg", "image", "empty: 0 bytes") for row in rows)
    return Progress(task, 10, 10, len(rows) if count is None else count, 10, 10, lines)


def test_what_a_lost_worker_told_is_not_listed(count: Callable[[str], RejectCount], tmp_path: Path) -> None:
    tally = count("3")
    tally.add(told(0, 3, 5))
    tally.add(told(1, 4))
    tally.add(Progress(0, -10, -10, -2, -10, -10, told(0, 3, 5).rejects))
    tally.add(told(0, 3))
    with pytest.raises(RejectError, match=r"^4 rows .* for example 0/3\.jpg: empty: 0 bytes\. They are listed"):
        tally.add(told(0, 5, 6))
    assert [json.loads(line)["where"] for line in listed(tmp_path).read_text().splitlines()] == [
        "0/3.jpg",
        "0/5.jpg",
        "0/6.jpg",
        "1/4.jpg",
    ]


def test_more_than_is_told_is_not_said_to_be_listed(count: Callable[[str], RejectCount], tmp_path: Path) -> None:
    with pytest.raises(RejectError, match=r"^9 rows .* The first ones are listed in"):
        count("3").add(told(0, 1, 2, count=9))
    assert len(read_lines(listed(tmp_path))) == 2


def test_what_is_held_of_a_task_is_bounded(count: Callable[[str], RejectCount], tmp_path: Path) -> None:
    tally = count("4000")
    for _ in range(4):
        tally.add(told(0, *range(1_000)))
    with pytest.raises(RejectError, match=r"^4,001 rows"):
        tally.add(told(1, 1))
    assert len(read_lines(listed(tmp_path))) == 1_001


def test_a_full_disk_takes_the_list_and_not_the_error(
    count: Callable[[str], RejectCount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = count("0")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "atomic", full)
    with pytest.raises(RejectError, match=r"^1 row .*: empty: 0 bytes\. Check the source"):
        tally.add(told(0, 1))
    assert not listed(tmp_path).exists()


def test_workers_tell_a_bounded_number_of_rejects(write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([b""] * 100)
    options: dict[str, Any] = {"recipe": lambda batch: batch, "batch_size": 100}
    events = convert(source, tmp_path, max_rejects="100%", **options)
    assert [(each.nrejects, len(each.rejects)) for each in events if isinstance(each, Progress)] == [(100, 64)]
