"""A conversion as a whole: the same bytes however it was run, taken up where it stopped, refused where it must be."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wdsremux
from tests.conftest import ConvertTiny, WriteSource, change_torch, jpeg, tiny_jpeg
from tests.support.reading import check_split, digests, read_split, read_tar
from wdsremux import files
from wdsremux.conversion import environment
from wdsremux.conversion.events import Event, Finished, Planned, Warned
from wdsremux.conversion.spec import make_spec
from wdsremux.errors import (
    FormatError,
    OptionError,
    OutputError,
    RejectError,
    SourceError,
    SpaceError,
    VersionError,
)
from wdsremux.format import manifest
from wdsremux.inspection import info

SIZES: dict[str, Any] = {"samples_per_shard": 10, "samples_per_task": 30}


@pytest.fixture
def source(write_source: WriteSource) -> Path:
    """60 tiny pictures in row groups of 10, one of them broken: two tasks, six shards."""
    images = [tiny_jpeg(i) if i != 33 else b"" for i in range(60)]
    return write_source(images, range(60), rows_a_group=10)


def convert(source: Path, out: Path, **options: Any) -> list[Event]:
    events: list[Event] = []
    given: dict[str, Any] = {"recipe": "copy", "workers": 1, "max_rejects": "1", **SIZES, **options}
    wdsremux.convert(source, out, tell=events.append, **given)
    return events


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# The same bytes


@pytest.fixture(scope="module")
def in_parts(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The sample converted with 1, 2 and 4 workers."""
    outs = {}
    for workers in (1, 2, 4):
        outs[workers] = tmp_path_factory.mktemp(f"workers{workers}")
        for split in ("train", "test"):
            sizes: dict[str, Any] = {"samples_per_shard": 50, "samples_per_task": 100}
            wdsremux.convert(sample, outs[workers], split=split, recipe="square:64", workers=workers, **sizes)
    return outs


