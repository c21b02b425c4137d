"""A folder of images listed by us is the one that `datasets` finds; and what becomes of folders' names."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import load_dataset_builder

from tests.conftest import tiny_jpeg
from wdsremux.conversion.source import Source, listing
from wdsremux.conversion.source.opening import open_source
from wdsremux.errors import SourceError

PLAIN = {  # folders that are listed here
    "flat": ["2.jpg", "1.png", "10.JPEG"],
    "classes": ["dog/1.jpg", "cat/1.jpg", "cat/sub/2.webp"],
    "splits": ["train/cat/1.jpg", "test/dog/2.jpg", "val/3.jpg", "train/4.jpg"],
    "names of splits inside": ["train/cat/test_1.jpg", "train/cat/train.jpg"],
    "other files": ["1.jpg", "2.jpg", "notes.txt", "config.json", "3.jpg"],
    "hidden": ["1.jpg", ".hidden.jpg", ".git/2.jpg", "__pycache__/3.jpg", "_a/4.jpg", "a/.b/5.jpg"],
    "metadata": ["1.jpg", "metadata.csv", "more/2.jpg", "more/metadata.csv"],
    "odd names": ["a[1]*/b c?.jpg", "ä/1.jpg", "trainer/2.jpg", "contest/3.jpg", "a.b.jpg"],
    "a card": ["1.jpg", "README.md"],
}
DOUBTFUL = {  # those that are left to `datasets`
    "splits by name": ["train_1.jpg", "test_1.jpg"],
    "splits deep down": ["data/train/1.jpg", "data/test/1.jpg"],
    "both": ["train/1.jpg", "extra/2.jpg"],
    "two names of one split": ["val/1.jpg", "dev/2.jpg"],
    "splits in splits": ["train/test/1.jpg"],
    "mostly text": ["1.jpg", "1.txt", "2.txt"],
    "zip": ["1.jpg", "a.zip"],
    "none": ["1.txt"],
}


def write(root: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"---\nlicense: mit\n---\n" if name == "README.md" else tiny_jpeg(number))
    return root


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_as_datasets_finds(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", PLAIN[name])
    expected = load_dataset_builder(str(folder)).config.data_files
    for split in expected:
        opened = listing.find(str(folder), str(split))
        assert opened is not None
        assert list(opened.files) == list(map(str, expected[split]))
        assert (opened.name, opened.root) == ("photos", str(folder))
        assert opened.builder.config.data_files.keys() == set(map(str, expected))


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_left_to_datasets(name: str, tmp_path: Path) -> None:
    assert listing.find(str(write(tmp_path / "photos", DOUBTFUL[name])), "train") is None


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
def test_a_card_that_says_where_the_data_is(card: str, tmp_path: Path) -> None:
    folder = write(tmp_path, ["1.jpg"])
    (folder / card).write_text("---\nlicense: mit\nconfigs:\n- config_name: default\n---\n")
    assert listing.find(str(folder), "train") is None


def test_linked_files_but_no_linked_folders(tmp_path: Path) -> None:
    """As `datasets`; a folder that links to one above it would never end."""
    folder = write(tmp_path / "photos", ["1.jpg"])
    (folder / "2.jpg").symlink_to(folder / "1.jpg")
    (folder / "3.jpg").symlink_to(folder / "gone.jpg")
    (folder / "again").symlink_to(folder)
    opened = listing.find(str(folder), "train")
    assert opened is not None
    assert opened.names == ("1.jpg", "2.jpg")
    assert load_dataset_builder(str(folder)).config.data_files["train"] == list(opened.files)


def test_no_such_split(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", PLAIN["splits"])
    with pytest.raises(SourceError, match=r"has no split 'valid'. Its splits: train, validation, test"):
        open_source(str(folder), "valid")


# What becomes of folders' names


def labels(source: Source) -> list[int | None]:
    return [label for i in range(len(source.fragments)) for r in source.rows(i, 64) for label in r.labels.to_pylist()]


def test_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    """Or a label of one split would mean another class than that of another."""
    folder = write(
        tmp_path, ["train/ant/1.jpg", "train/cat/2.jpg", "test/bee/3.jpg", "test/cat/4.jpg", "val/cat/5.jpg"]
    )
    found = {split: open_source(str(folder), split) for split in ("train", "test", "validation")}
    assert all(source.classes == ["ant", "bee", "cat"] for source in found.values())
    assert {split: labels(source) for split, source in found.items()} == {
        "train": [0, 2],
        "test": [1, 2],
        "validation": [2],
    }


@pytest.mark.parametrize(
    "names",
    [
        ["1.jpg", "2.jpg"],
        ["train/1.jpg", "test/2.jpg"],  # `datasets` would label these "train" and "test"
        ["cat/1.jpg", "cat/2.jpg"],
        ["cat/1.jpg", "2.jpg"],
        ["cat/1.jpg", "dog/sub/2.jpg"],
    ],
    ids=lambda names: "+".join(names),
)
def test_folders_that_are_no_labels(names: list[str], tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "photos", names)), "train")
    assert (source.classes, source.columns.label) == (None, None)


def test_the_revision_changes_with_what_is_listed(tmp_path: Path) -> None:
    """Another name, size or label; nothing else, so that a copy of the folder is the same source."""

    def revision(name: str, names: list[str], metadata: str | None = None) -> str:
        folder = write(tmp_path / name, names)
        if metadata:
            (folder / "metadata.jsonl").write_text(metadata)
        return str(open_source(str(folder), "train").description["revision"])

    first = revision("a", ["cat/1.jpg", "dog/2.jpg"])
    assert first == revision("b", ["cat/1.jpg", "dog/2.jpg"])
    assert first != revision("c", ["cat/1.jpg", "dog/3.jpg"])
    assert first != revision("d", ["cat/1.jpg", "eel/2.jpg"])
    described = [f'{{"file_name": "1.jpg", "label": "{name}"}}' for name in ("cat", "dog")]
    assert revision("e", ["1.jpg"], described[0]) != revision("f", ["1.jpg"], described[1])


def test_a_file_that_two_patterns_find_is_read_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", ["train/train_0/1.jpg", "train/train_1/2.jpg"])
    assert len(load_dataset_builder(str(folder)).config.data_files["train"]) == 4  # `datasets` would read them twice
    source = open_source(str(folder), "train")
    assert [fragment.rows for fragment in source.fragments] == [2]
    assert labels(source) == [0, 1]
