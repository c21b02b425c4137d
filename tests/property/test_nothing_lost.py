"""Nothing of a source is lost in silence, whatever its files, columns, members and values are called or hold.

Either one error that says so before any work; or each row is a sample or a reject, each file is read or counted as not
taken, and a label in the source is that label in the set. (Folders of pictures have their own law, test_folders.)
"""

from __future__ import annotations

import gzip
import io
import math
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import tiny_jpeg
from tests.support.sources import open_source
from wdsremux.conversion.recipes.base import Reject, Sample
from wdsremux.conversion.recipes.base import Settings as RecipeSettings
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.source import Source
from wdsremux.conversion.source.features import looks_like_label
from wdsremux.errors import WdsremuxError

CASES = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)
PICTURES = [tiny_jpeg(i * 20) for i in range(12)]  #: no two alike
COPY = make_recipe("copy", RecipeSettings())
SPLITS = ("train", "validation", "test")


def baked(source: Source) -> tuple[list[Sample], list[Reject]]:
    items = [item for i in range(len(source.fragments)) for rows in source.rows(i, 64) for item in COPY.bake(rows)]
    return [i for i in items if isinstance(i, Sample)], [i for i in items if isinstance(i, Reject)]


def opened(source: Path, split: str) -> Source | str:
    """The source, read to its end; or what is said of it."""
    try:
        found = open_source(str(source), split)
        baked(found)
    except WdsremuxError as error:
        text = str(error)
    else:
        return found
    assert "\n" not in text
    assert ". " in text  # what is wrong, and what to do
    return text


def check_files(source: Source, folder: Path) -> None:
    """All files are read, of another split, or counted as not taken with the reason."""
    hidden = [path for path in folder.iterdir() if path.is_dir() and path.name.startswith((".", "__"))]
    present = len(hidden)  # each is named as a whole
    for path in folder.rglob("*"):
        inside = any(above in path.parents for above in hidden)
        present += path.is_file() and path.name != "README.md" and not inside
    counts = [
        int(count.replace(",", "")) for note in source.notes for count in re.findall(r"(?<=[:;] )([\d,]+) ", note)
    ]
    assert source.description["files"] + sum(counts) == present, source.notes


def stands_for(value: Any, label: int | None, classes: Sequence[str] | None) -> bool:
    """Whether a label of the set means a value of the source."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return label is None
    if label is None:
        return False
    if classes is not None:
        return classes[label] == (value if isinstance(value, str) else str(int(value)))
    return label == int(value)


# Tables

VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "integer": (pa.int64(), st.integers(-2, 12)),
    "small integer": (pa.int8(), st.integers(0, 3)),
    "unsigned": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "bool": (pa.bool_(), st.booleans()),
    "float": (pa.float64(), st.sampled_from([0.0, 1.0, 2.0, -1.0, 0.5, math.nan])),
    "whole float": (pa.float32(), st.sampled_from([0.0, 1.0, 7.0])),
    "text": (pa.string(), st.sampled_from(["a", " a", "A", "", "b\n", "7", "07", "None"])),
    "integer text": (pa.large_string(), st.sampled_from(["0", "2", "10", "-1"])),
    "category": (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["x", "y"])),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=2)),
    "map": (pa.map_(pa.string(), pa.int64()), st.just([("k", 1)])),
    "date": (pa.date32(), st.integers(0, 2**30)),
    "null": (pa.null(), st.none()),
}
COLUMNS = st.sampled_from(["label", "Label", "labels", "cls", "target", "class_id", "fine label", "name", "m.x", "id"])
FILES = st.sampled_from(
    ["train.p", "Test-0.p", "extra.p", "val 1.p", "a.b.p", "TRAIN_x.p", "0.p", "latest.p", "testing.p"]
)
FOLDERS = st.sampled_from(["", "data", "Train", "label=3", "label=x", "test images", "__old__", ".hidden"])
IMAGES = st.sampled_from(["Image", "struct", "binary", "large binary", "view"])
BESIDE = st.lists(
    st.sampled_from(["README.md", "notes.txt", "1.jpg", ".DS_Store", "a/b.csv", "metadata.csv"]), unique=True
)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Files by name, each with columns as (type, values)."""
    names = draw(st.lists(st.tuples(FOLDERS, FILES), min_size=1, max_size=3, unique=True))
    columns = draw(st.lists(COLUMNS, max_size=3, unique=True))
    kinds = {column: draw(st.sampled_from(sorted(VALUES))) for column in columns}
    found = {}
    for folder, name in names:
        rows = draw(st.integers(0, 4))
        content = {}
        for column in columns:
            if draw(st.integers(0, 9)):  # now and then a file has not the column
                kind = kinds[column] if draw(st.integers(0, 9)) else "null"
                type_, values = VALUES[kind]
                content[column] = (type_, draw(st.lists(st.none() | values, min_size=rows, max_size=rows)))
        found[f"{folder}/{name}" if folder else name] = {"rows": rows, "columns": content}
    return found


def images(kind: str, first: int, rows: int) -> pa.Array:
    data = PICTURES[first : first + rows]
    if kind in ("Image", "struct"):
        return pa.array(
            [{"bytes": each, "path": None} for each in data], pa.struct({"bytes": pa.binary(), "path": pa.string()})
        )
    return pa.array(data, {"binary": pa.binary(), "large binary": pa.large_binary(), "view": pa.binary_view()}[kind])


