"""Metadata files beside pictures: values stay what they are, and no row or picture is lost in silence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from tests.conftest import tiny_jpeg
from tests.support.folders import found, labels, refused, surveyed, write
from wdsremux.conversion.source.base import Survey

Row = Mapping[str, Any]


def as_csv(rows: Sequence[Row]) -> bytes:
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    return "\n".join(",".join(line) for line in [list(rows[0]), *cells]).encode()


def as_jsonl(rows: Sequence[Row]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def as_parquet(rows: Sequence[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return bytes(sink.getvalue())


WRITERS: Mapping[str, Callable[[Sequence[Row]], bytes]] = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


def photos(folder: Path, content: bytes, format_: str, count: int = 3) -> Path:
    write(folder, [f"{i}.jpg" for i in range(1, count + 1)])
    (folder / f"metadata.{format_}").write_bytes(content)
    return folder


def rows(survey: Survey, folder: Path) -> list[dict[str, Any]]:
    """All rows, images as their names."""
    tables = [piece.table for f in survey.fragments for piece in survey.reader.pieces(f, list(survey.columns), 64)]
    return [
        {name: _named(value, folder) for name, value in row.items()} for table in tables for row in table.to_pylist()
    ]


def _named(value: Any, folder: Path) -> Any:
    if not isinstance(value, dict) or "path" not in value:
        return value
    return value["path"] and value["path"].removeprefix(f"{folder}/")


def column(survey: Survey, name: str) -> tuple[str, list[Any]]:
    arrays = [array for _, array in survey.reader.values(name)]
    return str(arrays[0].type), [value for array in arrays for value in array.to_pylist()]


@pytest.mark.parametrize("format_", WRITERS)
def test_rows_in_the_order_of_the_file(format_: str, tmp_path: Path) -> None:
    """As `datasets` gives them. A row without a picture stays one, and a picture without a row is named."""
    content: list[Row] = [
        {"file_name": "2.jpg", "label": "dog", "n": 2},
        {"file_name": "1.jpg", "label": "cat", "n": None},
        {"file_name": "gone.jpg", "label": "eel", "n": 4},
        {"file_name": "2.jpg", "label": "dog again", "n": 5},
        {"file_name": None, "label": "none", "n": 6},
    ]
    folder = photos(tmp_path, WRITERS[format_](content), format_)
    survey = surveyed(folder)
    assert rows(survey, folder) == [{"image": r["file_name"], "label": r["label"], "n": r["n"]} for r in content]
    assert survey.untaken == {f"not in metadata.{format_}": ("3.jpg",)}
    assert isinstance(survey.columns["image"].feature, datasets.Image)
    assert survey.columns["label"].feature == datasets.Value("string")
    assert (survey.columns["n"].feature, survey.columns["n"].least) == (datasets.Value("int64"), 2)


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])  # of a CSV file, `datasets` leaves the file open
def test_the_same_as_datasets_reads(format_: str, tmp_path: Path) -> None:
    content = [{"file_name": f"{i}.jpg", "label": f"c{i}", "n": i, "x": i / 2} for i in (3, 1, 2)]
    folder = photos(tmp_path, WRITERS[format_](content), format_)
    survey = surveyed(folder)
    expected = load_dataset(str(folder), split="train", streaming=True)
    assert {name: column.feature for name, column in survey.columns.items()} == dict(expected.features)
    plain = expected.cast_column("image", datasets.Image(decode=False))
    assert rows(survey, folder) == [row | {"image": row["image"]["path"].removeprefix(f"{folder}/")} for row in plain]


@pytest.mark.parametrize("format_", WRITERS)
def test_further_images(format_: str, tmp_path: Path) -> None:
    content = [{"file_name": "1.jpg", "mask_file_name": "masks/1.png", "n": 1}]
    write(tmp_path, ["masks/1.png"])
    survey = surveyed(photos(tmp_path, WRITERS[format_](content), format_, 1))
    assert rows(survey, tmp_path) == [{"image": "1.jpg", "mask": "masks/1.png", "n": 1}]
    assert [name for name, c in survey.columns.items() if isinstance(c.feature, datasets.Image)] == ["image", "mask"]
    assert not survey.untaken


@pytest.mark.parametrize("format_", WRITERS)
def test_several_files_of_metadata(format_: str, tmp_path: Path) -> None:
    first, second = ([{"file_name": "1.jpg", name: name}] for name in ("a", "b"))
    photos(tmp_path, WRITERS[format_](first), format_, 1)
    photos(tmp_path / "more", WRITERS[format_](second), format_, 1)
    assert rows(surveyed(tmp_path), tmp_path) == [
        {"image": "1.jpg", "a": "a", "b": None},
        {"image": "more/1.jpg", "a": None, "b": "b"},
    ]


@pytest.mark.parametrize("format_", WRITERS)
def test_labels_of_folders_and_of_metadata(format_: str, tmp_path: Path) -> None:
    """Metadata wins; where it says nothing of labels, folders still do."""
    write(tmp_path, ["cat/1.jpg", "dog/2.jpg"])
    path = tmp_path / f"metadata.{format_}"
    path.write_bytes(WRITERS[format_]([{"file_name": "dog/2.jpg", "n": 1}, {"file_name": "cat/1.jpg", "n": 2}]))
    assert labels(surveyed(tmp_path)) == [1, 0]
    path.write_bytes(WRITERS[format_]([{"file_name": "dog/2.jpg", "label": "x"}]))
    assert column(surveyed(tmp_path), "label") == ("string", ["x"])


@pytest.mark.parametrize("format_", WRITERS)
@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "file:///etc/passwd", ".."])
def test_images_outside(format_: str, name: str, tmp_path: Path) -> None:
    content = WRITERS[format_]([{"file_name": "1.jpg"}, {"file_name": name}])
    assert "that is not in the folder of metadata" in refused(photos(tmp_path, content, format_))


@pytest.mark.parametrize("format_", WRITERS)
def test_no_file_name(format_: str, tmp_path: Path) -> None:
    reason = refused(photos(tmp_path, WRITERS[format_]([{"name": "1.jpg", "n": 1}]), format_))
    assert f"metadata.{format_} has no text column file_name" in reason
    assert reason.endswith("Its columns: name, n")


@pytest.mark.parametrize("format_", WRITERS)
def test_two_columns_of_one_name(format_: str, tmp_path: Path) -> None:
    content = WRITERS[format_]([{"file_name": "1.jpg", "image": "x"}])
    assert "becomes the image column 'image', and another" in refused(photos(tmp_path, content, format_))


def test_two_formats(tmp_path: Path) -> None:
    photos(tmp_path, b"file_name\n1.jpg", "csv")
    assert "different formats (.csv, .jsonl)" in refused(photos(tmp_path, b'{"file_name": "1.jpg"}', "jsonl"))


# Values of CSV

CELLS: Mapping[str, tuple[list[str], str, list[Any]]] = {
    "integers": (["1", "-20", ""], "int64", [1, -20, None]),
    "the largest": (["9223372036854775807", "-9223372036854775808"], "int64", [2**63 - 1, -(2**63)]),
    "too large": (["9223372036854775808", "1"], "string", ["9223372036854775808", "1"]),
    "zeros": (["007", "010"], "string", ["007", "010"]),
    "zeros among numbers": (["007", "1.5"], "string", ["007", "1.5"]),
    "plus": (["+1"], "string", ["+1"]),
    "numbers": (["1", "2.5", "1e3", "", ".5"], "double", [1.0, 2.5, 1000.0, None, 0.5]),
    "infinite": (["1e999", "1"], "string", ["1e999", "1"]),
    "other digits": (["١"], "string", ["١"]),
    "booleans": (["True", "false", "TRUE", ""], "bool", [True, False, True, None]),
    "odd booleans": (["tRue"], "string", ["tRue"]),
    "texts": (["NA", "None", "nan", "null", ""], "string", ["NA", "None", "nan", "null", None]),
    "spaces": ([" 1"], "string", [" 1"]),
    "empty": (["", ""], "null", [None, None]),
    "dates": (["2020-01-01"], "string", ["2020-01-01"]),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells(name: str, tmp_path: Path) -> None:
    cells, type_, values = CELLS[name]
    content = as_csv([{"file_name": "1.jpg", "x": cell} for cell in cells])
    assert column(surveyed(photos(tmp_path, content, "csv")), "x") == (type_, values)


def test_quotes_marks_and_line_breaks(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbffile_name,,x\r\n1.jpg,0,"a, ""b""\nc"\r\n\r\n2.jpg,1,d\r\n'
    survey = surveyed(photos(tmp_path, content, "csv"))
    assert list(survey.columns) == ["image", "Unnamed: 1", "x"]
    assert column(survey, "x") == ("string", ['a, "b"\nc', "d"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"file_name,x\n1.jpg,a\n2.jpg\n", "line 3 of metadata.csv has 1 cell, but the first line names 2"),
        (b"file_name,x\n1.jpg,a,b\n", "line 2 of metadata.csv has 3 cells"),
        (b'file_name,x\n1.jpg,"a\nb\n', "line 2 of metadata.csv is not a row of a CSV file"),
        (b"file_name,x\n1.jpg,a\n2.jpg,\xff\n", "line 3 of metadata.csv is not UTF-8"),
        (b"file_name,x,x\n1.jpg,a,b\n", "line 1 of metadata.csv names the column 'x' twice"),
        (b"", "metadata.csv is empty"),
    ],
)
def test_bad_csv(content: bytes, reason: str, tmp_path: Path) -> None:
    assert reason in refused(photos(tmp_path, content, "csv"))


# Values of JSON lines


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([None, "", "a"], "string"),
        ([None, None, 1], "int64"),
        ([None, 1, 2.5], "double"),
        ([None, [], [1]], "list<item: int64>"),
        (["2020-01-01", "007"], "string"),
        ([{"a": 1}, {"b": "x"}], "struct<a: int64, b: string>"),
    ],
)
def test_json_values(values: list[Any], type_: str, tmp_path: Path) -> None:
    """The first ones may be null or empty (huggingface/datasets#7222)."""
    content = as_jsonl([{"file_name": "1.jpg", "x": value} for value in values] + [{"file_name": "2.jpg"}])
    survey = surveyed(photos(tmp_path, content, "jsonl"))
    found, read = column(survey, "x")
    assert found == type_
    assert read[-1] is None
    if not isinstance(values[0], dict):
        assert read[:-1] == values


@pytest.mark.parametrize("values", [[1, "a"], [None, True, 1], [[1], 1], [{"a": 1}, {"a": "b"}], [2**70]])
def test_a_column_of_mixed_types_is_refused_only_when_asked_for(values: list[Any], tmp_path: Path) -> None:
    content = as_jsonl([{"file_name": "1.jpg", "x": value, "y": 1} for value in values])
    survey = surveyed(photos(tmp_path, content, "jsonl"))
    assert survey.columns["x"].feature == pa.null()
    assert survey.columns["x"].clash
    assert column(survey, "y") == ("int64", [1] * len(values))
    if values == [None, True, 1]:
        assert survey.columns["x"].clash == (
            "it is bool in line 2 of metadata.jsonl but int in line 3 of metadata.jsonl"
        )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"file_name": "1.jpg"}\n{"file_name": \n', "line 2 of metadata.jsonl is not JSON"),
        (b'\n[1]\n', "line 2 of metadata.jsonl is list, not an object"),
        (b'{"file_name": "\xff"}', "line 1 of metadata.jsonl is not UTF-8"),
        (b'{"file_name": "\\ud800.jpg"}', "that is not UTF-8"),
        (b'{"file_name": 1}', "has no text column file_name"),
        (b"", "Its columns: none"),
    ],
)  # fmt: skip
def test_bad_jsonl(content: bytes, reason: str, tmp_path: Path) -> None:
    assert reason in refused(photos(tmp_path, content, "jsonl"))


