"""What a source says of itself, what its rows are, and one sentence for each thing that can be wrong with it."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import WriteSource, tiny_jpeg
from tests.support.sources import open_source
from wdsremux.conversion.source import Fragment, Source
from wdsremux.errors import SourceError

IMAGES = [tiny_jpeg(i) for i in range(7)]
FLOAT = (datasets.Value("float32"), [0.5] * 7)
TAGS = (datasets.List(datasets.Value("string")), [["a", "b"]] * 7)


def labels(source: Source) -> list[int | None]:
    return [
        label for i in range(len(source.fragments)) for rows in source.rows(i, 64) for label in rows.labels.to_pylist()
    ]


def write_table(folder: Path, features: dict[str, Any], values: dict[str, Any]) -> Path:
    folder.mkdir()
    table = pa.table(values, schema=datasets.Features(features).arrow_schema)
    pq.write_table(table, folder / "train.parquet")
    return folder


def test_fragments_are_row_groups(write_source: WriteSource) -> None:
    source = open_source(str(write_source(IMAGES, range(7), rows_a_group=3, files=2)), "train")
    assert [(f.file, f.part, f.parts, f.rows) for f in source.fragments] == [(0, 0, 1, 3), (1, 0, 2, 3), (1, 1, 2, 1)]
    assert sum(fragment.rows or 0 for fragment in source.fragments) == 7
    assert source.size_bytes > sum(map(len, IMAGES))
    assert source.description["files"] == 2


def test_rows_come_in_order_and_undecoded(write_source: WriteSource) -> None:
    images = [b"no image at all", *IMAGES * 20]
    source = open_source(str(write_source(images, range(141), rows_a_group=100)), "train")
    seen: list[bytes] = []
    for number, fragment in enumerate(source.fragments):
        first = 0
        for rows in source.rows(number, 64):
            assert rows.first == first
            assert rows.labels.to_pylist() == list(range(len(seen), len(seen) + len(rows)))
            assert rows.paths.to_pylist() == [f"{i}.jpg" for i in range(len(seen), len(seen) + len(rows))]
            assert rows.nbytes >= sum(len(image) for image in rows.images.to_pylist())
            seen += rows.images.to_pylist()
            first += len(rows)
        assert first == fragment.rows
    assert seen == images


def test_a_pickled_source_reads_the_same(write_source: WriteSource) -> None:
    """That is how it comes to a worker."""
    source = open_source(str(write_source(IMAGES, range(7), rows_a_group=3)), "train")
    pickled = pickle.dumps(source)
    assert len(pickled) < 50_000
    assert labels(pickle.loads(pickled)) == list(range(7))


def test_a_glob(write_source: WriteSource) -> None:
    folder = write_source(IMAGES, range(7), files=2)
    source = open_source(f"{folder}/data/*.parquet", "any")
    assert labels(source) == list(range(7))
    assert source.description["name"] == "data"


def test_description_has_no_absolute_path(write_source: WriteSource) -> None:
    source = open_source(str(write_source(IMAGES, name="flowers")), "train")
    assert source.description["name"] == "flowers"
    assert os.sep not in repr(source.description)


# Labels


def test_class_labels(write_source: WriteSource) -> None:
    source = open_source(str(write_source(IMAGES[:4], [0, 1, -1, None], classes=["cat", "dog"])), "train")
    assert (source.columns.label, source.classes) == ("label", ["cat", "dog"])
    assert labels(source) == [0, 1, -1, None]


def test_integer_labels_have_no_names(write_source: WriteSource) -> None:
    source = open_source(str(write_source(IMAGES, [5, 900, *range(5)])), "train")
    assert source.classes is None
    assert labels(source) == [5, 900, *range(5)]


def test_string_labels_get_a_vocabulary(write_source: WriteSource) -> None:
    names = ["dog", "cat", None, "eel", "cat", "dog", "dog"]
    source = open_source(str(write_source(IMAGES, names, rows_a_group=2)), "train")
    assert source.classes == ["cat", "dog", "eel"]
    assert labels(source) == [1, 0, None, 2, 0, 1, 1]


def test_no_label(write_source: WriteSource) -> None:
    source = open_source(str(write_source(IMAGES, columns={"score": FLOAT})), "train")
    assert (source.columns.label, source.classes) == (None, None)
    assert labels(source) == [None] * 7


def test_a_column_named_label_that_is_none_is_asked_about(write_source: WriteSource) -> None:
    folder = str(write_source(IMAGES, columns={"labels": TAGS}))
    with pytest.raises(
        SourceError, match=r"--label-column, or convert without labels with --label-column none; --keep 'labels'"
    ):
        open_source(folder, "train")
    assert open_source(folder, "train", label_column="none").columns.label is None


def test_a_chosen_label(write_source: WriteSource) -> None:
    other = (datasets.Value("uint8"), list(range(7)))
    source = open_source(str(write_source(IMAGES, [0] * 7, columns={"fine": other})), "train", label_column="fine")
    assert labels(source) == list(range(7))


# Images


def test_null_images(write_source: WriteSource) -> None:
    """A null, and a row with a path but without bytes."""
    folder = write_source(IMAGES[:3])
    path = next(folder.glob("data/*.parquet"))
    table = pq.read_table(path)
    images = [None, {"bytes": None, "path": "x.jpg"}, {"bytes": IMAGES[2], "path": None}]
    pq.write_table(pa.table({"image": images}, schema=table.schema), path)
    (rows,) = open_source(str(folder), "train").rows(0, 64)
    assert rows.images.to_pylist() == [None, None, IMAGES[2]]
    assert rows.paths.to_pylist() == [None, "x.jpg", None]


def test_a_binary_column_can_be_chosen(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "binary", {"jpg": datasets.Value("binary")}, {"jpg": IMAGES})
    (rows,) = open_source(str(folder), "train", image_column="jpg").rows(0, 64)
    assert rows.images.to_pylist() == IMAGES


# The revision


def test_revision_changes_with_a_file(write_source: WriteSource) -> None:
    first, again, other = (
        open_source(str(write_source(images, [0] * 7, name=name)), "train").description["revision"]
        for name, images in (("a", IMAGES), ("b", IMAGES), ("c", [*IMAGES[:6], IMAGES[6] + b"."]))
    )
    assert first == again
    assert first != other


# What can be wrong


def refused(source: object, split: str = "train", **columns: Any) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(str(source), split, **columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_source(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere")
    assert "no file matches" in refused(tmp_path / "*.parquet")
    (tmp_path / "empty").mkdir()
    assert "cannot be opened as a data set" in refused(tmp_path / "empty")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.csv").write_text("a,b\n1,2\n")
    assert (
        "contains no parquet, Arrow, image or WebDataset tar files, only files that `datasets` reads as csv"
        in refused(tmp_path / "text")
    )


def test_no_such_split(write_source: WriteSource) -> None:
    said = refused(write_source(IMAGES), "valid")
    assert said.endswith("has no split 'valid'. Its splits (from the names of shards): train")


def test_no_rows(write_source: WriteSource) -> None:
    assert "has no rows" in refused(write_source([]))


def test_image_columns(tmp_path: Path, write_source: WriteSource) -> None:
    plain = write_table(tmp_path / "plain", {"n": datasets.Value("int64")}, {"n": [1]})
    assert "has no image column. Its columns: n (int64)" in refused(plain)
    mask = (datasets.Image(), [{"bytes": image, "path": None} for image in IMAGES])
    two = write_source(IMAGES, range(7), columns={"mask": mask, "score": FLOAT}, name="two")
    assert "has 2 image columns: image, mask. Choose one with --image-column" in refused(two)
    assert open_source(str(two), "train", image_column="mask").columns.image == "mask"
    assert "has no column 'img'. Its columns: image, label, mask, score" in refused(two, image_column="img")
    for column in ("label", "score"):
        assert f"column {column!r} of {two} is " in refused(two, image_column=column)


def test_label_columns(write_source: WriteSource) -> None:
    folder = write_source(IMAGES, columns={"score": FLOAT, "tags": TAGS})
    assert "has no column 'nope'. Its columns: image, score, tags" in refused(folder, label_column="nope")
    for column in ("score", "tags", "image"):
        assert "not a single label" in refused(folder, label_column=column)
    kind = (datasets.ClassLabel(names=["x"]), [0] * 7)
    two = write_source(IMAGES, [0] * 7, classes=["y"], columns={"kind": kind}, name="two")
    assert "has 2 label columns: label, kind. Choose one with --label-column" in refused(two)
    assert open_source(str(two), "train", label_column="kind").classes == ["x"]


def test_damaged_files(write_source: WriteSource) -> None:
    folder = write_source(IMAGES)
    path = next(folder.glob("data/*.parquet"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as parquet" in refused(folder)
    path.write_bytes(whole[:50] + bytes(100) + whole[150:])
    with pytest.raises(SourceError, match=r"row group 0 of .* could not be read"):
        list(open_source(str(folder), "train").rows(0, 64))


def test_a_label_that_no_table_holds(write_source: WriteSource) -> None:
    folder = write_source(IMAGES, columns={"big": (datasets.Value("uint64"), [2**64 - 1] * 7)})
    (rows,) = open_source(str(folder), "train", label_column="big").rows(0, 64)
    assert rows.labels.to_pylist() == [None] * 7
    assert {fault.column for fault in rows.faults.values()} == {"big"}
    assert len(rows.faults) == 7


def test_fewer_rows_than_promised(write_source: WriteSource) -> None:
    """The file is replaced between plan and work: by a shorter row group, by fewer of them, by nothing."""
    folder = write_source(IMAGES, rows_a_group=3)

    def reopened() -> Source:
        return open_source(str(write_source(IMAGES, rows_a_group=3)), "train")

    shorter = reopened()
    write_source(IMAGES[:2])
    with pytest.raises(SourceError, match=r"row group 0 of .* contains 2 rows, not 3 as recorded"):
        list(shorter.rows(0, 64))
    fewer = reopened()
    write_source(IMAGES[:2])
    with pytest.raises(SourceError, match=r"row group 2 of .* no longer exists"):
        list(fewer.rows(2, 64))
    gone = reopened()
    next(folder.glob("data/*.parquet")).unlink()
    with pytest.raises(SourceError, match=r"row group 0 of .* could not be read"):
        list(gone.rows(0, 64))


def test_an_empty_row_group_is_read_as_nothing(write_source: WriteSource) -> None:
    source = open_source(str(write_source(IMAGES)), "train")
    hollow = replace(source, fragments=(Fragment(0, 0, 1, 0, 0),))
    assert list(hollow.rows(0, 64)) == []