def write_tables(folder: Path, files: Mapping[str, Any], kind: str, image: str) -> dict[bytes, dict[str, Any]]:
    """Writes them; gives the values of each picture's row."""
    found: dict[bytes, dict[str, Any]] = {}
    first = 0
    for name, file in files.items():
        arrays = {
            column: pa.array(values, pa.int32()).cast(pa.date32()) if type_ == pa.date32() else pa.array(values, type_)
            for column, (type_, values) in file["columns"].items()
        }
        table = pa.table({"image": images(image, first, file["rows"])} | arrays)
        if image == "Image":
            features = datasets.Features({"image": datasets.Image()})
            table = table.replace_schema_metadata(features.arrow_schema.metadata)
        path = folder / name.replace(".p", f".{kind}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "parquet":
            pq.write_table(table, path, row_group_size=2)
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
                out.write_table(table)
        for row in range(file["rows"]):
            found[PICTURES[first + row]] = {column: values[row] for column, (_, values) in file["columns"].items()}
        first += file["rows"]
    return found


CLASSES = pa.dictionary(pa.int8(), pa.string())
#: Of the other split, one file lacks the label.
LACKING = {
    "train.p": {"rows": 1, "columns": {"Label": (CLASSES, [None])}},
    "Test-0.p": {"rows": 0, "columns": {}},
    "testing.p": {"rows": 0, "columns": {"Label": (CLASSES, [])}},
}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@CASES
@given(files=tables(), image=IMAGES, beside=BESIDE)
@example(files=LACKING, image="Image", beside=[])
def test_tables(kind: str, files: dict[str, Any], image: str, beside: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "source"
        folder.mkdir()
        values = write_tables(folder, files, kind, image)
        for name in beside:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"beside")
        for split in SPLITS:
            found = opened(folder, split)
            if isinstance(found, str) or found.description["kind"] != kind:
                continue
            check_files(found, folder)
            samples, rejects = baked(found)
            assert len(samples) + len(rejects) == sum(fragment.rows or 0 for fragment in found.fragments)
            stated = found.columns.label
            for sample in samples:
                row = values[sample.image.data]
                label = None if sample.label < 0 else sample.label
                if stated is not None and stated in row:
                    assert stands_for(row[stated], label, found.classes)
                if stated is None:
                    assert not any(looks_like_label(name, None) for name in row), "a label was passed over"
                told = " ".join(found.warnings)
                for name in row:
                    assert name == stated or not looks_like_label(name, None) or repr(name) in told
            assert all(reject.column == stated for reject in rejects)


# Tars

KEYS = st.sampled_from(["a", "B", "0.05", "0.5", "x y", "cat/1", "dog/1", "cat/left/2", "train", "n.01", "ä", "c.d"])
PICTURE = st.sampled_from(["jpg", "JPG", "jpeg", "png"])
LABEL = st.sampled_from(
    [None, None, ("cls", b"1"), ("cls", b"0"), ("CLS", b"2"), ("cls", b"cat"), ("txt", b"text\n"), ("cls", b"")]
)


@st.composite
def members(draw: st.DrawFn) -> list[tuple[str, bytes | str]]:
    """Members of a tar: (name, content), or (name, the member that it is a hard link to)."""
    found: list[tuple[str, bytes | str]] = []
    for number, key in enumerate(draw(st.lists(KEYS, max_size=5, unique=True))):
        if draw(st.integers(0, 9)):
            linked = [name for name, data in found if isinstance(data, bytes) and data in PICTURES]
            link = linked and not draw(st.integers(0, 5))
            found.append((f"{key}.{draw(PICTURE)}", linked[0] if link else PICTURES[number]))
        if (label := draw(LABEL)) is not None:
            found.append((f"{key}.{label[0]}", label[1]))
    if draw(st.booleans()):
        found.append((".DS_Store", b"hidden"))
    if draw(st.booleans()):
        found.sort(key=lambda member: member[0].rpartition(".")[2])  # as `tar cf x *.cls *.jpg` has them
    return found


def write_members(path: Path, content: Sequence[tuple[str, bytes | str]], packed: bool) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.LNKTYPE, data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(file.getvalue(), 1) if packed else file.getvalue())


@CASES
@given(content=members(), packed=st.booleans(), beside=BESIDE)
def test_tars(content: list[tuple[str, bytes | str]], packed: bool, beside: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "source"
        folder.mkdir()
        write_members(folder / ("a.tar.gz" if packed else "a.tar"), content, packed)
        for name in beside:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"beside")
        found = opened(folder, "train")
        if isinstance(found, str):
            return
        samples, rejects = baked(found)
        named = {name: data for name, data in content if not name.startswith(".")}
        keys = {name.rpartition(".")[0]: name for name in named}
        pictures = {name: data for name, data in named.items() if name.lower().endswith(("jpg", "jpeg", "png"))}
        assert len(samples) + len(rejects) == len(keys)
        wanted = sorted(str(named[data] if isinstance(data, str) else data) for data in pictures.values())
        if not rejects:
            assert sorted(str(sample.image.data) for sample in samples) == wanted
        texts = {name.rpartition(".")[0]: data for name, data in named.items() if name.lower().endswith("cls")}
        labels = sorted(str(data) for key, data in texts.items() if any(p.rpartition(".")[0] == key for p in pictures))
        if found.columns.label in ("cls", "CLS") and not rejects:
            numbers = [sample.label for sample in samples if sample.label >= 0]
            shown = [found.classes[number] if found.classes else str(number) for number in numbers]
            assert sorted(str(text.encode()) for text in shown) == labels
        if found.columns.label is None:
            assert not texts
