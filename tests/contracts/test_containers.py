"""What every container must keep to: nothing of a source is lost or changed, and a loader sees no difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import torch
import yaml

import wdsremux
from tests.support import containers as support
from tests.support.containers import ROWS, SMALL, Stored, check_table, key, labels, picture, read_samples, write_rows
from tests.support.reading import digests
from wdsremux.errors import OptionError, OutputError
from wdsremux.format import card
from wdsremux.format.containers import CONTAINERS
from wdsremux.inspection import info
from wdsremux.loading.reader import readahead, shard_cache
from wdsremux.loading.reader.disk_probe import Speed

Make = Callable[[str, str], Path]  #: kind of source, container -> OUT
CLASSES = ["cat", "dog", "eel"]
#: By the kind of source: its labels, and the feature that they have.
LABELS: dict[str, tuple[list[int | None], Any]] = {
    "labelled": ([7 * i for i in range(ROWS)], datasets.Value("int64")),
    "classes": ([i % 3 for i in range(ROWS)], datasets.ClassLabel(names=CLASSES)),
    "some unlabelled": ([None if i % 4 == 0 else i % 3 for i in range(ROWS)], datasets.ClassLabel(names=CLASSES)),
    "no label": ([], None),
}
KEPT = [{"text": f"row {i}" if i % 7 else None, "box": [i, 2 * i]} for i in range(ROWS)]
pytestmark = pytest.mark.filterwarnings("ignore:.* has samples without a label")


@pytest.fixture(params=CONTAINERS)
def container(request: pytest.FixtureRequest) -> str:
    """The name of each container in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes the source of a kind, once."""

    @cache
    def write(kind: str) -> Path:
        values, feature = LABELS[kind]
        columns: dict[str, Any] = {name: pa.array([row[name] for row in KEPT]) for name in KEPT[0]}
        features = {"text": datasets.Value("string"), "box": datasets.List(datasets.Value("int64"))}
        if feature is not None:
            columns["label"], features["label"] = labels(values), feature
        return write_rows(tmp_path_factory.mktemp("source"), columns, features)

    return write


@pytest.fixture(scope="module")
def converted_as(source: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Converts a kind of source into a container, once. Read-only for tests."""

    @cache
    def convert(kind: str, container: str) -> Path:
        out = tmp_path_factory.mktemp(container)
        kept: dict[str, Any] = {"keep": "text,box"} if kind in ("labelled", "no label") else {}
        wdsremux.convert(source(kind), out, container=container, **kept, **SMALL)
        return out

    return convert


def test_the_suite_knows_every_container() -> None:
    assert {name: names.suffix for name, names in CONTAINERS.items()} == support.SUFFIXES


# What lies on disk


@pytest.mark.parametrize("kind", LABELS)
def test_rows_of_the_source_are_all_there(converted_as: Make, container: str, kind: str) -> None:
    out = converted_as(kind, container)
    values, _ = LABELS[kind]
    kept = kind in ("labelled", "no label")
    assert dict(sorted(read_samples(out / "train").items())) == {
        key(i): Stored(picture(i), values[i] if values else None, KEPT[i] if kept else None) for i in range(ROWS)
    }
    assert check_table(out / "train") == ROWS
    about = wdsremux.manifest(out)
    assert about.classes == (None if kind in ("labelled", "no label") else CLASSES)
    assert sum(shard.nsamples for shard in about.shards) == ROWS
    written = json.loads((out / "train" / "index.json").read_bytes())
    assert written.get("container", "tar") == written["options"].get("container", "tar") == container
    assert ("container" in written) == ("idx_sha256" not in written["shards"][0]) == (container != "tar")


@pytest.mark.parametrize("workers", [2, 4])
def test_bytes_are_equal_for_any_number_of_workers(
    converted_as: Make, source: Callable[[str], Path], container: str, workers: int, tmp_path: Path
) -> None:
    options = SMALL | {"workers": workers, "keep": "text,box"}
    wdsremux.convert(source("labelled"), tmp_path / "out", container=container, **options)
    assert digests(tmp_path / "out") == digests(converted_as("labelled", container))


def test_what_is_there_is_verified_and_described(converted_as: Make, container: str) -> None:
    out, suffix = converted_as("some unlabelled", container), support.SUFFIXES[container]
    assert wdsremux.verify(out, decode=True) == []
    described = info.describe(out, wdsremux.manifest(out))
    counts = {(c.label, c.name): c.samples for c in described.labels}
    values = [-1 if label is None else label for label in LABELS["some unlabelled"][0]]
    assert counts == {(i, CLASSES[i] if i >= 0 else None): values.count(i) for i in range(-1, 3)}
    assert described.size_bytes == sum(path.stat().st_size for path in support.shards_of(out / "train"))
    _, header, text = (out / card.CARD).read_text().split("---\n", 2)
    about = yaml.safe_load(header)
    assert about["configs"][0]["data_files"] == [{"split": "train", "path": f"train/train-*{suffix}"}]
    assert f"# {wdsremux.manifest(out).source['name']}, as " in text
    assert (out / card.TIMM).exists() == (container == "tar")
    assert {path.suffix for path in (out / "train").iterdir()} - {"", ".npy", ".json", ".jsonl"} == (
        {".tar", ".idx"} if container == "tar" else {suffix}
    )


