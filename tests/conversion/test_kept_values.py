"""What --keep keeps is the value itself; where Python cannot have it, its row is a reject with column and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.conftest import tiny_jpeg
from tests.support.kinds import write_tar
from tests.support.reading import check_split, read_split
from tests.support.sources import open_source
from wdsremux.errors import SourceError

NANOSECOND = pa.array([1, None, 86_399_999_999_999, 1_000], pa.int64()).cast(pa.time64("ns"))
FAR = pa.array([5, 10**9, None, 7], pa.int32()).cast(pa.date32())
MARS = pa.array([0, 1, 2, None], pa.int64()).cast(pa.timestamp("us", tz="Mars/Olympus"))


def write(folder: Path, **columns: pa.Array) -> Path:
    folder.mkdir()
    images = [{"bytes": tiny_jpeg(i), "path": f"{i}.jpg"} for i in range(4)]
    pq.write_table(
        pa.table({"image": pa.array(images), "label": pa.array([0, 1, 2, 3])} | columns), folder / "a.parquet"
    )
    return folder


def kept(out: Path) -> dict[int, Any]:
    """What is kept of each row that is a sample."""
    return {int(key[7:13]): json.loads(content["json"]) for key, content in read_split(out / "train").items()}


def convert(source: Path, out: Path, **options: Any) -> list[dict[str, Any]]:
    """The rejects."""
    given: dict[str, Any] = {"recipe": "copy", "workers": 1, "max_rejects": "100%", "keep": "x"}
    wdsremux.convert(source, out, **given | options)
    check_split(out / "train", 4)
    return [json.loads(line) for line in (out / "train" / "rejects.jsonl").read_text().splitlines()]


EXACT: dict[str, tuple[pa.Array, list[Any]]] = {
    "times to the nanosecond": (NANOSECOND, ["00:00:00.000000001", None, "23:59:59.999999999", "00:00:00.000001000"]),
    "moments to the nanosecond": (
        pa.array([1, 0, None, 1_000], pa.int64()).cast(pa.timestamp("ns")),
        ["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00", None, "1970-01-01 00:00:00.000001"],
    ),
    "durations": (
        pa.array([1, 0, None, 10**9], pa.int64()).cast(pa.duration("ns")),
        ["0 days 00:00:00.000000001", "0 days 00:00:00", None, "0 days 00:00:01"],
    ),
    "maps": (
        pa.array([[("a", 1)], [], None, [("b", None)]], pa.map_(pa.string(), pa.int64())),
        [[["a", 1]], [], None, [["b", None]]],
    ),
    "uuids": (
        pa.array([b"\0" * 16, None, b"\1" * 16, b"\xff" * 16], pa.uuid()),
        [
            "00000000-0000-0000-0000-000000000000",
            None,
            "01010101-0101-0101-0101-010101010101",
            "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12,
        ],
    ),
    "categories": (pa.array(["a", "b", None, "a"]).dictionary_encode(), ["a", "b", None, "a"]),
}


@pytest.mark.parametrize("kind", EXACT)
def test_values_are_kept_as_they_are(kind: str, tmp_path: Path) -> None:
    values, expected = EXACT[kind]
    assert convert(write(tmp_path / "s", x=values), tmp_path / "out") == []
    assert kept(tmp_path / "out") == {row: {"x": value} for row, value in enumerate(expected)}


BEYOND: dict[str, tuple[pa.Array, list[int]]] = {
    "dates beyond Python's": (FAR, [1]),
    "moments beyond Python's": (pa.array([0, 2**52, 1, None], pa.int64()).cast(pa.timestamp("ms")), [1]),
    "an unknown time zone": (MARS, [0, 1, 2]),
    "dates in lists": (pa.ListArray.from_arrays([0, 1, 2, 3, 4], FAR), [1]),
    "times in lists": (pa.ListArray.from_arrays([0, 1, 2, 3, 4], NANOSECOND), [0, 2]),
    "dates in objects": (pa.StructArray.from_arrays([FAR], ["d"]), [1]),
}


@pytest.mark.parametrize("kind", BEYOND)
def test_values_that_python_cannot_have_are_rejects(kind: str, tmp_path: Path) -> None:
    values, rows = BEYOND[kind]
    rejects = convert(write(tmp_path / "s", x=values), tmp_path / "out")
    assert [(line["row"], line["column"], line["where"]) for line in rejects] == [
        (row, "x", f"{row}.jpg") for row in rows
    ]
    assert all(line["reason"].startswith("column 'x' holds a value of ") for line in rejects)
    assert set(kept(tmp_path / "out")) == set(range(4)) - set(rows)


def test_columns_that_nobody_asked_for_are_not_looked_at(tmp_path: Path) -> None:
    odd = {"m": EXACT["maps"][0], "u": EXACT["uuids"][0], "f": FAR, "z": MARS, "ext": pa.array(["{"] * 4, pa.json_())}
    source = write(tmp_path / "s", **odd)
    assert convert(source, tmp_path / "out", keep=()) == []
    assert len(read_split(tmp_path / "out" / "train")) == 4


def test_keep_can_be_given_in_any_way(tmp_path: Path) -> None:
    source = write(tmp_path / "s", a=pa.array([1, 2, 3, 4]), b=pa.array(["w", "x", "y", "z"]))
    for number, keep in enumerate(["a,b", ["a", "b"], ["a,b"], ("a", "b", "a")]):
        convert(source, tmp_path / f"out{number}", keep=keep)
        assert kept(tmp_path / f"out{number}")[1] == {"a": 2, "b": "x"}


@pytest.mark.parametrize("marked", [True, False])
def test_a_further_image_cannot_be_kept(marked: bool, tmp_path: Path) -> None:
    masks = [{"bytes": tiny_jpeg(9), "path": None}] * 4
    features = {"image": datasets.Image(), "mask": datasets.Image()}
    table = pa.table({"image": masks, "mask": masks}, schema=datasets.Features(features).arrow_schema)
    (tmp_path / "s").mkdir()
    pq.write_table(table if marked else table.replace_schema_metadata(), tmp_path / "s" / "a.parquet")
    with pytest.raises(SourceError, match=r"column 'mask' contains .*, which --keep cannot store"):
        open_source(str(tmp_path / "s"), "train", image_column="image", keep=("mask",))


def test_files_beside_pictures_and_in_tars_are_kept(tmp_path: Path) -> None:
    contents = {"txt": b"a caption\n", "json": b'{"n": [1, 2.50, null]}'}
    wanted = {"txt": "a caption", "json": {"n": [1, 2.5, None]}}
    write_tar(tmp_path / "t" / "a.tar", [(f"{i}", {"jpg": tiny_jpeg(i)} | contents) for i in range(4)])
    (tmp_path / "p").mkdir()
    for i in range(4):
        for name, data in ({"jpg": tiny_jpeg(i)} | contents).items():
            (tmp_path / "p" / f"{i}.{name}").write_bytes(data)
    for folder in ("t", "p"):
        assert convert(tmp_path / folder, tmp_path / f"out-{folder}", keep="txt,json") == []
        assert kept(tmp_path / f"out-{folder}") == dict.fromkeys(range(4), wanted)
    assert open_source(str(tmp_path / "p"), "train", keep=("txt", "json")).notes == ()
    (note,) = open_source(str(tmp_path / "p"), "train").notes
    assert "4 beside an image (--keep 'txt') (0.txt, 1.txt, 2.txt, …)" in note