# Parquet


def test_what_a_parquet_file_says_of_its_columns(tmp_path: Path) -> None:
    features = datasets.Features({"file_name": datasets.Value("string"), "y": datasets.ClassLabel(names=["a", "b"])})
    table = pa.table({"file_name": ["1.jpg", "2.jpg"], "y": [1, 0]}, schema=features.arrow_schema)
    pq.write_table(table, write(tmp_path, ["1.jpg", "2.jpg"]) / "metadata.parquet")
    survey = surveyed(tmp_path)
    assert survey.columns["y"].feature == features["y"]
    assert survey.columns["y"].names == {0: ("a", "b")}


def test_bad_parquet(tmp_path: Path) -> None:
    assert "metadata.parquet cannot be read as parquet" in refused(photos(tmp_path, b"no", "parquet"))


# Zips


def test_zips_are_left_to_datasets(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for i in range(3):
            file.writestr(f"{i}.jpg", tiny_jpeg(i))
        file.writestr("metadata.jsonl", as_jsonl([{"file_name": f"{i}.jpg", "n": i} for i in range(3)]))
    (tmp_path / "notes.txt").touch()
    survey = surveyed(tmp_path)
    assert rows(survey, tmp_path) == [{"image": f"zip://{i}.jpg::{tmp_path}/a.zip", "n": i} for i in range(3)]
    assert survey.untaken == {"of another kind": ("notes.txt",)}
    assert found(tmp_path).names == ("a.zip",)


def test_a_zip_of_class_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        for i in range(4):
            file.writestr(f"{'ab'[i % 2]}/{i}.jpg", tiny_jpeg(i))
    assert "photos.zip contains folders of images, whose names cannot be read as labels inside a zip" in refused(
        tmp_path
    )


def test_a_damaged_zip(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"no zip at all")
    assert "photos.zip" in refused(tmp_path)