def test_much_text(container: str, tmp_path: Path) -> None:
    """10 MB a row, more than is held in memory of a block; an empty text and none are two things."""
    texts = ["läuft " * 1_500_000, "x" * 10_000_000, "", None, "y" * 10_000_000]
    source = write_rows(tmp_path / "source", {"text": pa.array(texts)}, rows=len(texts))
    wdsremux.convert(source, tmp_path / "out", container=container, keep="text", **SMALL | {"samples_per_shard": 5})
    found = read_samples(tmp_path / "out" / "train")
    assert [found[key(i)].kept["text"] for i in range(len(texts))] == texts
    assert check_table(tmp_path / "out" / "train") == len(texts)


# What a loader makes of it


def epoch(out: Path, backend: str = "torchvision", **options: Any) -> list[Any]:
    """The batches of two epochs."""
    defaults: dict[str, Any] = {"size": 32, "augment": "train", "num_threads": 1, "tail": "even", "seed": 5}
    with wdsremux.DataLoader(out, 8, backend=backend, **defaults | options) as loader:
        return [batch for _ in range(2) for batch in loader]


def assert_equal(batches: list[Any], others: list[Any]) -> None:
    for batch, other in zip(batches, others, strict=True):
        for one, another in zip(batch, other, strict=True):
            assert torch.equal(one, another) if isinstance(one, torch.Tensor) else one == another


@pytest.fixture(params=["plain", "verify_crc", "whole shards"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Options of a loader, for each way in which it reads."""
    if request.param != "whole shards":
        yield {"verify_crc": request.param == "verify_crc"}
        return
    held: list[int] = []
    load = shard_cache.WholeShards._load
    monkeypatch.setattr(readahead, "measure", lambda *_: Speed(1.0, 1e-12))

    def noted(self: shard_cache.WholeShards, shard: int) -> None:
        held.append(shard)
        load(self, shard)

    monkeypatch.setattr(shard_cache.WholeShards, "_load", noted)
    yield {"window": 2}
    assert held, "no shard was read as a whole"


def test_batches_are_equal_to_the_bit(converted_as: Make, backend: str, way: dict[str, Any]) -> None:
    fields = ("image", "label", "key", "id")
    tar, other = (epoch(converted_as("labelled", name), backend, fields=fields, **way) for name in CONTAINERS)
    assert_equal(tar, other)
    keys = [name for _, _, names, _ in other for name in names]
    assert sorted(keys) == sorted(2 * [key(i) for i in range(ROWS)])
    assert keys[:ROWS] != sorted(keys[:ROWS])  # shuffled
    assert {tuple(row.tolist()) for images, *_ in other for row in images[:, :, 0, 0]} != {(0.0, 0.0, 0.0)}


def test_kept_columns_are_the_same_dicts(converted_as: Make, container: str, way: dict[str, Any]) -> None:
    for kind in ("labelled", "no label"):
        batches = epoch(converted_as(kind, container), fields=("json", "key", "label", "image"), **way)
        rows = [row for batch in batches for row in zip(*batch[:3], strict=True)]
        found = {name: (kept, int(label)) for kept, name, label in rows}
        numbers = LABELS[kind][0] or [-1] * ROWS
        assert found == {key(i): (KEPT[i], numbers[i]) for i in range(ROWS)}


def test_restart_rows(source: Callable[[str], Path], backend: str, tmp_path: Path) -> None:
    for name in CONTAINERS:
        options = SMALL | {"recipe": "square:64", "restart_rows": True}
        wdsremux.convert(source("labelled"), tmp_path / name, container=name, **options)
    assert_equal(*(epoch(tmp_path / name, backend) for name in CONTAINERS))


# Refusals


def other_than(container: str) -> str:
    return next(name for name in CONTAINERS if name != container)


def test_one_output_has_one_container(source: Callable[[str], Path], container: str, tmp_path: Path) -> None:
    """Of all its splits, and at a second run of the same one; --overwrite may change that of the only split."""
    folder = write_rows(tmp_path / "source", {"label": labels(range(ROWS))})
    write_rows(folder, {"label": labels(range(5))}, rows=5, split="test")
    out, other = tmp_path / "out", other_than(container)
    wdsremux.convert(folder, out, container=container, **SMALL)
    before, index = digests(out), (out / "train" / "index.json").read_bytes()
    for begun in (False, True):
        if begun:  # as if it had been killed before its end
            (out / "train" / "index.json").unlink()
        for split in ("test", "train"):
            with pytest.raises(OutputError, match=f"Use container='{container}'") as refused:
                wdsremux.convert(folder, out, split=split, container=other, **SMALL)
            assert other in str(refused.value)
    (out / "train" / "index.json").write_bytes(index)
    assert digests(out) == before
    assert wdsremux.manifest(out).container == container
    wdsremux.convert(folder, out, container=other, overwrite=True, **SMALL)
    assert {path.suffix for path in support.shards_of(out / "train")} == {support.SUFFIXES[other]}
    assert not list((out / "train").glob("*.idx")) or other == "tar"
    assert (out / card.TIMM).exists() == (other == "tar")
    assert wdsremux.verify(out) == []


@pytest.mark.parametrize("name", ["image", "label"])
def test_a_kept_column_cannot_be_called_as_one_of_ours(name: str, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "source", {"label": labels(range(ROWS))})
    with pytest.raises(OptionError, match=rf"Invalid keep \(got '{name}'\).*image and label"):
        wdsremux.convert(source, tmp_path / "out", container="parquet", keep=name, **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_container_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"Invalid container \(got 'zip'\).*tar.*parquet"):
        wdsremux.convert(tmp_path, tmp_path / "out", container="zip")
    assert not (tmp_path / "out").exists()
