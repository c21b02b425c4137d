"""One OUT has one class list: a label means the same class in every split, or the second split is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.conftest import tiny_jpeg
from tests.support.kinds import write_tar
from tests.support.reading import check_split, read_split
from wdsremux.errors import OptionError, OutputError, SourceError, WdsremuxError

Labels: TypeAlias = "Sequence[Any] | pa.Array"


def write(folder: Path, labels: Labels | None, names: Sequence[str] | None = None) -> Path:
    """A source of its own, with labels or without."""
    folder.mkdir(parents=True)
    count = 4 if labels is None else len(labels)
    features: dict[str, Any] = {"image": datasets.Image()}
    columns: dict[str, Any] = {"image": [{"bytes": tiny_jpeg(i), "path": None} for i in range(count)]}
    if labels is not None:
        columns["label"] = labels if isinstance(labels, pa.Array) else pa.array(labels)
        features["label"] = datasets.Value(str(columns["label"].type))
        if names is not None:
            features["label"] = datasets.ClassLabel(names=list(names))
    schema = datasets.Features(features).arrow_schema
    pq.write_table(pa.table(columns, schema=schema), folder / "all.parquet")
    return folder


def convert(source: Path, out: Path, split: str = "train", **options: Any) -> wdsremux.Manifest:
    given: dict[str, Any] = {"recipe": "copy", "workers": 1, "samples_per_shard": 2}
    return wdsremux.convert(f"{source}/*", out, split=split, **given | options)


def labels(out: Path, split: str = "train") -> list[int | None]:
    """Of the rows, in their order."""
    found = sorted(read_split(out / split).items())
    return [int(content["cls"]) if "cls" in content else None for _, content in found]


def refused(source: Path, out: Path, split: str = "test", **options: Any) -> str:
    with pytest.raises(WdsremuxError) as caught:
        convert(source, out, split, **options)
    assert "\n" not in str(caught.value)
    assert not (out / split / "index.json").exists()
    return str(caught.value)


def test_a_split_that_lacks_classes_takes_those_of_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(write(tmp_path / "a", ["cat", "dog", "eel", "dog"]), out)
    convert(write(tmp_path / "b", ["eel", "dog"]), out, "test")
    assert wdsremux.manifest(out, "test").classes == ["cat", "dog", "eel"]
    assert labels(out, "test") == [2, 1]
    check_split(out / "test", 2)


def test_a_class_label_takes_the_numbers_of_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(write(tmp_path / "a", [0, 1, 2], ["dog", "cat", "eel"]), out)
    convert(write(tmp_path / "b", [0, 1, -1, None], ["cat", "dog"]), out, "test")
    assert labels(out, "test") == [1, 0, None, None]
    assert wdsremux.manifest(out, "test").classes == ["dog", "cat", "eel"]


def test_new_classes_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(write(tmp_path / "a", ["cat", "dog"]), out)
    said = refused(write(tmp_path / "b", ["cat", "fox", "gnu"]), out)
    assert f"b has classes that are not in the class list of {out}/train: 'fox', 'gnu'" in said
    assert "classes=" in said


@pytest.mark.parametrize("first", ["names", "numbers"])
def test_names_and_numbers_do_not_mix(first: str, tmp_path: Path) -> None:
    sources = {"names": write(tmp_path / "a", ["cat", "dog"]), "numbers": write(tmp_path / "b", [0, 1])}
    out = tmp_path / "out"
    convert(sources.pop(first), out)
    (other,) = sources.values()
    said = refused(other, out)
    assert "numbers without names" in said
    assert "the classes cat, dog" in said
    if first == "names":
        convert(other, out, "test", classes=("cat", "dog"))
        assert labels(out, "test") == [0, 1]


def test_a_split_without_labels_says_nothing_and_takes_the_list(tmp_path: Path) -> None:
    out, bare = tmp_path / "out", write(tmp_path / "b", None)
    convert(bare, out, "test")
    convert(write(tmp_path / "a", ["cat", "dog"]), out)
    convert(bare, out, "validation")
    convert(write(tmp_path / "n", pa.nulls(3)), out, "nulls")
    assert [wdsremux.manifest(out, split).classes for split in ("test", "train", "validation", "nulls")] == [
        None,
        *[["cat", "dog"]] * 3,
    ]
    for split in ("test", "train", "validation", "nulls"):
        convert(tmp_path / {"train": "a", "nulls": "n"}.get(split, "b"), out, split)  # again: it is finished
        assert wdsremux.verify(out, split) == []


def test_a_list_for_splits_of_different_sources(tmp_path: Path) -> None:
    """Given once, whichever comes first; a file holds a name a line, spaces and all."""
    out, names = tmp_path / "out", ["a, b", " c", "d"]
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in names))
    listed = str(tmp_path / "names.txt")
    convert(write(tmp_path / "a", ["d"]), out, classes=listed)
    convert(write(tmp_path / "b", ["a, b", " c"]), out, "test")
    assert [wdsremux.manifest(out, split).classes for split in ("train", "test")] == [names] * 2
    assert (labels(out), labels(out, "test")) == ([2], [0, 1])
    with pytest.raises(OutputError, match="was started with a different class list than classes= names now"):
        convert(tmp_path / "a", out, classes="d,e")
    convert(tmp_path / "a", out, classes=listed)


@pytest.mark.parametrize("given", ["one", "a,,b", "a,b,a", "", ()])
def test_what_is_no_class_list(given: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Invalid classes"):
        convert(tmp_path, tmp_path / "out", classes=given)


def test_a_resume_keeps_the_list_it_was_begun_with(tmp_path: Path) -> None:
    """Also where the list came from the user, who does not give it again."""
    out, source = tmp_path / "out", write(tmp_path / "a", [0, 1, 1, 0])
    convert(source, out, classes="cat,dog,eel")
    before = {path.name: path.read_bytes() for path in (out / "train").glob("[a-z]*")}
    (out / "train" / "index.json").unlink()
    plan = json.loads((out / "train" / ".wdsremux" / "plan.json").read_text())
    assert plan["classes"] == ["cat", "dog", "eel"]
    convert(source, out)
    assert {path.name: path.read_bytes() for path in (out / "train").glob("[a-z]*")} == before
    (out / "train" / "train-000001.tar").unlink()
    convert(source, out)
    assert {path.name: path.read_bytes() for path in (out / "train").glob("[a-z]*")} == before


def test_a_split_that_is_only_begun_has_fixed_the_list(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(write(tmp_path / "a", ["cat", "dog"]), out)
    (out / "train" / "index.json").unlink()
    assert ": 'fox'" in refused(write(tmp_path / "b", ["fox"]), out)


def test_text_labels_of_remote_or_compressed_tars_need_the_list(tmp_path: Path) -> None:
    """They cannot be counted without the images; what the list does not know becomes a reject."""
    import gzip

    samples = [(f"{i}", {"jpg": tiny_jpeg(i), "txt": text}) for i, text in enumerate([b"cat", b"dog\n", b"eel"])]
    (tmp_path / "t").mkdir()
    write_tar(tmp_path / "a.tar", samples)
    (tmp_path / "t" / "a.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    out = tmp_path / "out"
    with pytest.raises(SourceError, match=r"Name the classes with classes=\"a,b,c\""):
        convert(tmp_path / "t", out, label_column="txt")
    found = convert(tmp_path / "t", out, label_column="txt", classes=["dog", "cat"], max_rejects=1)
    assert (labels(out), found.nrejects) == ([1, 0], 1)
    (line,) = (out / "train" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "label 'eel' is not among the classes"
    convert(tmp_path / "t", out, "test", label_column="txt", max_rejects=1)  # OUT has a list by now
    assert labels(out, "test") == [1, 0]


def test_class_names_reach_other_readers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(write(tmp_path / "a", ['"quoted" ä', "yes", "1"]), out)
    rows = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    names = wdsremux.manifest(out).classes or []
    assert rows.features["cls"].names == names == ['"quoted" ä', "1", "yes"]
    assert sorted(rows.features["cls"].int2str(rows["cls"])) == names
