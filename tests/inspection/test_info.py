"""The card names the splits for `load_dataset`; `info` counts classes and judges the mixing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import wdsremux
from tests.conftest import ConvertTiny, WriteSource, tiny_jpeg
from wdsremux.errors import FormatError
from wdsremux.format import card, manifest, samples
from wdsremux.format.manifest import Manifest, Shard
from wdsremux.inspection import info


def header(out: Path) -> dict[str, Any]:
    """The card's YAML."""
    _, text, _ = (out / card.CARD).read_text().split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def split_of(folder: Path, labels: list[list[int]], classes: list[str] | None = None, **changes: Any) -> Manifest:
    """A split of shards with these labels, as far as a report looks at it."""
    made = Manifest(
        split="train",
        nsamples=sum(map(len, labels)),
        nrejects=0,
        ndropped=0,
        classes=classes,
        source={"name": "flowers", "kind": "parquet", "revision": "ab"} | changes,
        recipe={"name": "copy"},
        options={"quality": 90, "subsampling": "420", "label_column": "label"},
        seed=0,
        environment={"wdsremux": "1.2.3"},
        shards=[Shard(f"train-{i:06d}.tar", len(shard), 10_240, "", "") for i, shard in enumerate(labels)],
        files={"samples.npy": {"sha256": ""}, "rejects.jsonl": {"sha256": ""}},
    )
    (folder / "train").mkdir(parents=True)
    (folder / "train" / manifest.NAME).write_bytes(made.dumps())
    rows = [(shard, 0, 0, label, 0, 1, 1, 0, 0, 0) for shard, those in enumerate(labels) for label in those]
    with open(folder / "train" / samples.NAME, "wb") as file:
        samples.write(file, [np.array(rows, samples.SAMPLE)], len(rows))
    return made


def test_card_of_two_splits(converted: Path) -> None:
    found = header(converted)
    names = manifest.read(converted / "train").classes or []
    assert found.pop("dataset_info") == {
        "features": [
            {"name": "jpg", "dtype": "image"},
            {"name": "cls", "dtype": {"class_label": {"names": {str(i): name for i, name in enumerate(names)}}}},
            {"name": "__key__", "dtype": "string"},
            {"name": "__url__", "dtype": "string"},
        ]
    }
    assert found == {
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "test", "path": "test/test-*.tar"},
                    {"split": "train", "path": "train/train-*.tar"},
                ],
            }
        ]
    }
    text = (converted / card.CARD).read_text()
    assert "with the recipe `resize:256`" in text
    assert "| train | 300 | 12 |" in text
    assert "| test | 60 | 3 |" in text


def test_licence_and_citation_are_carried_over(tmp_path: Path) -> None:
    split_of(tmp_path, [[0]], license='cc-by-4.0: "quoted"', citation="@article{x,\n title={Y}}\n")
    card.write(tmp_path)
    assert header(tmp_path)["license"] == 'cc-by-4.0: "quoted"'
    assert "## Citation\n\n```\n@article{x,\n title={Y}}\n```\n" in (tmp_path / card.CARD).read_text()


def test_timm(converted: Path) -> None:
    info = json.loads((converted / card.TIMM).read_text())
    assert info["splits"]["test"] == {
        "name": "test",
        "num_samples": 60,
        "filenames": [f"test/test-{i:06d}.tar" for i in range(3)],
        "shard_lengths": [20, 20, 20],
    }


def test_counts_and_mixing(tmp_path: Path) -> None:
    """Class 1 is 2 of 8 samples and 2 of the 4 in the first shard: twice its share. Label -1 is none."""
    split = info.describe(tmp_path, split_of(tmp_path, [[0, 0, 1, 1], [0, 0, 0, -1]], ["cat", "dog", "eel"]))
    assert [(c.label, c.name, c.samples) for c in split.labels] == [(-1, None, 1), (0, "cat", 5), (1, "dog", 2)]
    assert split.worst_mixing == 2.0
    assert (split.nsamples, split.nshards, split.size_bytes) == (8, 2, 20_480)