def test_worker_count_has_no_influence(in_parts: dict[int, Path]) -> None:
    found = digests(in_parts[1])
    assert len(found) == 2 * (300 // 50 + 2) + 2 * 3  # tars and indexes of both splits, and three files each
    assert digests(in_parts[2]) == digests(in_parts[4]) == found
    check_split(in_parts[1] / "train", 300)


def test_the_folder_of_the_source_has_no_influence(write_source: WriteSource, tmp_path: Path) -> None:
    """index.json holds no path, no date, no host."""
    for place in ("a", "b"):
        written = write_source([tiny_jpeg(i) for i in range(20)], range(20), name=f"{place}/pictures")
        convert(written, tmp_path / f"out-{place}")
    assert digests(tmp_path / "out-a") == digests(tmp_path / "out-b")


def test_no_class_holds_more_than_twice_its_share(sample: Path, tmp_path: Path) -> None:
    """The sample is sorted by class. 10 classes, shards of 100: 20 of one class are 3.3 standard deviations away."""
    wdsremux.convert(sample, tmp_path, recipe="square:16", workers=2, samples_per_shard=100)
    (split,) = (info.describe(tmp_path, split) for split in manifest.read_all(tmp_path))
    assert split.nshards == 3
    assert split.worst_mixing is not None
    assert 1 < split.worst_mixing <= 2


def test_three_bad_images_among_a_thousand(write_source: WriteSource, tmp_path: Path) -> None:
    images = [tiny_jpeg(i) for i in range(1_000)]
    photo = jpeg(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    images[123] = photo[:-300] + photo[-2:]
    images[456] = b""
    images[789] = b"This is no picture but a text."
    source = write_source(images, range(1_000), rows_a_group=100)
    wdsremux.convert(source, tmp_path / "out", recipe="resize:16", workers=2, samples_per_shard=100)
    folder = tmp_path / "out" / "train"
    check_split(folder, 1_000)
    labels = sorted(int(content["cls"]) for content in read_split(folder).values())
    assert labels == [i for i in range(1_000) if i not in (123, 456, 789)]
    lines = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    found = {(line["fragment"], line["row"]): line["reason"] for line in lines}
    assert found.keys() == {(1, 23), (4, 56), (7, 89)}
    assert "JPEG" in found[1, 23]
    assert found[4, 56] == "empty: 0 bytes"
    assert found[7, 89] == "not an image of any known format"


# Taken up again


def remove(*patterns: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for pattern in patterns:
            paths = sorted(folder.glob(pattern))
            assert paths
            paths[0].unlink()

    return damage


def cut(pattern: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = sorted(folder.glob(pattern))[-1]
        path.write_bytes(path.read_bytes()[:-100])

    return damage


def half_written(folder: Path) -> None:
    (folder / "index.json").unlink()
    (folder / "samples.npy").unlink()
    (folder / ".wdsremux" / "task-000001.json").unlink()
    (folder / ".wdsremux" / "train-000004.tar").write_bytes(b"half")
    (folder / ".wdsremux" / "tmpspool").write_bytes(b"spool")
    (folder / ".index.json.partial").write_bytes(b"{")


def no_journal_no_shard(folder: Path) -> None:
    shutil.rmtree(folder / ".wdsremux")
    remove("*.tar")(folder)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "manifest": remove("index.json"),
    "table": remove("samples.npy"),
    "rejects": remove("rejects.jsonl"),
    "shard": remove("*.tar"),
    "index": remove("*.idx"),
    "record": remove("index.json", ".wdsremux/task-*.json"),
    "rows of a task": remove("index.json", ".wdsremux/task-*.npy"),
    "shard cut short": cut("*.tar"),
    "table cut short": cut("samples.npy"),
    "journal": lambda folder: shutil.rmtree(folder / ".wdsremux"),
    "journal and shard": no_journal_no_shard,
    "killed": half_written,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_missing_is_made_again(source: Path, tmp_path: Path, damage: str) -> None:
    convert(source, tmp_path / "out")
    whole = digests(tmp_path / "out")
    DAMAGES[damage](tmp_path / "out" / "train")
    events = convert(source, tmp_path / "out", workers=2)
    assert digests(tmp_path / "out") == whole
    assert isinstance(events[-1], Finished)
    check_split(tmp_path / "out" / "train", 60)


def test_only_what_is_missing_is_baked_again(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path)
    remove("index.json", "*.tar")(tmp_path / "train")
    events = convert(source, tmp_path)
    assert [event.rows_done for event in events if isinstance(event, Planned)] == [30]


def test_a_finished_split_says_so(source: Path, tmp_path: Path) -> None:
    first = convert(source, tmp_path)
    before = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "train").iterdir() if path.is_file()}
    again = convert(source, tmp_path)
    assert len(again) == 1
    assert isinstance(first[-1], Finished)
    assert isinstance(again[0], Finished)
    assert (first[-1].already, again[0].already) == (False, True)
    assert again[0].manifest == first[-1].manifest
    assert all(os.stat(path).st_mtime_ns == mtime for path, mtime in before.items())


def test_the_card_is_remade_on_a_finished_split(source: Path, tmp_path: Path) -> None:
    """The kill may have come between manifest and card."""
    convert(source, tmp_path)
    card = (tmp_path / "README.md").read_bytes()
    (tmp_path / "README.md").unlink()
    convert(source, tmp_path)
    assert (tmp_path / "README.md").read_bytes() == card


# Refused

OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 1}, r"seed 0, but this run asks for 1\. Use seed=0"),
    "recipe": ({"recipe": "resize:16"}, r"recipe 'copy', but this run asks for 'resize:16'\. Use the same value"),
    "quality": ({"quality": 80}, r"quality 90, but this run asks for 80\. Use quality=90"),
    "subsampling": (
        {"subsampling": "444"},
        r"subsampling '420', but this run asks for '444'\. Use subsampling=\"420\"",
    ),
    "shards": (
        {"samples_per_shard": 20},
        r"samples_per_shard 10, but this run asks for 20\. Use samples_per_shard=10",
    ),
    "tasks": ({"samples_per_task": 60}, r"samples_per_task 30, but this run asks for 60\. Use samples_per_task=30"),
    "keep": ({"keep": ["label"]}, r"keep \[\], but this run asks for \['label'\]\. Omit keep="),
    "labels": (
        {"label_column": "none"},
        r"label_column 'label', but this run asks for none\. Use label_column='label'",
    ),
    "order": ({"shuffle": False}, r"shuffle True, but this run asks for False\. Omit shuffle=False"),
}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("option", OTHER)
def test_other_options_are_refused(source: Path, tmp_path: Path, option: str, finished: bool) -> None:
    options, sentence = OTHER[option]
    convert(source, tmp_path / "out")
    if not finished:
        (tmp_path / "out" / "train" / "index.json").unlink()
    before = everything(tmp_path / "out")
    with pytest.raises(OutputError, match=f"was started with {sentence}, choose another output folder"):
        convert(source, tmp_path / "out", **options)
    assert everything(tmp_path / "out") == before


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(("first", "second"), [(50, None), (None, 50), (50, 20)])
def test_what_the_user_changed_is_named(
    source: Path, tmp_path: Path, first: int | None, second: int | None, finished: bool
) -> None:
    """And not what follows from it: without sizes of shards that are asked for, a limit decides them."""
    sizes: dict[str, Any] = {"samples_per_shard": None, "samples_per_task": None}
    convert(source, tmp_path, limit=first, **sizes)
    if not finished:
        (tmp_path / "train" / "index.json").unlink()
    advice = "Omit limit=" if first is None else f"Use limit={first}"
    sentence = (
        f"started with limit {first or 'none'}, but this run asks for {second or 'none'}. {advice}, choose another"
    )
    with pytest.raises(OutputError, match=re.escape(sentence)):
        convert(source, tmp_path, limit=second, **sizes)


