"""Sets made by version 0.1.0: read, verified, resumed and repaired as before, or refused in one clear error.

tests/data/made-by-0.1.0.tar.xz holds sources of eight tiny pictures each, and what 0.1.0 made of them with the recipe
`copy`, two samples a shard and four a task. Where the same source is read otherwise now, a set may not become one of
both readings.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wdsremux
from tests.support.reading import check_split, read_split
from wdsremux.conversion.events import Event, Warned
from wdsremux.errors import OutputError

ARCHIVE = Path(__file__).parent.parent / "data" / "made-by-0.1.0.tar.xz"
AS_BEFORE = ["named", "tars", "csv", "nested"]  #: the numbers of the labels are the same
#: read otherwise now, with what is said of it
OTHERWISE = {
    "white": "has classes that are not in the class list of .*: ' a'",
    "negative": "numbers without names as labels, but source has the classes -1, 1",
    "floats": "was started with label_column none, but this run asks for 'label'. Use label_column=\"none\"",
}
Unpack = Callable[[str], tuple[Path, Path]]


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    """Unpacks a case: (source, OUT)."""

    def unpack(name: str) -> tuple[Path, Path]:
        with tarfile.open(ARCHIVE) as tar:
            tar.extractall(tmp_path, [m for m in tar if m.name.startswith(f"./{name}/")], filter="data")
        return tmp_path / name / "source", tmp_path / name / "finished"

    return unpack


def convert(source: Path, out: Path, split: str = "train", **options: Any) -> list[Event]:
    told: list[Event] = []
    given: dict[str, Any] = {"recipe": "copy", "workers": 1, "samples_per_shard": 2, "samples_per_task": 4}
    wdsremux.convert(source, out, split=split, tell=told.append, **given | options)
    return told


def tars(out: Path, split: str = "train") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / split).glob("*.tar"))}


def begun(out: Path, done: bool = True) -> None:
    """As if the run had been killed after its first task, or before it."""
    (out / "train" / "index.json").unlink()
    for record in sorted((out / "train" / ".wdsremux").glob("task-*.json"))[1 if done else 0 :]:
        record.unlink()


@pytest.mark.filterwarnings(
    "ignore:.* has samples without a label:UserWarning"
)  # the -1 of 0.1.0 meant that, or a value
@pytest.mark.parametrize("name", [*AS_BEFORE, *OTHERWISE, "integer-texts"])
def test_they_are_read_and_sound(name: str, unpack: Unpack) -> None:
    _, out = unpack(name)
    assert wdsremux.verify(out) == []
    with wdsremux.DataLoader(out, 4, shuffle=False, augment="eval", size=8, num_threads=1, fields=("label",)) as loader:
        labels = [label for (batch,) in loader for label in batch.tolist()]
    assert labels == [int(content.get("cls", -1)) for content in read_split(out / "train").values()]


@pytest.mark.parametrize("name", [*AS_BEFORE, "integer-texts", "texts"])
def test_they_are_finished_as_they_were_begun(name: str, unpack: Unpack) -> None:
    source, out = unpack(name)
    before = tars(out)
    if name in ("integer-texts",):
        begun(out)
        with pytest.raises(OutputError, match=r"numbered the labels of 'label' differently\. .*overwrite=True"):
            convert(source, out)
        return
    shutil.rmtree(out / "test", ignore_errors=True)
    begun(out)
    convert(source, out)
    assert tars(out) == before
    check_split(out / "train", 8)


@pytest.mark.parametrize("name", [name for name in AS_BEFORE if name != "nested"] + ["integer-texts"])
def test_they_are_repaired_to_the_byte(name: str, unpack: Unpack) -> None:
    source, out = unpack(name)
    before = tars(out)
    (out / "train" / "train-000002.tar").unlink()
    told = convert(source, out)
    assert any(isinstance(event, Warned) and "will be rebuilt" in event.text for event in told)
    assert tars(out) == before
    assert wdsremux.verify(out) == []


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "lacking a shard"])
@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_read_otherwise_now_is_refused(name: str, missing: bool, unpack: Unpack) -> None:
    source, out = unpack(name)
    if missing:
        (out / "train" / "train-000001.tar").unlink()
    before = tars(out)
    if name == "floats" or missing:
        with pytest.raises(OutputError, match=OTHERWISE[name]) as caught:
            convert(source, out)
        assert "overwrite=True" in str(caught.value)
        assert tars(out) == before
    convert(source, out, overwrite=True)
    check_split(out / "train", 8)
    assert len(read_split(out / "train")) == 8


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_read_otherwise_now_is_not_finished(name: str, unpack: Unpack) -> None:
    source, out = unpack(name)
    begun(out)
    before = tars(out)
    with pytest.raises(OutputError, match="overwrite=True"):
        convert(source, out)
    assert tars(out) == before
    assert not (out / "train" / "index.json").exists()


def test_folders_in_folders_were_other_classes(unpack: Unpack) -> None:
    """cat/left and dog/right: it said left and right, and cat and dog are meant. A finished set keeps its names."""
    source, out = unpack("nested")
    (out / "train" / "train-000001.tar").unlink()
    with pytest.raises(
        OutputError, match=r"has classes that are not in the class list of .*: 'cat', 'dog'.*overwrite=True"
    ):
        convert(source, out)
    convert(source, out, overwrite=True)
    assert wdsremux.manifest(out).classes == ["cat", "dog"]


def test_splits_that_disagree(unpack: Unpack) -> None:
    """`dog` is 1 in train and 0 in test. The loader says so; a repair of test is refused, and train is as it was."""
    source, out = unpack("texts")
    for split in ("train", "test"):
        with (
            pytest.warns(UserWarning, match="the splits test, train number their classes differently"),
            wdsremux.DataLoader(out, 4, split=split, augment="eval", size=8, num_threads=1),
        ):
            pass
    before = tars(out)
    (out / "train" / "train-000000.tar").unlink()
    convert(source, out)
    assert tars(out) == before
    (out / "test" / "test-000000.tar").unlink()
    with pytest.raises(
        OutputError, match=r"has classes that are not in the class list of .*test: 'cat'.*overwrite=True"
    ):
        convert(source, out, "test")
    convert(source, out, "test", overwrite=True)
    assert wdsremux.manifest(out, "test").classes == wdsremux.manifest(out).classes == ["cat", "dog"]
    with wdsremux.DataLoader(out, 4, split="test", augment="eval", size=8, num_threads=1):
        pass
