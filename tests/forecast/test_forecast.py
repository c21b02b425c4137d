"""`wdsremux plan` from end to end: what it says is what the conversion that follows is like."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wdsremux
from tests.conftest import WriteSource, jpeg, tiny_jpeg
from tests.support.plans import hurry, look_at_few
from wdsremux.conversion.engines import forkserver
from wdsremux.errors import ConversionError, OptionError, SourceError
from wdsremux.forecast import places
from wdsremux.forecast.report import Forecast


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """The workers' libraries are loaded once for all tests here."""
    with forkserver.hold():
        yield


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    look_at_few(monkeypatch)


def bytes_of(out: Path) -> int:
    """Of all files of a converted split."""
    return sum(path.stat().st_size for path in (out / "train").iterdir() if path.is_file())


@pytest.mark.parametrize("container", ["tar", "parquet"])
def test_the_size_is_that_of_the_conversion(
    container: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a quarter of the rows, sorted by class; each choice as well as what is asked for."""
    monkeypatch.setattr(places, "LEAST_ROWS", 80)
    monkeypatch.setattr(places, "MOST_ROWS", 80)
    monkeypatch.setattr(places, "LOCAL_PLACES", 40)
    options: dict[str, Any] = {"recipe": "resize:96", "container": container, "workers": 2}
    figures = wdsremux.plan(sample, **options).json()
    assert figures["source"]["rows"] == 300
    assert figures["source"]["rows_looked_at"] == 80
    names = [figures["name"], *(each["name"] for each in figures["alternatives"])]
    other = "parquet" if container == "tar" else "tar"
    assert names[1:] == ["resize:64", "resize:128", "fast", "quality 80", "copy", f"container {other}"]
    for each in (figures, *figures["alternatives"]):
        if each["name"] in ("resize:64", "resize:128", "fast"):
            continue  # what is said of them is found in the same way
        wdsremux.convert(sample, tmp_path / each["name"], **{**options, **each["options"]})
        truth = bytes_of(tmp_path / each["name"])
        low, high = each["size_bytes_interval"]
        assert each["size_bytes"] == pytest.approx(truth, rel=0.05)
        assert 0.99 * low <= truth <= 1.01 * high
        assert high - low < 0.25 * truth
        assert each["samples"] == pytest.approx(300)
        assert each["loader_images_per_s"] > 0
        assert 0 < each["hours_interval"][0] <= each["hours"] <= each["hours_interval"][1]
    assert 30 < figures["psnr_db"] < 60
    assert next(each for each in figures["alternatives"] if each["name"] == "copy")["psnr_db"] is None


@pytest.mark.usefixtures("few")
def test_nothing_is_left_behind(write_source: WriteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_source([tiny_jpeg(number) for number in range(30)], range(30))
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    state = np.random.get_state()[1].tolist(), __import__("torch").get_rng_state().tolist()  # type: ignore[index]
    found = wdsremux.plan(source, workers=1)
    assert isinstance(found, Forecast)
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before
    assert os.listdir(tmp_path / "work") == os.listdir(tmp_path / "temporary") == []
    assert state == (np.random.get_state()[1].tolist(), __import__("torch").get_rng_state().tolist())  # type: ignore[index]
    json.dumps(found.json(), allow_nan=False)
    assert str(found).startswith("source    source, split train: 30 rows in 1 fragment")
    assert repr(found).startswith("wdsremux.Forecast(source source, recipe resize:256")
    assert "wdsremux.Forecast" in found._repr_html_()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("classes", "labels", "line"),
    [
        (None, None, "label     none: no column looks like one"),
        (["all"], [0] * 40, "label     column 'label': the only ClassLabel; 1 class, 1 of them seen"),
        (
            [f"n{number:04d}" for number in range(1_000)],
            range(0, 1_000, 25),
            "label     column 'label': the only ClassLabel; 1,000 classes, 40 of them seen",
        ),
        (None, [7] * 40, "label     column 'label': int64, by its name; 1 values seen"),
    ],
    ids=["unlabelled", "one class", "a thousand classes", "numbers"],
)
def test_labels(classes: list[str] | None, labels: Any, line: str, write_source: WriteSource) -> None:
    source = write_source([tiny_jpeg(number) for number in range(40)], labels, classes=classes)
    report = str(wdsremux.plan(source, workers=1, recipe="resize:8"))
    assert line in report.splitlines()
    assert "pixels    8 to 8 wide, 8 to 8 high, 8 x 8 in the middle" in report


@pytest.mark.usefixtures("few")
def test_rejects_are_expected(write_source: WriteSource) -> None:
    images = [b"no image" if number % 10 == 3 else tiny_jpeg(number) for number in range(60)]
    source = write_source(images, range(60))
    found = wdsremux.plan(source, workers=1, recipe="resize:8")
    asked = found.costs.expected[0]
    assert (asked.rejects.value, asked.samples.value) == (6, 54)
    assert found.costs.looked.formats == {"JPEG": 0.9, "unreadable": 0.1}
    assert "rejects   about 6: not an image of any known format" in str(found)
    assert found.costs.looked.warnings == ()  # any share allows 10
    strict = wdsremux.plan(source, workers=1, recipe="resize:8", max_rejects=5)
    assert "about 6 rows would be rejected, and the conversion stops at 6. Find" in strict.costs.looked.warnings[0]
    assert "max_rejects=" in strict.costs.looked.warnings[0]


@pytest.mark.usefixtures("few")
def test_a_recipe_of_the_users(write_source: WriteSource, tmp_path: Path) -> None:
    """That makes two samples of one row and none of the next."""
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "def twice(batch):\n"
        "    kept = [row for row in batch['__row__'] if row % 2 == 0]\n"
        "    return {'image': [batch['image'][row] for row in kept for _ in 'ab'],\n"
        "            'label': [batch['label'][row] for row in kept for _ in 'ab'],\n"
        "            '__row__': [row for row in kept for _ in 'ab']}\n"
    )
    source = write_source([tiny_jpeg(number) for number in range(60)], range(60), rows_a_group=20)
    options: dict[str, Any] = {"recipe": f"{recipe}:twice", "workers": 1}
    found = wdsremux.plan(source, **options)
    wdsremux.convert(source, tmp_path / "out", **options)
    assert found.costs.expected[0].samples.value == wdsremux.manifest(tmp_path / "out").nsamples == 60
    assert found.costs.expected[0].size_bytes.value == pytest.approx(bytes_of(tmp_path / "out"), rel=0.05)
    recipe.write_text("def twice(batch):\n    raise ValueError('not today')\n")
    with pytest.raises(ConversionError, match="not today"):
        wdsremux.plan(source, **options)


def test_a_limit_is_what_is_planned(write_source: WriteSource, few: None) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 40, 3), np.uint8)
    source = write_source([jpeg(each) for each in pixels], range(30), rows_a_group=10)
    found = [wdsremux.plan(source, workers=1, recipe="copy", limit=limit) for limit in (None, 15)]
    assert [each.costs.looked.rows.value for each in found] == [30, 15]
    assert found[1].costs.expected[0].size_bytes.value == pytest.approx(
        found[0].costs.expected[0].size_bytes.value / 2, rel=0.2
    )


@pytest.mark.parametrize(
    ("source", "options", "kind", "text"),
    [
        ("nowhere/at/all", {}, SourceError, "nowhere/at/all"),
        (None, {"split": "valid"}, SourceError, "valid"),
        (None, {"recipe": "shrink"}, OptionError, r"Invalid recipe \(got 'shrink'\)"),
        (None, {"train_speed": 0}, OptionError, r"Invalid train_speed \(got 0\)"),
        (None, {"epochs": 0.5}, OptionError, r"Invalid epochs \(got 0.5\)"),
        (None, {"progress": "yes"}, OptionError, "Invalid progress"),
        (None, {"overwrite": True}, TypeError, "unexpected keyword argument 'overwrite'"),
        (None, {"recipee": "copy"}, TypeError, "Did you mean 'recipe'"),
        (None, {"label_column": "image"}, SourceError, "image"),
    ],
)
def test_what_is_wrong_is_said_once(
    source: str | None, options: dict[str, Any], kind: type[Exception], text: str, write_source: WriteSource
) -> None:
    given = source or write_source([tiny_jpeg(number) for number in range(4)], range(4))
    with pytest.raises(kind, match=text):
        wdsremux.plan(given, **options)


def test_what_cannot_be_converted_at_all(write_source: WriteSource) -> None:
    source = write_source([b"no image"] * 20, range(20))
    with pytest.raises(
        ConversionError, match="none of the 20 rows of source that were looked at can be converted: not"
    ):
        wdsremux.plan(source, workers=1)


def test_warnings_name_arguments_of_a_call(write_source: WriteSource, few: None) -> None:
    columns = {"target": (__import__("datasets").Value("string"), ["a", "b"] * 5)}
    source = write_source([tiny_jpeg(number) for number in range(10)], range(10), columns=columns)
    found = wdsremux.plan(source, workers=1, recipe="copy")
    assert any("label_column=" in each for each in found.costs.looked.warnings)
    assert "--label-column" not in str(found)