def test_what_the_user_changed_comes_before_a_changed_source(
    source: Path, write_source: WriteSource, tmp_path: Path
) -> None:
    convert(source, tmp_path / "out")
    write_source([tiny_jpeg(i) for i in range(61)], range(61))
    with pytest.raises(OutputError, match="was started with seed 0, but this run asks for 1"):
        convert(source, tmp_path / "out", seed=1)


def test_another_source_is_refused(source: Path, write_source: WriteSource, tmp_path: Path) -> None:
    convert(source, tmp_path / "out")
    write_source([tiny_jpeg(i) for i in range(61)], range(61))
    with pytest.raises(
        OutputError, match=r"^source files were .* changed since the conversion in .* was started\. Restore"
    ):
        convert(source, tmp_path / "out")


def test_options_that_shape_no_bytes_are_free(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path)
    remove("index.json")(tmp_path / "train")
    assert isinstance(convert(source, tmp_path, workers=2, max_rejects="50%")[-1], Finished)


@pytest.mark.parametrize("name", ["notes.txt", "train-000000.tar.bak", "a.jpg", "data"])
def test_files_of_others_are_left_alone(source: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out" / "train"
    folder.mkdir(parents=True)
    (folder / name).write_text("mine")
    with pytest.raises(OutputError, match=f"contains files that wdsremux did not write, such as {name}"):
        convert(source, tmp_path / "out")
    assert everything(tmp_path / "out") == {f"train/{name}": b"mine"}


def test_out_that_is_a_file(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written to"):
        convert(source, tmp_path / "out")


def test_a_conversion_at_work_is_not_disturbed(source: Path, tmp_path: Path) -> None:
    def second(event: Event) -> None:
        if isinstance(event, Planned):
            with pytest.raises(OutputError, match="another process is converting into"):
                convert(source, tmp_path)

    wdsremux.convert(source, tmp_path, tell=second, recipe="copy", workers=1, max_rejects="1", **SIZES)
    check_split(tmp_path / "train", 60)


@pytest.mark.parametrize("name", ["fast", "restart_rows"])
def test_an_option_that_was_not_begun_with(source: Path, tmp_path: Path, name: str) -> None:
    """A set without it says nothing of it: those that were made before it was known go on."""
    convert(source, tmp_path, recipe="resize:8")
    assert name not in wdsremux.manifest(tmp_path).options
    with pytest.raises(
        OutputError, match=f"was started with {name} False, but this run asks for True. Omit {name}=True"
    ):
        convert(source, tmp_path, recipe="resize:8", **{name: True})
    convert(source, tmp_path, recipe="resize:8", overwrite=True, **{name: True})
    with pytest.raises(
        OutputError, match=f"was started with {name} True, but this run asks for False. Use {name}=True"
    ):
        convert(source, tmp_path, recipe="resize:8")


def test_a_bad_source_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        convert(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quality": 0}, "Invalid quality"),
        ({"subsampling": "422"}, "Invalid subsampling"),
        ({"split": "../train"}, "Invalid split"),
        ({"workers": 0}, "Invalid workers"),
        ({"samples_per_shard": 0}, "Invalid samples_per_shard"),
        ({"recipe": "crop:3"}, "Invalid recipe"),
        (
            {"recipe": "copy", "fast": True},
            r"Invalid fast \(got True\)\. Supported: only with the recipes resize:N and square:N",
        ),
        ({"recipe": len, "fast": True}, "Invalid fast"),
        (
            {"recipe": "copy", "restart_rows": True},
            r"Invalid restart_rows \(got True\)\. Supported: with any recipe except copy",
        ),
        ({"engine": "spark"}, "Invalid engine"),
        ({"max_rejects": "-1"}, "Invalid max_rejects"),
        ({"max_rejects": "101%"}, "Invalid max_rejects"),
    ],
)
def test_wrong_by_the_options_alone(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        wdsremux.convert(tmp_path / "nowhere", tmp_path / "out", **options)


# Rejects


def test_max_rejects(write_source: WriteSource, tmp_path: Path) -> None:
    images = [tiny_jpeg(i) if i % 20 else b"" for i in range(60)]
    source = write_source(images, range(60), rows_a_group=10)
    for allowed in ("2", 2):
        with pytest.raises(
            RejectError, match=r"3 rows could not be converted, and 2 are allowed, for example \d+\.jpg:"
        ):
            convert(source, tmp_path / "out", max_rejects=allowed)
        assert not (tmp_path / "out" / "train" / "index.json").exists()
    assert isinstance(convert(source, tmp_path / "out", max_rejects=3)[-1], Finished)
    convert(source, tmp_path / "other", max_rejects="1%")  # which allows 10 of any source
    assert digests(tmp_path / "out") == digests(tmp_path / "other")
    check_split(tmp_path / "out" / "train", 60)


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ("1%", (10, 20, 1_000)),
        ("0.01", (10, 20, 1_000)),
        (0.01, (10, 20, 1_000)),
        ("29%", (29, 580, 29_000)),
        (0.29, (29, 580, 29_000)),
        (".5", (50, 1_000, 50_000)),
        (0.00001, (10, 10, 10)),
        ("100%", (100, 2_000, 100_000)),
        (0, (0, 0, 0)),
        (0.0, (0, 0, 0)),
        ("0%", (0, 0, 0)),
        (3, (3, 3, 3)),
        ("3", (3, 3, 3)),
    ],
)
def test_how_many_rejects_are_allowed(given: str | int | float, allowed: tuple[int, ...]) -> None:
    """A share of the rows, at least ten where it is any; or a number."""
    spec = make_spec("source", "out", max_rejects=given)
    assert tuple(spec.rejects_allowed(rows) for rows in (100, 2_000, 100_000)) == allowed


