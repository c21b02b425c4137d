"""Kept columns in either container: every type that a source can have; and other readers of the Parquet one."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from PIL import Image

import wdsremux
from tests.support.containers import (
    ROWS,
    SMALL,
    check_table,
    key,
    labels,
    picture,
    read_column,
    shards_of,
    write_rows,
)
from wdsremux.errors import RecipeError
from wdsremux.format.containers import CONTAINERS

pytestmark = pytest.mark.filterwarnings("ignore:.* has samples without a label")
UTC, HALF = datetime.UTC, ROWS // 2
NAN, INF = float("nan"), float("inf")


def column(kind: pa.DataType, value: Callable[[int], Any], null: int = 5) -> pa.Array:
    """Row i has value(i), one row null."""
    return pa.array([None if i == null else value(i) for i in range(ROWS)], kind)


def texts(value: Callable[[int], Any]) -> pa.Array:
    """A column of JSON."""
    return pa.ExtensionArray.from_storage(pa.json_(), column(pa.string(), lambda i: json.dumps(value(i))))


def day(i: int) -> datetime.datetime:
    return datetime.datetime(2020, 2, 1 + i % 28, 3, i, 7, 1_000 * i)


TEXT = pa.string()
#: One of each type that Parquet has, with what is hard of it.
COLUMNS: dict[str, pa.Array] = {
    "string": column(TEXT, lambda i: ["", "läuft", "日本 🐈", 'a "quoted"\n\x00line', "x" * 1_000][i % 5]),
    "large_string": column(pa.large_string(), lambda i: "x" * i),
    "string_view": column(pa.string_view(), lambda i: f"view {i}"),
    "int8": column(pa.int8(), lambda i: i - 128),
    "int64": column(pa.int64(), lambda i: -(2**63) + i),
    "uint64": column(pa.uint64(), lambda i: 2**64 - 1 - i),
    "float16": column(pa.float16(), lambda i: np.float16([i / 4, NAN, INF][i % 3])),
    "float32": column(pa.float32(), lambda i: [i / 3, NAN, -INF][i % 3]),
    "float64": column(pa.float64(), lambda i: [i / 3, NAN, INF, -0.0, 5e-324][i % 5]),
    "bool": column(pa.bool_(), lambda i: i % 2 == 0),
    "decimal128": column(pa.decimal128(38, 2), lambda i: decimal.Decimal(10**35 + i) / 4),
    "decimal256": column(pa.decimal256(60, 3), lambda i: decimal.Decimal(-i) / 8),
    "timestamp_ms": column(pa.timestamp("ms"), day),
    "timestamp_us": column(pa.timestamp("us"), lambda i: day(i).replace(year=1 + 300 * i)),
    "timestamp_ns": column(pa.timestamp("ns"), lambda i: 10**18 + i),
    "timestamp_zone": column(pa.timestamp("us", "Europe/Berlin"), lambda i: day(i).replace(tzinfo=UTC)),
    "timestamp_offset": column(pa.timestamp("us", "+05:30"), lambda i: day(i).replace(tzinfo=UTC)),
    "date": column(pa.date32(), lambda i: day(i).date()),
    "time32": column(pa.time32("ms"), lambda i: day(i).time()),
    "time64_us": column(pa.time64("us"), lambda i: day(i).time()),
    "duration": column(pa.duration("us"), lambda i: datetime.timedelta(days=-i, microseconds=i)),
    "duration_ns": column(pa.duration("ns"), lambda i: 10**10 + i),
    "list": column(pa.list_(pa.float32()), lambda i: [[], [1.5, None, NAN], [i / 3] * 100][i % 3]),
    "large_list": column(pa.large_list(TEXT), lambda i: ["a", None] * (i % 3)),
    "fixed_list": column(pa.list_(pa.int8(), 3), lambda i: [1, None, i]),
    "matrix": column(pa.list_(pa.list_(pa.int64())), lambda i: [[1, i], [], None]),
    "struct": column(
        pa.struct([("a", pa.int8()), ("b", pa.list_(TEXT)), ("at", pa.timestamp("us"))]),
        lambda i: {"a": i, "b": ["x", None] if i % 2 else None, "at": day(i)},
    ),
    "structs": column(pa.list_(pa.struct([("x", pa.float64())])), lambda i: [{"x": i / 7}, None, {"x": None}]),
    "null": pa.nulls(ROWS),
    "a.b": column(pa.int64(), lambda i: i),
    "image.bytes": column(TEXT, lambda i: f"no image {i}"),
    "__key__": column(TEXT, lambda i: f"{i}"),
    "map": column(pa.map_(TEXT, pa.int32()), lambda i: [("k", i), ("l", None)]),
    "dictionary": column(TEXT, lambda i: "ab"[i % 2]).dictionary_encode(),
    "json": texts(lambda i: {"q": [i, None, "ä"]}),
    "time64_ns": column(pa.time64("ns"), lambda i: 10**9 * i + i + 1),
}
#: Those that are stored as another type: `datasets` has none of their own for them.
STORED_AS = {"map": pa.json_(), "dictionary": TEXT}
NESTED = "nested_json"  #: JSON in a list


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A source with all those columns, by container converted. Read-only for tests."""
    folder = tmp_path_factory.mktemp("columns")
    values = labels([None if i % 4 == 0 else i for i in range(ROWS)])
    inner = pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), texts(lambda i: {"q": i}))
    write_rows(folder / "source", {"label": values, **COLUMNS, NESTED: inner})
    for name in CONTAINERS:
        wdsremux.convert(folder / "source", folder / name, container=name, keep=[*COLUMNS, NESTED], **SMALL)
        check_table(folder / name / "train")
    return {name: folder / name for name in CONTAINERS}