@pytest.mark.parametrize("labels", [[[0, 1]], [[0], [0]], [[-1], [-1]]])
def test_mixing_of_one_shard_or_class_says_nothing(tmp_path: Path, labels: list[list[int]]) -> None:
    assert info.describe(tmp_path, split_of(tmp_path, labels)).worst_mixing is None


def test_perfect_mixing(tmp_path: Path) -> None:
    assert info.describe(tmp_path, split_of(tmp_path, [[0, 1], [1, 0]])).worst_mixing == 1.0


def test_the_sample_is_counted(converted: Path) -> None:
    test, train = (info.describe(converted, split) for split in manifest.read_all(converted))
    assert [c.samples for c in train.labels] == [30] * 10
    assert [c.samples for c in test.labels] == [6] * 10
    assert train.labels[2].name == "chelsea"
    assert train.size_bytes == sum(path.stat().st_size for path in (converted / "train").glob("*.tar"))


def test_nothing_converted(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"contains no finished split\. Run `wdsremux convert"):
        manifest.read_all(tmp_path)


def test_a_split_that_is_not_finished_is_no_part(convert_tiny: ConvertTiny, write_source: WriteSource) -> None:
    out = convert_tiny(5)
    (out / "valid" / ".wdsremux").mkdir(parents=True)
    assert [split.split for split in manifest.read_all(out)] == ["train"]


def test_unlabelled_card(write_source: WriteSource, tmp_path: Path) -> None:
    wdsremux.convert(write_source([tiny_jpeg(0)]), tmp_path / "out", recipe="copy", workers=1)
    assert "Each sample is `KEY.jpg`." in (tmp_path / "out" / card.CARD).read_text()
    (split,) = (info.describe(tmp_path / "out", m) for m in manifest.read_all(tmp_path / "out"))
    assert [(c.label, c.samples) for c in split.labels] == [(-1, 1)]


def mixed(tmp_path: Path, shards: int, rows: list[int], each: int, seed: int | None) -> info.SplitInfo:
    """A split of shards of `each` of these labels: dealt out at random, or in their order if there is no seed."""
    dealt = np.array(rows) if seed is None else np.random.default_rng(seed).permutation(rows)
    labels = [dealt[i * each : (i + 1) * each].tolist() for i in range(shards)]
    return info.describe(tmp_path, split_of(tmp_path, labels))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("shards", "classes", "each"), [(8, 2, 2), (16, 10, 20), (50, 100, 100), (12, 10, 1_000)])
def test_chance_is_well_mixed(tmp_path: Path, shards: int, classes: int, each: int, seed: int) -> None:
    rows = [number % classes for number in range(shards * each)]
    assert mixed(tmp_path, shards, rows, each, seed).well_mixed is True


def test_a_rare_class_is_no_fault(tmp_path: Path) -> None:
    """One sample of it: some shard has 20 times its share, however it is dealt."""
    split = mixed(tmp_path, 20, [0] * 999 + [1] + [2] * 1_000, 100, 5)
    assert (split.well_mixed, split.worst_mixing) == (True, 20.0)


@pytest.mark.parametrize(("shards", "classes", "each"), [(8, 2, 8), (16, 10, 20), (50, 100, 100), (12, 10, 1_000)])
def test_a_sorted_source_is_poorly_mixed(tmp_path: Path, shards: int, classes: int, each: int) -> None:
    assert mixed(tmp_path, shards, sorted(i % classes for i in range(shards * each)), each, None).well_mixed is False


def test_shards_of_some_classes_each_are_poorly_mixed(tmp_path: Path) -> None:
    """As tasks make them that read eight large fragments of a sorted source."""
    rng = np.random.default_rng(0)
    labels = [rng.choice(rng.choice(100, 8, replace=False), 200).tolist() for _ in range(20)]
    assert info.describe(tmp_path, split_of(tmp_path, labels)).well_mixed is False


@pytest.mark.parametrize(("shards", "classes", "each"), [(7, 2, 100), (8, 1, 100), (10, 100, 50)])
def test_a_small_set_is_not_judged(tmp_path: Path, shards: int, classes: int, each: int) -> None:
    assert mixed(tmp_path, shards, [i % classes for i in range(shards * each)], each, 0).well_mixed is None