@pytest.mark.parametrize("allowed", [0, "0%", 0.0])
def test_no_reject_is_allowed(source: Path, tmp_path: Path, allowed: str | int | float) -> None:
    with pytest.raises(RejectError, match="1 row could not be converted, and 0 are allowed"):
        convert(source, tmp_path, max_rejects=allowed)


def test_rejects_of_an_earlier_run_count(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path, max_rejects="1")
    remove("index.json")(tmp_path / "train")
    with pytest.raises(RejectError, match="1 row could not be converted, and 0 are allowed"):
        convert(source, tmp_path, max_rejects="0")


def test_all_rows_rejected(write_source: WriteSource, tmp_path: Path) -> None:
    convert(write_source([b""] * 3, range(3)), tmp_path / "out", max_rejects="100%")
    check_split(tmp_path / "out" / "train", 3)
    assert wdsremux.manifest(tmp_path / "out").shards == []


# The environment


def test_another_environment_warns(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(source, tmp_path)
    assert environment.MIXED not in wdsremux.manifest(tmp_path).environment
    remove("index.json", ".wdsremux/task-*.json")(tmp_path / "train")
    change_torch(monkeypatch)
    warned = [event.text for event in convert(source, tmp_path) if isinstance(event, Warned)]
    assert len(warned) == 1
    assert "-> 99.0" in warned[0]
    assert wdsremux.manifest(tmp_path).environment[environment.MIXED] is True
    check_split(tmp_path / "train", 60)


def test_strict_refuses_another_environment(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(source, tmp_path, strict=True)
    remove("index.json", ".wdsremux/task-*.json")(tmp_path / "train")
    before = digests(tmp_path)
    change_torch(monkeypatch)
    with pytest.raises(OutputError, match=r"another environment: torch .* -> 99\.0\. Install .*without strict=True"):
        convert(source, tmp_path, strict=True)
    assert digests(tmp_path) == before


def test_a_run_that_baked_nothing_leaves_no_environment(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(source, tmp_path)
    for path in [tmp_path / "train" / "index.json", *(tmp_path / "train" / ".wdsremux").glob("task-*")]:
        path.unlink()
    change_torch(monkeypatch)
    assert not [event for event in convert(source, tmp_path, strict=True) if isinstance(event, Warned)]
    made = wdsremux.manifest(tmp_path).environment
    assert made["torch"] == "99.0"
    assert environment.MIXED not in made


def test_a_run_that_only_puts_together_stays_of_its_environment(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(source, tmp_path)
    whole = digests(tmp_path)
    remove("index.json")(tmp_path / "train")
    change_torch(monkeypatch)
    assert not [event for event in convert(source, tmp_path, strict=True) if isinstance(event, Warned)]
    assert digests(tmp_path) == whole


# Begun anew


@pytest.mark.parametrize("finished", [True, False])
def test_overwrite(source: Path, tmp_path: Path, finished: bool) -> None:
    convert(source, tmp_path / "out", seed=1)
    if not finished:
        remove("index.json", ".wdsremux/task-*.json")(tmp_path / "out" / "train")
    with pytest.raises(OutputError, match=r"was started with seed 1.*overwrite=True"):
        convert(source, tmp_path / "out")
    convert(source, tmp_path / "out", overwrite=True)
    convert(source, tmp_path / "new")
    assert digests(tmp_path / "out") == digests(tmp_path / "new")


def test_overwrite_spares_files_of_others(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "train").mkdir(parents=True)
    (out / "train" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"such as thesis\.tex"):
        convert(source, out, overwrite=True)
    assert everything(out) == {"train/thesis.tex": b"mine"}


# Which rows, in which order


def test_without_shuffling_it_keeps_the_order_of_the_source(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path, shuffle=False, workers=2)
    table = np.load(tmp_path / "train" / "samples.npy")
    places = [(int(fragment), int(row)) for fragment, row in zip(table["fragment"], table["row"], strict=True)]
    assert places == sorted(places)
    assert len(places) == 59
    check_split(tmp_path / "train", 60)


@pytest.mark.parametrize("limit", [1, 10, 25, 59, 60, 1_000])
def test_limit(source: Path, tmp_path: Path, limit: int) -> None:
    """Exactly so many rows, of whole fragments from all over, the last one cut."""
    convert(source, tmp_path, limit=limit)
    made, table = wdsremux.manifest(tmp_path), np.load(tmp_path / "train" / "samples.npy")
    assert made.nsamples + made.nrejects == min(limit, 60)
    counts = np.unique(table["fragment"], return_counts=True)[1]
    assert sum(count not in (10, 9) for count in counts) <= 1
    if limit == 25:
        assert set(table["fragment"].tolist()) == {0, 4, 2}


def test_the_bytes_of_a_limited_run_are_those_of_what_was_read(source: Path, tmp_path: Path) -> None:
    whole = convert(source, tmp_path / "whole")[-1]
    part = convert(source, tmp_path / "part", limit=15)
    assert isinstance(whole, Finished)
    assert whole.bytes_source is not None
    for last in (part[-1], convert(source, tmp_path / "part", limit=15)[-1]):  # converted, and already converted
        assert isinstance(last, Finished)
        assert last.bytes_source is not None
        assert 0.2 < last.bytes_source / whole.bytes_source < 0.3  # 15 of 60 rows


# The disk


def test_a_run_that_cannot_fit_stops_early(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda folder: 50_000)
    sentence = (
        r"needs about 0\.00 GB more, estimated from the \d+ images converted so far, and 0\.00 GB are free\. Free some"
    )
    with pytest.raises(SpaceError, match=sentence):
        convert(source, tmp_path)
    assert not (tmp_path / "train" / "index.json").exists()
    monkeypatch.undo()
    convert(source, tmp_path)
    check_split(tmp_path / "train", 60)


# The manifest


def test_splits_are_independent(source: Path, write_source: WriteSource, tmp_path: Path) -> None:
    write_source([tiny_jpeg(i) for i in range(10)], range(10), split="test")
    convert(source, tmp_path / "both")
    train = digests(tmp_path / "both")
    convert(source, tmp_path / "both", split="test")
    convert(source, tmp_path / "alone", split="test")
    assert digests(tmp_path / "both") == train | digests(tmp_path / "alone")
    assert wdsremux.manifest(tmp_path / "both", "test").nsamples == 10


def test_no_finished_split(convert_tiny: ConvertTiny, tmp_path: Path) -> None:
    out = convert_tiny(3)
    assert wdsremux.manifest(out).nsamples == 3
    with pytest.raises(FormatError, match=r"contains no finished split 'valid', only train"):
        wdsremux.manifest(out, "valid")


def test_defaults_make_sixteen_shards(convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(64, samples_per_shard=None)
    assert [shard.nsamples for shard in wdsremux.manifest(out).shards] == [4] * 16
    table = np.load(out / "train" / "samples.npy")
    assert sorted(table["label"].tolist()) == list(range(64))


def test_a_damaged_manifest_is_made_anew(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path)
    before = digests(tmp_path)
    manifest = tmp_path / "train" / "index.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    convert(source, tmp_path)
    assert digests(tmp_path) == before
    assert before["train/index.json"] == hashlib.sha256(manifest.read_bytes()).hexdigest()


def test_a_manifest_of_another_version_is_left_alone(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path)
    manifest = tmp_path / "train" / "index.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"version": 1,', b'"version": 2,', 1))
    before = everything(tmp_path)
    with pytest.raises(VersionError, match="has version 2"):
        convert(source, tmp_path)
    assert everything(tmp_path) == before


def test_a_resume_follows_the_plan_that_was_saved(source: Path, tmp_path: Path) -> None:
    """A later version may plan otherwise; the records of finished tasks mean the tasks of the saved plan."""
    convert(source, tmp_path)
    work = tmp_path / "train" / ".wdsremux"
    plan = json.loads((work / "plan.json").read_text())
    first, second = plan["tasks"]
    first["reads"], second["reads"] = second["reads"], first["reads"]
    (work / "plan.json").write_text(json.dumps(plan))
    for path in (tmp_path / "train" / "index.json", *work.glob("task-*")):
        path.unlink()
    convert(source, tmp_path)
    check_split(tmp_path / "train", 60)
    mixed = {sample[:6] for sample in read_tar(tmp_path / "train" / "train-000000.tar")}
    assert mixed <= {f"{read['fragment']:06d}" for read in first["reads"]}