def as_json(value: Any) -> Any:
    """What JSON has for a value of Python's."""
    if isinstance(value, dict):
        return {name: as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def values_of(name: str) -> list[Any]:
    """The source's, as Python has them; JSON parsed, which is stored under the same spelling or another."""
    values: list[Any] = COLUMNS[name].to_pylist()
    return [value and json.loads(value) for value in values] if name == "json" else values


def nanoseconds(number: int | None) -> str | None:
    """Of a time of day, as text."""
    return None if number is None else f"{datetime.time(0, 0, number // 10**9)}.{number % 10**9:09d}"


@pytest.mark.parametrize("name", COLUMNS)
def test_parquet_has_the_columns_as_the_source_has_them(outs: dict[str, Path], name: str) -> None:
    found = read_column(outs["parquet"] / "train", name)
    source = COLUMNS[name]
    assert found.type == STORED_AS.get(name, source.type)
    if name in ("map", "json"):
        values = [value and json.loads(value) for value in found.to_pylist()]
        assert values == as_json(values_of(name))
    elif pa.types.is_time64(source.type):
        assert found.cast(pa.int64()).to_pylist() == source.cast(pa.int64()).to_pylist()
    else:
        assert repr(found.to_pylist()) == repr(source.to_pylist())  # of a NaN, too; and numbers to the last bit


def test_a_loader_gives_the_same_dicts_from_both(outs: dict[str, Path]) -> None:
    """All columns in their order; a time of nanoseconds is a text with them."""
    found = {}
    for name, out in outs.items():
        with wdsremux.DataLoader(out, 8, augment=None, tail="even", fields=("json", "key", "label")) as loader:
            batches = [row for batch in loader for row in zip(*batch, strict=True)]
        found[name] = {each: (kept, int(label)) for kept, each, label in batches}
    assert found["tar"] == found["parquet"]
    rows = [found["tar"][key(i)] for i in range(ROWS)]
    assert [label for _, label in rows] == [-1 if i % 4 == 0 else i for i in range(ROWS)]
    assert {tuple(kept) for kept, _ in rows} == {(*COLUMNS, NESTED)}
    for name in set(COLUMNS) - {"time64_ns"}:
        assert [kept[name] for kept, _ in rows] == as_json(values_of(name)), name
    numbers = COLUMNS["time64_ns"].cast(pa.int64()).to_pylist()
    assert [kept["time64_ns"] for kept, _ in rows] == list(map(nanoseconds, numbers))


# What a recipe returns


def odd_values(batch: dict[str, Any]) -> dict[str, Any]:
    """Row 1 of a batch has what the column's name says; of the same type in Python's eyes, or not."""
    values = {
        "int64": "three",
        "float64": "3.5",
        "string": 7,
        "bool": 1,
        "date": "2020-01-01",
        "timestamp_ms": datetime.datetime(2020, 1, 1, 0, 0, 0, 5),
        "list": "abc",
        "struct": {"a": 1, "lost": 2},
        "structs": [{"x": 1.0}, {"x": "y"}],
        "fixed_list": [1, 2],
        "time64_ns": "25:00:00",
        "decimal128": decimal.Decimal("0.001"),
        "float16": 1e6,
    }
    for name in batch.keys() & values.keys():
        batch[name][1] = values[name]
    return batch


def returned(out: Path, source: Path, recipe: Callable[..., Any], **options: Any) -> None:
    sizes = {name: value for name, value in SMALL.items() if name != "recipe"}
    wdsremux.convert(source, out, container="parquet", recipe=recipe, label_column="none", **sizes, **options)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with most of the columns."""
    columns = {name: values for name, values in COLUMNS.items() if not name.startswith("string_")}
    return write_rows(tmp_path_factory.mktemp("typed"), columns)


ODD = ("int64", "float64", "string", "bool", "date", "timestamp_ms", "list", "struct", "structs", "fixed_list")


@pytest.mark.parametrize("name", [*ODD, "time64_ns", "decimal128", "float16"])
def test_a_recipe_cannot_return_what_its_column_does_not_hold(typed: Path, name: str, tmp_path: Path) -> None:
    """One clear error, and no shard; a tar's JSON holds anything."""
    with pytest.raises(RecipeError, match=rf"sample 00000\d-000001 .*column '{name}' is .*, and cannot hold") as told:
        returned(tmp_path / "out", typed, odd_values, keep=[name])
    assert "Return a value of that type" in str(told.value)
    assert not shards_of(tmp_path / "out" / "train")


def made_columns(batch: dict[str, Any]) -> dict[str, Any]:
    """A new column of anything, and source columns of other types of Python's and numpy's."""
    count = len(batch["image"])
    batch["made"] = [{"at": i, "of": [None, "\ud800"]} for i in range(count)]
    batch["int64"] = np.arange(count)
    batch["list"] = [np.array([1.5, np.nan], np.float32) for _ in range(count)]
    batch["struct"] = [{"a": np.int8(3), "b": ("x",)} for _ in range(count)]
    batch["time64_ns"] = ["12:00:00.000000001"] * count
    return batch


def test_a_recipe_may_make_columns_and_change_them(typed: Path, tmp_path: Path) -> None:
    """A column that the source has not is JSON."""
    returned(tmp_path / "out", typed, made_columns, keep=["made", "int64", "list", "struct", "time64_ns"])
    folder = tmp_path / "out" / "train"
    made = read_column(folder, "made")
    assert made.type == pa.json_()
    assert json.loads(made[3].as_py()) == {"at": 3, "of": [None, "\ud800"]}
    assert read_column(folder, "int64").to_pylist() == [*range(10)] * 3
    assert repr(read_column(folder, "list")[7].as_py()) == "[1.5, nan]"
    assert read_column(folder, "struct")[7].as_py() == {"a": 3, "b": ["x"], "at": None}
    assert str(read_column(folder, "time64_ns").cast(TEXT)[0]) == "12:00:00.000000001"
    assert read_column(folder, "time64_ns").type == pa.time64("ns")


# Other readers


CLASSES = ["cat", "dog", "eel"]
FEATURES = {
    "label": datasets.ClassLabel(names=CLASSES),
    "fine": datasets.ClassLabel(names=["x", "y"]),
    "words": datasets.List(datasets.Value("string")),
    "grid": datasets.Array2D(shape=(2, 2), dtype="int32"),
    "both": datasets.Translation(languages=["en", "fr"]),
    "any": datasets.Json(),
    "at": datasets.Value("timestamp[us]"),
}
VALUES: dict[str, list[Any]] = {
    "label": [None if i == 3 else i % 3 for i in range(ROWS)],
    "fine": [i % 2 for i in range(ROWS)],
    "words": [["a"] * (i % 3) for i in range(ROWS)],
    "grid": [[[i, 1], [2, 3]] for i in range(ROWS)],
    "both": [{"en": f"{i}", "fr": "un"} for i in range(ROWS)],
    "any": [json.dumps({"q": i}) for i in range(ROWS)],
    "at": [datetime.datetime(2020, 1, 1, i % 24, i, 0, i) + datetime.timedelta(days=i) for i in range(ROWS)],
}
KEEP = [name for name in FEATURES if name != "label"]


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet set of two splits, of features that only `datasets` knows; the labels of one were left out."""
    folder = tmp_path_factory.mktemp("features")
    arrow = datasets.Features(FEATURES).arrow_schema
    table = pa.table(VALUES, schema=arrow)
    columns = {name: table.column(name) for name in FEATURES}
    for split in ("train", "test"):
        write_rows(folder / "source", columns, FEATURES, split=split)
    options = SMALL | {"container": "parquet", "keep": KEEP, "label_column": "label"}
    wdsremux.convert(folder / "source", folder / "out", **options)
    wdsremux.convert(folder / "source", folder / "out", split="test", **options | {"label_column": "none"})
    return folder / "out"


def test_the_shards_name_the_features_of_the_source(featured: Path) -> None:
    wanted = datasets.Features({"image": datasets.Image(), **FEATURES})
    for path in shards_of(featured / "train"):
        assert datasets.Features.from_arrow_schema(pq.read_schema(path)) == wanted
    del wanted["label"]
    for path in shards_of(featured / "test"):
        assert datasets.Features.from_arrow_schema(pq.read_schema(path)) == wanted


def check_row(row: dict[str, Any], i: int) -> None:
    """Row i of the source, as `datasets` gives it."""
    assert isinstance(row["image"], Image.Image)
    assert row["image"].size == (48 + i % 7, 40 + i % 5)
    assert {name: row[name] for name in KEEP} == {name: VALUES[name][i] for name in KEEP} | {"any": {"q": i}}


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets(featured: Path, tmp_path: Path, streaming: bool) -> None:
    """All splits at once, also where one has no labels: its rows have null."""
    loaded = datasets.load_dataset(str(featured), cache_dir=str(tmp_path), streaming=streaming)
    assert set(loaded) == {"train", "test"}
    for split, rows in loaded.items():
        assert rows.features["label"].names == CLASSES
        assert isinstance(rows.features["image"], datasets.Image)
        assert rows.features == datasets.Features({"image": datasets.Image(), **FEATURES})
        found = sorted(rows, key=lambda row: row["at"])
        for i, row in enumerate(found):
            check_row(row, i)
            assert row["label"] == (VALUES["label"][i] if split == "train" else None)
        assert len(found) == ROWS


def test_pyarrow(featured: Path) -> None:
    paths = [str(path) for path in shards_of(featured / "train")]
    rows = pa.dataset.dataset(paths).to_table(columns=["label", "fine"])
    assert sorted(rows["label"].to_pylist(), key=str) == sorted(VALUES["label"], key=str)


def test_pandas(featured: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    names = ["image", "both", "at"]  # pandas cannot concatenate the arrays that `datasets` makes of an Array2D
    parts = [pandas.read_parquet(path, columns=names) for path in shards_of(featured / "train")]
    rows = pandas.concat(parts).sort_values("at")
    assert [image["bytes"] for image in rows["image"]] == [picture(i) for i in range(ROWS)]
    assert rows["both"].tolist() == VALUES["both"]


def test_polars(featured: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    rows = polars.read_parquet(f"{featured}/train/*.parquet").sort("at")
    assert [image["bytes"] for image in rows["image"]] == [picture(i) for i in range(ROWS)]
    assert rows["both"].to_list() == VALUES["both"]


def test_duckdb(featured: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    asked = f"select image.bytes, label from '{featured}/train/*.parquet' order by \"at\""
    assert duckdb.sql(asked).fetchall() == [(picture(i), VALUES["label"][i]) for i in range(ROWS)]
