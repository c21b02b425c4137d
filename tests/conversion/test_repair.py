"""A finished split that lost files gets them back to the byte, or says why it cannot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

import wdsremux
from tests.conftest import WriteSource, change_torch, tiny_jpeg
from tests.support.reading import digests
from wdsremux.conversion.events import Event, Finished, Planned, Warned
from wdsremux.errors import FormatError, OutputError, counted

Batch = dict[str, list[Any]]


@pytest.fixture
def source(write_source: WriteSource) -> Path:
    """60 tiny pictures in row groups of 10, two of them broken: two tasks, six shards."""
    images = [tiny_jpeg(i) if i not in (3, 33) else b"" for i in range(60)]
    columns = {"number": (datasets.Value("int64"), list(range(60)))}
    return write_source(images, range(60), rows_a_group=10, columns=columns)


def convert(source: Path, out: Path, **options: Any) -> list[Event]:
    events: list[Event] = []
    sizes: dict[str, Any] = {"samples_per_shard": 10, "samples_per_task": 30}
    given: dict[str, Any] = {"recipe": "copy", "workers": 1, "max_rejects": 2, "keep": "number"}
    wdsremux.convert(source, out, tell=events.append, **(given | sizes | options))
    return events


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize(
    "lost",
    [
        ["train-000002.tar"],
        ["train-000002.idx"],
        ["train-000002.tar", "train-000002.idx", "train-000004.idx"],
        ["samples.npy"],
        ["rejects.jsonl"],
        ["samples.npy", "rejects.jsonl", "train-000000.tar", "train-000005.tar"],
        ["train-000002.parquet"],
        ["samples.npy", "train-000001.parquet"],
        ["rejects.jsonl", "train-000000.parquet", "train-000005.parquet"],
    ],
)
def test_lost_files_come_back(source: Path, tmp_path: Path, lost: list[str], journal: bool) -> None:
    container = "parquet" if lost[-1].endswith(".parquet") else "tar"
    convert(source, tmp_path / "out", container=container)
    whole, folder = digests(tmp_path / "out"), tmp_path / "out" / "train"
    for name in lost:
        (folder / name).unlink()
    if not journal:
        shutil.rmtree(folder / ".wdsremux")
    events = convert(source, tmp_path / "out", workers=2, container=container)
    assert digests(tmp_path / "out") == whole
    (finished,) = [event for event in events if isinstance(event, Finished)]
    assert not finished.already
    (warned,) = [event.text for event in events if isinstance(event, Warned)]
    assert counted(len(lost), "file") in warned
    assert not list((folder / ".wdsremux").glob("task-*-*"))  # nothing half-written


def test_only_the_tasks_of_lost_tars_are_baked(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("train-*.tar")}
    (tmp_path / "train" / "train-000001.tar").unlink()
    events = convert(source, tmp_path)
    assert [event.rows_done for event in events if isinstance(event, Planned)] == [30]
    (tmp_path / "train" / "samples.npy").unlink()
    events = convert(source, tmp_path)
    assert [event.rows_done for event in events if isinstance(event, Planned)] == [60]
    other_task = [path for path in kept if int(path.stem[-6:]) >= 3]
    assert all(path.stat().st_mtime_ns == kept[path] for path in other_task)


def painted(colour: str) -> Callable[[Batch], Batch]:
    """A recipe that its user says is the same whatever the colour."""

    def bake(batch: Batch) -> Batch:
        batch["image"] = [Image.new("RGB", (8, 8), colour) for _ in batch["image"]]
        return batch

    return bake


def test_what_comes_out_otherwise_is_not_put_in_place(source: Path, tmp_path: Path) -> None:
    """Source, recipe and options say that they are the same; the manifest's SHA-256 has the last word."""
    convert(source, tmp_path / "out", recipe=painted("red"), recipe_version="1")
    before = digests(tmp_path / "out")
    for shard in (tmp_path / "out" / "train").glob("*.tar"):
        shard.unlink()
    with pytest.raises(OutputError, match=r"was rebuilt, but differs from what index\.json records.*overwrite=True"):
        convert(source, tmp_path / "out", recipe=painted("blue"), recipe_version="1")
    assert digests(tmp_path / "out").items() <= before.items()
    convert(source, tmp_path / "out", recipe=painted("red"), recipe_version="1")
    assert digests(tmp_path / "out") == before


@pytest.mark.parametrize("container", ["tar", "parquet"])
@pytest.mark.parametrize("place", ["image", "end"])
def test_a_table_is_not_made_of_damaged_shards(source: Path, tmp_path: Path, container: str, place: str) -> None:
    convert(source, tmp_path, container=container)
    folder = tmp_path / "train"
    (folder / "samples.npy").unlink()
    shard = folder / f"train-000002.{container}"
    content = bytearray(shard.read_bytes())
    content[content.index(b"\xff\xd8") + 20 if place == "image" else -5] ^= 1
    shard.write_bytes(content)
    with pytest.raises((OutputError, FormatError), match=r"verify|damaged"):
        convert(source, tmp_path, container=container)
    assert not (folder / "samples.npy").exists()
    for damage in wdsremux.verify(tmp_path):
        (folder / damage.file).unlink(missing_ok=True)
    convert(source, tmp_path, container=container)
    assert wdsremux.verify(tmp_path) == []


def test_another_environment(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns, and the manifest stays as it is: what was put in place is what it says."""
    convert(source, tmp_path)
    whole = digests(tmp_path)
    (tmp_path / "train" / "train-000001.tar").unlink()
    change_torch(monkeypatch)
    with pytest.raises(OutputError, match=r"torch .* -> 99\.0.*without strict=True"):
        convert(source, tmp_path, strict=True)
    warned = [event.text for event in convert(source, tmp_path) if isinstance(event, Warned)]
    assert any("-> 99.0" in text for text in warned)
    assert digests(tmp_path) == whole
    (tmp_path / "train" / "index.json").unlink()  # and it is made anew as it was
    convert(source, tmp_path)
    assert digests(tmp_path) == whole
