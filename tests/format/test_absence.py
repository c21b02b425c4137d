"""Where there is no finished split, what is there instead, and how far an unfinished one is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import wdsremux
from tests.conftest import ConvertTiny, WriteSource, tiny_jpeg
from wdsremux.errors import FormatError
from wdsremux.format import manifest, underway
from wdsremux.format.underway import Underway
from wdsremux.inspection.verify import verify
from wdsremux.loading.loader import DataLoader


def unfinish(out: Path, tasks: int) -> Path:
    """Take a finished split back to where so many of its tasks were done."""
    folder = out / "train"
    (folder / "index.json").unlink()
    (folder / "samples.npy").unlink()
    for record in sorted((folder / ".wdsremux").glob("task-*.json"))[tasks:]:
        record.unlink()
    return folder


def convert(write_source: WriteSource, out: Path) -> None:
    """100 rows in 4 tasks of 25."""
    source = write_source([tiny_jpeg(i) for i in range(100)], range(100), rows_a_group=25)
    wdsremux.convert(source, out, recipe="copy", workers=1, samples_per_task=25, samples_per_shard=5)


def test_how_far_an_unfinished_split_is(write_source: WriteSource, tmp_path: Path) -> None:
    convert(write_source, tmp_path)
    assert underway.read(tmp_path / "train") is None  # finished
    folder = unfinish(tmp_path, 3)
    begun = underway.read(folder)
    assert begun == Underway("train", 100, 75, 4, 3)
    assert str(begun) == "75 of 100 rows done in 3 of 4 tasks"
    assert underway.read_all(tmp_path) == [begun]
    next(folder.glob("*.tar")).unlink()  # its task will be done again
    assert underway.read(folder) == Underway("train", 100, 50, 4, 2)
    said = "train is not finished: 50 of 100 rows done in 2 of 4 tasks. Run the same conversion again to resume$"
    for ask in (lambda: wdsremux.manifest(tmp_path), lambda: DataLoader(tmp_path), lambda: verify(tmp_path, "train")):
        with pytest.raises(FormatError, match=said):
            ask()
    with pytest.raises(FormatError, match=r"contains no finished split: train is not finished \(50 of 100 rows done"):
        manifest.read_all(tmp_path)
    convert(write_source, tmp_path)
    assert underway.read_all(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"tasks": 5}', b'{"tasks": [{"reads": [{"rows": "x"}]}]}'])
def test_a_plan_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    """Whoever resumes says what is wrong with it."""
    (tmp_path / "train" / ".wdsremux").mkdir(parents=True)
    (tmp_path / "train" / ".wdsremux" / "plan.json").write_bytes(content)
    assert underway.read_all(tmp_path) == []


def test_rows_that_nobody_knows(tmp_path: Path) -> None:
    work = tmp_path / "train" / ".wdsremux"
    work.mkdir(parents=True)
    (work / "plan.json").write_text(json.dumps({"tasks": [{"reads": [{"rows": None}]}]}))
    assert str(underway.read(tmp_path / "train")) == "0 rows done in 0 of 1 task"


def test_a_split_in_place_of_its_set(convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(3)
    shutil.copytree(out / "train", out / "test")
    said = (
        f"{out}/train is itself a split of a converted set. Give the folder of the set, {out}. Its splits: test, train$"
    )
    for ask in (
        lambda: wdsremux.manifest(out / "train"),
        lambda: DataLoader(out / "train"),
        lambda: verify(out / "train"),
        lambda: verify(out / "train", "train"),
        lambda: manifest.read_all(out / "train"),
    ):
        with pytest.raises(FormatError, match=said):
            ask()


@pytest.mark.parametrize("here", [".", "../train", "below/.."])
def test_a_split_by_where_one_is(convert_tiny: ConvertTiny, monkeypatch: pytest.MonkeyPatch, here: str) -> None:
    out = convert_tiny(3)
    monkeypatch.chdir(out / "train")
    (out / "train" / "below").mkdir()
    with pytest.raises(FormatError, match=r"Give the folder of the set, (\.\.|/.*)\. Its splits: train$") as caught:
        DataLoader(here)
    named = str(caught.value).partition("the folder of the set, ")[2].rpartition(". Its splits")[0]
    assert Path(named).resolve() == out.resolve()


def test_a_split_that_is_not_there(convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(3)
    for ask in (
        lambda: wdsremux.manifest(out, "val"),
        lambda: DataLoader(out, split="val"),
        lambda: verify(out, "val"),
    ):
        with pytest.raises(FormatError, match=f"^{out} contains no finished split 'val', only train$"):
            ask()


@pytest.mark.parametrize(
    "name", ["1.jpg", "train/cat/1.PNG", "data/train-00000-of-00001.parquet", "train/a/b/x.tar.gz", "a.arrow"]
)
def test_a_source_in_place_of_a_set(tmp_path: Path, name: str) -> None:
    photos = tmp_path / "photos"
    (photos / name).parent.mkdir(parents=True)
    (photos / name).touch()
    said = f"^{photos} looks like a source, not a converted set. Convert it first: wdsremux convert {photos} OUT$"
    for ask in (lambda: manifest.read_all(photos), lambda: DataLoader(photos), lambda: wdsremux.manifest(photos)):
        with pytest.raises(FormatError, match=said):
            ask()


def test_what_a_conversion_left_is_no_source(convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(3)
    (out / "train" / "index.json").unlink()
    (out / "train" / ".wdsremux" / "plan.json").unlink()
    with pytest.raises(FormatError, match=r"contains no finished split\. Run `wdsremux convert SOURCE"):
        manifest.read_all(out)


def test_a_large_folder_is_not_looked_through(tmp_path: Path) -> None:
    for number in range(2_100):
        (tmp_path / f"{number:04}.txt").touch()
    (tmp_path / "z.jpg").touch()
    with pytest.raises(FormatError, match="contains no finished split"):
        manifest.read_all(tmp_path)


def test_no_folder_at_all(tmp_path: Path) -> None:
    said = f"^{tmp_path}/none does not exist. Run `wdsremux convert SOURCE {tmp_path}/none` to create it$"
    for ask in (lambda: manifest.read_all(tmp_path / "none"), lambda: wdsremux.manifest(tmp_path / "none")):
        with pytest.raises(FormatError, match=said):
            ask()
