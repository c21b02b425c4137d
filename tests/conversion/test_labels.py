"""Labels of every kind, and which number each becomes: never another one than it is, and never none in silence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import tiny_jpeg
from tests.support.sources import open_source
from wdsremux.conversion.source import Source
from wdsremux.errors import SourceError

Values = Sequence[Any]
Named = dict[str, tuple[Sequence[str], Values]]


def write(folder: Path, files: dict[str, Any], name: str = "label") -> Path:
    """Parquet files of tiny pictures with a label column of these Arrow arrays, or none where the array is None."""
    folder.mkdir(parents=True)
    number = 0
    for file, labels in files.items():
        rows = 3 if labels is None else len(labels)
        images = [{"bytes": tiny_jpeg(number + i), "path": None} for i in range(rows)]
        number += rows
        columns: dict[str, Any] = {"image": pa.array(images)}
        if labels is not None:
            columns[name] = labels
        pq.write_table(pa.table(columns), folder / file)
    return folder


def with_names(folder: Path, files: Mapping[str, tuple[Sequence[str], Values]]) -> Path:
    """Likewise, of ClassLabels with names of their own in each file."""
    folder.mkdir(parents=True)
    for file, (names, labels) in files.items():
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
        images = [{"bytes": tiny_jpeg(i), "path": None} for i in range(len(labels))]
        table = pa.table({"image": images, "label": list(labels)}, schema=features.arrow_schema)
        pq.write_table(table, folder / file)
    return folder


def labels(source: Source) -> list[int | None]:
    return [
        label for i in range(len(source.fragments)) for rows in source.rows(i, 2) for label in rows.labels.to_pylist()
    ]


def faults(source: Source) -> dict[int, str]:
    found: dict[int, str] = {}
    at = 0
    for number in range(len(source.fragments)):
        for rows in source.rows(number, 2):
            found |= {at + place: fault.reason for place, fault in rows.faults.items()}
            at += len(rows)
    return found


def opened(folder: Path, split: str = "train", **options: Any) -> Source:
    return open_source(str(folder), split, **options)


def refused(folder: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        labels(opened(folder, split, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


TEXTS = ["dog", None, "cat", "cat"]
TAKEN: dict[str, tuple[pa.Array, list[int | None], list[str] | None]] = {
    "integers": (pa.array([3, None, 0], pa.int8()), [3, None, 0], None),
    "unsigned": (pa.array([3, None, 2**40], pa.uint64()), [3, None, 2**40], None),
    "bools": (pa.array([True, False, None]), [1, 0, None], None),
    "whole floats": (pa.array([2.0, None, 0.0, math.nan]), [2, None, 0, None], None),
    "half floats": (pa.array([2.0, 0.0], pa.float32()), [2, 0], None),
    "texts": (pa.array(TEXTS), [1, None, 0, 0], ["cat", "dog"]),
    "large texts": (pa.array(TEXTS, pa.large_string()), [1, None, 0, 0], ["cat", "dog"]),
    "views of texts": (pa.array(TEXTS, pa.string_view()), [1, None, 0, 0], ["cat", "dog"]),
    "categories of pandas": (pa.array(TEXTS).dictionary_encode(), [1, None, 0, 0], ["cat", "dog"]),
    "integers as texts": (pa.array([str(i) for i in range(12)]), list(range(12)), None),
    "texts with zeros before": (pa.array(["007", "07", "7"]), [0, 1, 2], ["007", "07", "7"]),
    "white space": (pa.array(["a", " a", "a ", "a\n", ""]), [1, 0, 0, 0, 0], None),
    "negative integers": (pa.array([1, -1, 1, None]), [1, 0, 1, None], ["-1", "1"]),
    "negative floats": (pa.array([1.0, -1.0]), [1, 0], ["-1", "1"]),
    "negative integers as texts": (pa.array(["-10", "2", "-1"]), [0, 2, 1], ["-10", "-1", "2"]),
    "nothing": (pa.nulls(3), [None, None, None], None),
}
_WHITE = ["", " a", "a", "a\n", "a "]
TAKEN["white space"] = (TAKEN["white space"][0], [2, 1, 4, 3, 0], _WHITE)


@pytest.mark.parametrize("name", ["label", "Target", "class", "fine_label"])
@pytest.mark.parametrize("kind", TAKEN)
def test_labels_that_are_taken(kind: str, name: str, tmp_path: Path) -> None:
    values, expected, classes = TAKEN[kind]
    source = opened(write(tmp_path / "source", {"train.parquet": values}, name))
    assert source.columns.label == name
    assert (labels(source), source.classes) == (expected, classes)
    assert faults(source) == {}


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (pa.array([0.5, 1.0]), "contains 0.5"),
        (pa.array([1.0, math.inf]), "contains inf"),
        (pa.array([2.0**60]), "contains 1.15"),
        (pa.array([[1], [2]]), "is List"),
        (pa.array([{"a": 1}]), "is dict"),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "is map"),
    ],
    ids=["half", "infinite", "beyond", "lists", "objects", "map"],
)
def test_what_is_no_single_label_is_refused_before_any_work(values: pa.Array, what: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "source", {"train.parquet": values})
    said = refused(folder)
    assert f"column 'label' {what}" in said
    assert "--label-column none; --keep 'label'" in said
    assert labels(opened(folder, label_column="none")) == [None] * len(values)


def test_one_value_that_is_no_label_is_the_fault_of_its_row(tmp_path: Path) -> None:
    """A number that no table holds; a text that is not UTF-8."""
    source = opened(write(tmp_path / "big", {"train.parquet": pa.array([1, 2**64 - 1, 3], pa.uint64())}))
    assert labels(source) == [1, None, 3]
    assert faults(source) == {1: "18446744073709551615 is no label: an integer of 64 bits is needed"}
    odd = pa.array([b"cat", b"\xff\xfe", b"dog"]).view(pa.string())
    source = opened(write(tmp_path / "odd", {"train.parquet": odd}))
    assert (source.classes, labels(source)) == (["cat", "dog"], [0, None, 1])
    assert faults(source) == {1: "the label is text that is not UTF-8"}


# Over files and splits


def test_texts_have_one_number_in_all_splits(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "s", {"train.parquet": pa.array(["dog", "cat"]), "test.parquet": pa.array(["dog", "eel"])}
    )
    for split, expected in (("train", [1, 0]), ("test", [1, 2])):
        source = opened(folder, split)
        assert (source.classes, labels(source)) == (["cat", "dog", "eel"], expected)


def test_negative_labels_of_one_split_make_classes_of_both(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", {"train.parquet": pa.array([0, 1]), "test.parquet": pa.array([-1, 1])})
    for split, expected in (("train", [1, 2]), ("test", [0, 2])):
        source = opened(folder, split)
        assert (source.classes, labels(source)) == (["-1", "0", "1"], expected)


@pytest.mark.parametrize("places", [("train-0.parquet", "train-1.parquet"), ("train.parquet", "test.parquet")])
def test_class_labels_are_matched_by_name(places: tuple[str, str], tmp_path: Path) -> None:
    files: Named = {places[0]: (["cat", "dog"], [0, 1, -1, None]), places[1]: (["dog", "eel", "cat"], [0, 1, 2, -1])}
    folder = with_names(tmp_path / "s", files)
    splits = ["train", "test"] if "test.parquet" in places else ["train"]
    found = {split: opened(folder, split) for split in splits}
    assert {tuple(source.classes or ()) for source in found.values()} == {("dog", "eel", "cat")}
    assert [label for split in splits for label in labels(found[split])] == [2, 0, -1, None, 0, 1, 2, -1]


def test_a_number_that_no_class_has_stays_outside(tmp_path: Path) -> None:
    """It becomes a reject; it must not pass for a class of another file."""
    files = {"train-0.parquet": (["cat", "dog"], [0, 7]), "train-1.parquet": (["eel", "cat", "dog"], [0])}
    folder = with_names(tmp_path / "s", files)
    source = opened(folder)
    assert source.classes == ["eel", "cat", "dog"]
    assert labels(source) == [1, 10, 0]


def test_the_order_of_splits_does_not_matter(tmp_path: Path) -> None:
    files = {"train.parquet": (["cat", "dog"], [0, 1]), "test.parquet": (["bee", "ant"], [0, 1])}
    folder = with_names(tmp_path / "s", files)
    assert opened(folder, "train").classes == opened(folder, "test").classes == ["bee", "ant", "cat", "dog"]


@pytest.mark.parametrize("first", [pa.nulls(3), pa.nulls(3, pa.int64()), pa.array([None] * 3, pa.string())], ids=str)
def test_a_first_file_without_values_says_nothing(first: pa.Array, tmp_path: Path) -> None:
    second = pa.array(["b", "a"]) if first.type != pa.int64() else pa.array([4, 2])
    source = opened(write(tmp_path / "s", {"train-0.parquet": first, "train-1.parquet": second}))
    assert labels(source) == [None] * 3 + ([1, 0] if source.classes else [4, 2])


def test_files_that_differ_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"train-0.parquet": pa.array([1, 2]), "train-1.parquet": None})
    assert "train-1.parquet does not have the column 'label' that other files have" in refused(folder)
    folder = write(tmp_path / "b", {"train-0.parquet": pa.array([1, 2]), "train-1.parquet": pa.array(["a"])})
    assert "differs between files: int64 in train-0.parquet but string in train-1.parquet" in refused(folder)
    assert labels(opened(folder, label_column="none")) == [None] * 3
    folder = write(tmp_path / "c", {"train-0.parquet": pa.array([1], pa.int8()), "train-1.parquet": pa.array([2**40])})
    assert labels(opened(folder)) == [1, 2**40]


# Folders as columns


@pytest.mark.parametrize(
    ("values", "expected", "classes"),
    [
        (("3", "11"), [11, 3], None),
        (("cat", "a%20dog"), [0, 1], ["a dog", "cat"]),
        (("cat", "__HIVE_DEFAULT_PARTITION__"), [None, 0], ["cat"]),
        (("007", "7"), [0, 1], ["007", "7"]),
    ],
)
def test_partitions_give_the_label(
    values: tuple[str, str], expected: list[int | None], classes: list[str] | None, tmp_path: Path
) -> None:
    for value in values:
        write(tmp_path / "s" / f"label={value}", {"part-0.parquet": None})
    source = opened(tmp_path / "s")
    assert source.classes == classes
    assert sorted(labels(source), key=str) == sorted([label for label in expected for _ in range(3)], key=str)
    order = sorted(values)  # of the folders
    named = [source.fragments[i].file for i in range(2)]
    assert [order[n] for n in named] == order


# Class lists that the user gives


def test_given_classes(tmp_path: Path) -> None:
    texts = write(tmp_path / "t", {"train.parquet": pa.array(["dog", "cat"])})
    given = ("eel", "dog", "cat")
    source = opened(texts, classes=given)
    assert (source.classes, labels(source)) == (list(given), [1, 2])
    assert "column 'label' contains labels that --classes does not name: 'cat'" in refused(
        texts, classes=("dog", "eel")
    )
    numbers = write(tmp_path / "n", {"train.parquet": pa.array([2, 0])})
    assert labels(opened(numbers, classes=given)) == [2, 0]
    assert opened(numbers, classes=given).classes == list(given)
    assert "does not name: '2'" in refused(numbers, classes=("dog", "eel"))
    assert labels(opened(numbers, classes=("2", "0"))) == [0, 1]  # by value, where all are integers
    named = with_names(tmp_path / "c", {"train.parquet": (["cat", "dog"], [0, 1])})
    assert labels(opened(named, classes=given)) == [2, 1]
    assert "does not name: 'cat'" in refused(named, classes=("dog", "eel"))
