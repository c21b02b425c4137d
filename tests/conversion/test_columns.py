"""Which columns are read, and what their values become."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import datasets
import pyarrow as pa
import pytest

from tests.conftest import WriteSource, tiny_jpeg
from tests.support.rows import as_json
from tests.support.sources import open_source
from wdsremux.conversion.recipes.base import Sample, Settings
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.source.base import Column, Survey, fixed
from wdsremux.conversion.source.columns import Columns, choose
from wdsremux.conversion.source.selection import Selection
from wdsremux.errors import SourceError

LABEL = datasets.ClassLabel(names=["x"])
NUMBER, TEXT = datasets.Value("int64"), datasets.Value("string")


def features(**columns: Any) -> datasets.Features:
    return datasets.Features({"image": datasets.Image()} | columns)


def survey(columns: datasets.Features) -> Survey:
    """What a look at files with these columns finds."""
    reader: Any = None
    return Survey((), fixed(""), {name: Column(feature) for name, feature in columns.items()}, reader)


def chosen(columns: datasets.Features, **options: Any) -> Columns:
    return warned(columns, **options)[0]


def warned(columns: datasets.Features, **options: Any) -> tuple[Columns, list[str]]:
    return chosen_of(survey(columns), **options)


def chosen_of(
    found: Survey, image: str | None = None, label: str | None = None, keep: tuple[str, ...] = (), made: bool = False
) -> tuple[Columns, list[str]]:
    selection = Selection(source="flowers", image_column=image, label_column=label, keep=keep)
    return choose(found, selection, recipe_makes=made)


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
        ({"label": datasets.Value("float32"), "cls": NUMBER}, "label"),
        ({"labels": datasets.List(NUMBER), "cls": NUMBER}, "cls"),
        ({"Label": NUMBER}, "Label"),
        ({"target": NUMBER}, "target"),
        ({"class": TEXT}, "class"),
        ({"fine_label": NUMBER}, "fine_label"),
        ({"category_id": NUMBER}, "category_id"),
        ({"label": datasets.Value("bool")}, "label"),
        ({"label": datasets.Value("null")}, "label"),
        ({"genus": TEXT}, None),
        ({"label_url": TEXT, "target_size": NUMBER, "classifier": TEXT}, None),
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
    assert "no image column. Its columns: label (int64), box (List(int64))" in refused(
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
    assert "which --keep cannot store. Omit it" in refused(features(extra=feature), image="image", keep=("extra",))


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
    kept = [as_json(item) for item in samples if isinstance(item, Sample)]
    assert kept == [f'{{"{name}":{text}}}'.encode(), f'{{"{name}":null}}'.encode()]


# What looks like a label and is not taken


@pytest.mark.parametrize(
    "feature",
    [datasets.List(LABEL), datasets.List(NUMBER), {"id": NUMBER}, datasets.Value("binary"), datasets.Value("date32")],
    ids=str,
)
@pytest.mark.parametrize("name", ["label", "labels", "Class", "target", "fine_label"])
def test_a_column_that_looks_like_a_label_and_is_none_is_asked_about(name: str, feature: Any) -> None:
    if isinstance(feature, datasets.Value) and feature.dtype == "binary":
        assert chosen(features(**{name: feature})).label is None  # it may only be another image
        return
    said = refused(features(**{name: feature}))
    assert f"column {name!r} is" in said
    assert f"--label-column none; --keep {name!r}" in said
    assert chosen(features(**{name: feature}), label="none").label is None


def test_a_list_of_class_labels_looks_like_a_label_under_any_name() -> None:
    assert "column 'objects' is List(ClassLabel), not a single label" in refused(features(objects=datasets.List(LABEL)))


def test_a_second_column_that_looks_like_a_label_is_told() -> None:
    columns, warnings = warned(features(kind=LABEL, label=NUMBER, other=NUMBER, category=TEXT))
    assert columns.label == "kind"
    assert [text.partition(" also looks like a label")[0] for text in warnings] == [
        "column 'label' (int64)",
        "column 'category' (string)",
    ]
    assert warned(features(kind=LABEL, label=NUMBER), keep=("label",)) == (Columns("image", "kind", ("label",)), [])
    assert warned(features(kind=LABEL, label=NUMBER), label="label")[1] == []


def test_several_that_are_only_like_a_label_are_asked_about() -> None:
    assert "2 label columns: fine_label, coarse_label" in refused(features(fine_label=NUMBER, coarse_label=TEXT))


def test_a_column_called_none_can_be_the_label() -> None:
    assert chosen(features(none=NUMBER), label="none").label == "none"


# Images that nobody marked as such

BYTES, PATH = datasets.Value("binary"), datasets.Value("string")


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        ({"image": {"bytes": BYTES, "path": PATH}}, "image"),
        ({"photo": {"path": PATH, "bytes": datasets.Value("large_binary")}}, "photo"),
        ({"picture": {"bytes": BYTES}}, "picture"),
        ({"x": BYTES}, "x"),
        ({"img": BYTES, "thumb_hash": BYTES}, "img"),
        ({"image": pa.binary_view()}, "image"),
        ({"image": pa.dictionary(pa.int32(), pa.binary())}, "image"),
        ({"image": {"bytes": BYTES, "path": PATH}, "blob": BYTES}, "image"),
    ],
    ids=str,
)
def test_the_image_column_without_metadata(columns: dict[str, Any], image: str) -> None:
    label = {"label": NUMBER}
    reader: Any = None
    found = Survey((), fixed(""), {n: Column(f) for n, f in (columns | label).items()}, reader)
    for named in (None, image):
        assert chosen_of(found, image=named)[0] == Columns(image, "label")


def test_two_columns_that_may_be_the_image() -> None:
    reader: Any = None
    found = Survey((), fixed(""), {"front": Column(BYTES), "back": Column(BYTES)}, reader)
    with pytest.raises(SourceError, match=r"2 image columns: front, back\. Choose one with --image-column"):
        chosen_of(found)


# Files that differ


@pytest.mark.parametrize("option", [{}, {"keep": ("id",)}])
def test_a_column_that_not_every_file_has(option: dict[str, Any]) -> None:
    reader: Any = None
    found = Survey(
        (),
        fixed(""),
        {
            "image": Column(datasets.Image()),
            "label": Column(NUMBER, lacking=None if option else "b.parquet"),
            "id": Column(NUMBER, lacking="b.parquet"),
        },
        reader,
    )
    with pytest.raises(SourceError, match=r"b\.parquet does not have the column '(label|id)' that other files have"):
        chosen_of(found, **option)
