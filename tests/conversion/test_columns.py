"""Which columns are read, and what their values become."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import datasets
import pyarrow as pa
import pytest

from tests.conftest import WriteSource, tiny_jpeg
from wdsremux.conversion.recipes import Sample, Settings, make_recipe
from wdsremux.conversion.source.columns import Columns, choose
from wdsremux.conversion.source.opening import open_source
from wdsremux.errors import SourceError

LABEL = datasets.ClassLabel(names=["x"])
NUMBER, TEXT = datasets.Value("int64"), datasets.Value("string")


def features(**columns: Any) -> datasets.Features:
    return datasets.Features({"image": datasets.Image()} | columns)


def chosen(columns: datasets.Features, **options: Any) -> Columns:
    given: dict[str, Any] = {"image": None, "label": None, "keep": (), "made": False} | options
    return choose(columns, "flowers", **given)


def refused(columns: datasets.Features, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        chosen(columns, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Which


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"kind": LABEL, "label": NUMBER}, "kind"),
        ({"label": NUMBER, "labels": NUMBER}, "label"),
        ({"labels": TEXT}, "labels"),
        ({"cls": NUMBER}, "cls"),
        ({"label": datasets.Value("float32"), "cls": NUMBER}, "cls"),
        ({"label": datasets.List(NUMBER)}, None),
        ({"genus": TEXT}, None),
        ({}, None),
    ],
)
def test_the_label_column(columns: dict[str, Any], label: str | None) -> None:
    assert chosen(features(**columns)).label == label


def test_what_is_ambiguous_is_asked_for() -> None:
    assert "2 label columns: fine, coarse. Choose one with --label-column" in refused(
        features(fine=LABEL, coarse=LABEL)
    )
    assert chosen(features(fine=LABEL, coarse=LABEL), label="coarse").label == "coarse"
    assert "2 image columns: image, mask. Choose one with --image-column" in refused(features(mask=datasets.Image()))
    assert chosen(features(mask=datasets.Image()), image="mask").image == "mask"


def test_what_is_missing_is_named() -> None:
    columns = features(label=NUMBER)
    for option in ({"image": "img"}, {"label": "img"}, {"keep": ("label", "img")}):
        assert "flowers has no column 'img'. Its columns: image, label" in refused(columns, **option)
    assert "no image column. Its columns: label (int64), box (List)" in refused(
        datasets.Features({"label": NUMBER, "box": datasets.List(NUMBER)})
    )


def test_a_recipe_may_make_columns_that_are_kept() -> None:
    assert chosen(features(id=NUMBER), keep=("id", "sharpness"), made=True).kept == ("id",)


def test_each_column_is_read_once() -> None:
    columns = chosen(features(label=NUMBER, id=NUMBER), keep=("label", "id", "label"))
    assert columns.kept == ("label", "id")
    assert columns.names == ["image", "label", "id"]


@pytest.mark.parametrize(
    "feature",
    [
        datasets.Image(),
        datasets.Audio(),
        datasets.Video(),
        datasets.Value("binary"),
        datasets.Value("large_binary"),
        datasets.Value("fixed_size_binary[16]"),
        datasets.List(datasets.Image()),
        {"deep": datasets.List({"er": datasets.Value("binary")})},
        [{"er": datasets.Audio()}],
    ],
    ids=str,
)
def test_what_json_cannot_hold_is_not_kept(feature: Any) -> None:
    assert "which --keep cannot write as JSON. Leave it out" in refused(
        features(extra=feature), image="image", keep=("extra",)
    )


# Their values

KEPT: dict[str, tuple[Any, Any, str]] = {
    "number": (NUMBER, 2**60, "1152921504606846976"),
    "real": (datasets.Value("float32"), 0.5, "0.5"),
    "nan": (datasets.Value("float64"), float("nan"), "null"),
    "infinity": (datasets.List(datasets.Value("float64")), [float("-inf"), 1.0], "[null,1.0]"),
    "truth": (datasets.Value("bool"), True, "true"),
    "text": (TEXT, 'ä "quoted"\n', '"ä \\"quoted\\"\\n"'),
    "class": (LABEL, 0, "0"),
    "date": (datasets.Value("date32"), datetime.date(2020, 1, 2), '"2020-01-02"'),
    "moment": (
        datasets.Value("timestamp[us, tz=UTC]"),
        datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC),
        '"2020-01-02 03:00:00+00:00"',
    ),
    "price": (datasets.Value("decimal128(10,2)"), decimal.Decimal("1.20"), '"1.20"'),
    "boxes": (datasets.List(datasets.List(datasets.Value("int32"))), [[1, 2], [], None], "[[1,2],[],null]"),
    "objects": (
        datasets.List({"name": TEXT, "box": datasets.List(NUMBER)}),
        [{"name": None, "box": [1]}],
        '[{"name":null,"box":[1]}]',
    ),
    "matrix": (datasets.Array2D((2, 2), "int32"), [[1, 2], [3, 4]], "[[1,2],[3,4]]"),
    "nothing": (datasets.Value("null"), None, "null"),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept_values(name: str, write_source: WriteSource) -> None:
    feature, value, text = KEPT[name]
    folder = write_source([tiny_jpeg(0), tiny_jpeg(1)], columns={name: (feature, [value, None])})
    source = open_source(str(folder), "train", label_column="class" if name == "class" else None, keep=(name,))
    samples = [item for rows in source.rows(0, 64) for item in make_recipe("copy", Settings()).bake(rows)]
    kept = [item.kept for item in samples if isinstance(item, Sample)]
    assert kept == [f'{{"{name}":{text}}}'.encode(), f'{{"{name}":null}}'.encode()]


def test_labels_of_other_integers() -> None:
    columns = Columns("image", "label", ())
    for dtype in (pa.int8(), pa.uint8(), pa.int32(), pa.uint64()):
        table = pa.table({"label": pa.array([3, None, 0], dtype)})
        assert columns.labels(table).to_pylist() == [3, None, 0]


def test_words_are_trimmed() -> None:
    """Those of a tar are files, which often end with a line break."""
    columns = Columns("image", "txt", (), ("cat", "dog"))
    table = pa.table({"txt": pa.array(["dog\n", None, " cat", "cat"], pa.large_string())})
    assert columns.labels(table).to_pylist() == [1, None, 0, 0]


def test_a_word_that_was_not_there_before() -> None:
    columns = Columns("image", "txt", (), ("cat", "dog"))
    with pytest.raises(SourceError, match=r"txt 'eel' was not there when the labels were counted. The source changed"):
        columns.labels(pa.table({"txt": ["dog", None, "eel"]}))
