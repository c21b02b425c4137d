"""Folders on this machine: which files are data, of which kind, in which split, and what folders' names mean."""

from __future__ import annotations

import gzip
import os
import pickle
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import load_dataset_builder
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from tests.support.folders import FAULTS, found, labels, refused, surveyed, write
from wdsremux.conversion.source import hub_files
from wdsremux.conversion.source.base import Opened, Survey
from wdsremux.conversion.source.finding import listing
from wdsremux.conversion.source.finding.splits import split_folders
from wdsremux.conversion.source.kinds.images import image_survey as images
from wdsremux.errors import SourceError

PLAIN = {  # folders of pictures of which `datasets` finds the same files in the same splits
    "flat": ["2.jpg", "1.png", "10.JPEG"],
    "classes": ["dog/1.jpg", "cat/1.jpg", "cat/sub/2.webp"],
    "splits": ["train/cat/1.jpg", "test/dog/2.jpg", "val/3.jpg", "train/4.jpg"],
    "names of splits inside": ["train/cat/test_1.jpg", "train/cat/train.jpg"],
    "other files": ["1.jpg", "2.jpg", "notes.txt", "config.json", "3.jpg"],
    "hidden": ["1.jpg", ".hidden.jpg", ".git/2.jpg", "__pycache__/3.jpg", "_a/4.jpg", "a/.b/5.jpg"],
    "metadata": ["1.jpg", "metadata.csv", "more/2.jpg", "more/metadata.csv"],
    "odd names": ["a[1]*/b c?.jpg", "ä/1.jpg", "trainer/2.jpg", "contest/3.jpg", "a.b.jpg"],
    "a card": ["1.jpg", "README.md"],
    "parquet": [f"data/{part}-of-00002.parquet" for part in ("train-00000", "train-00001", "x-00000", "x-00001")],
    "parquet by folders": ["data/train/0.parquet", "data/train/1.parquet", "data/val_1/0.parquet"],
    "parquet by files": ["train.parquet", "my-test-1.parquet", "dev_2.parquet"],
    "parquet of no split": ["b.parquet", "a/1.parquet", "trainer.parquet"],
    "arrow": ["train/1.arrow", "test/1.arrow"],
    "tars": ["flowers-train-0001.tar", "flowers-train-0000.tar", "flowers-val-0000.tar"],
}  # fmt: skip


def splits(folder: Path) -> dict[str, list[str]]:
    """The files of each split, by names relative to the folder."""
    with pytest.raises(SourceError, match="Its splits") as caught:
        found(folder, "none")
    opened = found(folder, str(caught.value).rpartition(": ")[2].split(", ")[0])
    return {split: [opened.relative(file) for file in files] for split, files in opened.splits.items()}


def classes(survey: Survey) -> tuple[str, ...]:
    return survey.columns["label"].names[0]


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_as_datasets_finds(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", PLAIN[name])
    expected = load_dataset_builder(str(folder)).config.data_files
    for split in map(str, expected):
        opened = found(folder, split)
        assert list(opened.files) == list(map(str, expected[split]))
        assert (opened.name, opened.root, opened.split) == ("photos", str(folder), split)
        assert opened.splits.keys() == set(map(str, expected))


# Kinds


@pytest.mark.parametrize("name", ["a.parquet", "a.PARQUET", "a.arrow", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2",
                                  "a.tbz2", "a.tar.xz", "a.TXZ"])  # fmt: skip
def test_data_files_win_over_pictures(name: str, tmp_path: Path) -> None:
    opened = found(write(tmp_path, [f"data/{name}", "readme/1.png", "b.zip", "metadata.csv", "LICENSE", "README.md"]))
    kind, words = {"p": ("parquet", "parquet files"), "a": ("arrow", "Arrow files")}.get(
        name.lower()[2], ("tars", "tars")
    )
    assert (opened.kind, opened.names) == (kind, (f"data/{name}",))
    assert opened.untaken == {
        f"images beside {words}": ("readme/1.png",),
        f"zip files beside {words}": ("b.zip",),
        "of another kind": ("LICENSE", "metadata.csv"),
    }


@pytest.mark.parametrize("names", [["a.parquet", "b.tar"], ["a.parquet", "x/b.arrow"], ["a.arrow", "b.tar.gz"]])
def test_data_of_two_kinds(names: list[str], tmp_path: Path) -> None:
    reason = refused(write(tmp_path, names))
    assert all(name in reason for name in names)
    assert "Give the folder of one of them, or a glob" in reason


@pytest.mark.parametrize("names", [["1.txt"], [], ["metadata.csv"], ["README.md"], [".1.jpg"]])
def test_no_data(names: list[str], tmp_path: Path) -> None:
    assert listing.find(str(tmp_path), write(tmp_path, names), "train") is None


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["1.jpg", "metadata.parquet"], "images"),
        (["images/1.jpg", "metadata.parquet"], "images"),
        (["docs/1.jpg", "data/metadata.parquet"], "parquet"),
        (["metadata.parquet"], "parquet"),
    ],
)
def test_metadata_in_parquet_describes_pictures_only_where_they_lie(
    names: list[str], kind: str, tmp_path: Path
) -> None:
    assert found(write(tmp_path, names)).kind == kind


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("key", ["configs", "dataset_info"])
def test_a_card_that_says_where_the_data_is(card: str, key: str, tmp_path: Path) -> None:
    folder = write(tmp_path, ["1.jpg"])
    (folder / card).write_text(f"---\nlicense: mit\n{key}:\n- config_name: default\n---\n")
    assert listing.find(str(folder), folder, "train") is None


def test_the_hubs_cache(tmp_path: Path) -> None:
    folder = write(tmp_path / "datasets--our--flowers", ["snapshots/abc/data/train/1.jpg", "refs/main", "blobs/1"])
    opened = found(folder)
    assert (opened.name, opened.root) == ("our/flowers", str(folder / "snapshots" / "abc"))
    assert opened.names == ("data/train/1.jpg",)
    write(folder, ["snapshots/def/data/train/1.jpg"])
    assert "with 2 snapshots of one data set: abc, def. Give one of them" in refused(folder)


# What is passed over


def test_links(tmp_path: Path) -> None:
    """Linked folders are entered; one that links to a folder above it would never end."""
    folder = write(tmp_path / "photos", ["1.jpg", "cat/2.jpg", ".git/3.jpg"])
    write(tmp_path / "elsewhere", ["5.jpg"])
    for name, target in {
        "2.jpg": "1.jpg",
        "3.jpg": "gone.jpg",
        "a.jpg": "b.jpg",
        "b.jpg": "a.jpg",
        "more": "../elsewhere",
        "again": ".",
        "cat/up": "../..",
        "cat/itself": "../cat",
        ".hidden": "../elsewhere",
    }.items():
        (folder / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(folder / "socket"))
    opened = found(folder)
    assert opened.names == ("1.jpg", "2.jpg", "cat/2.jpg", "more/5.jpg")
    assert opened.untaken == {
        "a broken link": ("3.jpg", "a.jpg", "b.jpg"),
        "a link to a folder above it": ("again/", "cat/itself/", "cat/up/", "more/back/"),
        "hidden": (".git/", ".hidden/"),
        "of another kind": ("socket",),
    }


def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    folder = write(tmp_path, ["1.jpg", "closed/2.jpg"])
    (folder / "closed").chmod(0)
    if os.access(folder / "closed", os.R_OK):
        pytest.skip("root may list everything")
    assert "closed cannot be listed: Permission denied" in refused(folder)
    (folder / "closed").chmod(0o700)


@pytest.mark.parametrize("name", [b"\xff.jpg", b"train/\xff/1.jpg", b"\xff.parquet"])
def test_a_name_that_is_not_utf8(name: bytes, tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert "is not UTF-8. Rename it" in refused(tmp_path)


def test_a_name_that_is_not_utf8_of_what_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, ["1.jpg", "a.txt"])
    (tmp_path / "a.txt").rename(os.fsdecode(bytes(tmp_path) + b"/\xff.txt"))
    assert surveyed(tmp_path).untaken == {"of another kind": ("\\udcff.txt",)}


def test_what_lies_beside_splits(tmp_path: Path) -> None:
    folder = write(
        tmp_path, ["train/1.jpg", "test/2.jpg", "logo.png", "metadata.csv", "a.txt", "train/b.txt", "test/c.txt"]
    )
    assert found(folder).untaken == {
        "outside the folders of splits": ("logo.png", "metadata.csv"),
        "of another kind": ("a.txt",),
    }
    assert surveyed(folder).untaken == {"of another kind": ("train/b.txt",)}


# Splits of pictures

NAMED = {
    "train": ("train", "training", "Train", "TRAINING"),
    "validation": ("validation", "valid", "val", "dev", "Val", "VALIDATION"),
    "test": ("test", "testing", "eval", "evaluation", "Test"),
}


@pytest.mark.parametrize(("name", "split"), [(name, split) for split, names in NAMED.items() for name in names])
@pytest.mark.parametrize("pattern", ["{}/1.jpg", "{}/cat/1.jpg", "ILSVRC/Data/{}/cat/1.jpg", "cat/{}/1.jpg"])
def test_folders_that_are_splits(name: str, split: str, pattern: str, tmp_path: Path) -> None:
    other = next(word for word in NAMED if word != split)
    files = [pattern.format(name), pattern.format(other)]
    assert splits(write(tmp_path, files)) == {split: [files[0]], other: [files[1]]}


DIVIDED: Mapping[str, tuple[Sequence[str], Mapping[str, int]]] = {  # files, and how many each split has
    "by class": (["cat/train/1.jpg", "cat/test/1.jpg", "dog/train/l/1.jpg"], {"train": 2, "test": 1}),
    "zips": (["train/1.jpg", "train/a.zip", "test/b.zip"], {"train": 2, "test": 1}),
    "two names": (["val/1.jpg", "dev/2.jpg", "train/3.jpg"], {"train": 1, "validation": 2}),
    "a class called so": (["train/train/1.jpg", "train/cat/1.jpg", "test/test/2.jpg"], {"train": 2, "test": 1}),
    "names of pictures": (["train_1.jpg", "test_1.jpg", "test.jpg"], {"train": 3}),
    "words in folders": (["train_images/1.jpg", "test-2/1.jpg"], {"train": 2}),
    "one beside classes": (["train/1.jpg", "cat/2.jpg"], {"train": 2}),
    "a class without": (["vehicles/train/1.jpg", "animals/2.jpg"], {"train": 2}),
    "only one": (["Val/1.jpg"], {"validation": 1}),
    "folders without pictures": (["train/1.jpg", "test/2.jpg", "docs/3.txt"], {"train": 1, "test": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", DIVIDED)
def test_divisions(name: str, tmp_path: Path) -> None:
    files, counts = DIVIDED[name]
    assert {split: len(of) for split, of in splits(write(tmp_path, files)).items()} == counts


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.jpg", "test/2.jpg", "unlabeled/3.jpg"],
        ["Train/1.jpg", "VAL/2.jpg", "data/deep/3.jpg"],
        ["cat/train/1.jpg", "cat/test/2.jpg", "dog/3.jpg"],
        ["cat/test/1.jpg", "dog/3.jpg"],
        ["cat/train/1.jpg", "cat/test/2.jpg", "dog/train/3.jpg", "dog/test/3.jpg", "dog/more/4.jpg"],
    ],
    ids=lambda names: "+".join(names),
)
def test_divisions_that_cannot_be_told(names: list[str], tmp_path: Path) -> None:
    reason = refused(write(tmp_path / "photos", names))
    assert "the split of each image is unclear" in reason
    assert f"Give one folder, such as {tmp_path}/photos/" in reason


def test_folders_within_folders_without_end() -> None:
    with pytest.raises(SourceError, match="has thousands of nested folders"):
        split_folders(["a/" * 1_500 + "b"], "photos")


def test_no_such_split(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", ["Train/1.jpg", "Test/2.jpg"])
    assert refused(folder, "val") == (
        f"{folder} has no split 'val'. Its splits (from the folders Train and Test): test, train"
    )
    folder = write(tmp_path / "more", ["1.jpg"])
    assert refused(folder, "test") == f"{folder} has no split 'test'. Its splits (no split is named): train"


# Splits of data files

DATA: Mapping[str, tuple[Sequence[str], Mapping[str, Sequence[str]], Sequence[str]]] = {  # files, splits, left
    "capitals": (["TRAIN.parquet", "Test-0.parquet"], {"train": ["TRAIN.parquet"], "test": ["Test-0.parquet"]}, []),
    "twice": (["train/train_0/1.parquet"], {"train": ["train/train_0/1.parquet"]}, []),
    "outermost": (["train/test/1.parquet"], {"train": ["train/test/1.parquet"]}, []),
    "some without": (["train.parquet", "extra.parquet"], {"train": ["train.parquet"]}, ["extra.parquet"]),
    "both in one": (["train_test.parquet", "a.parquet"], {"train": ["a.parquet", "train_test.parquet"]}, []),
    "shards": (
        ["data/all.x-00000-of-00001.parquet", "data/Train-00000-of-00001.parquet", "train.parquet"],
        {"train": ["data/Train-00000-of-00001.parquet"], "all.x": ["data/all.x-00000-of-00001.parquet"]},
        ["train.parquet"],
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_words_of_data_files(name: str, tmp_path: Path) -> None:
    files, expected, left = DATA[name]
    assert splits(write(tmp_path, files)) == expected
    assert [name for names in found(tmp_path).untaken.values() for name in names] == left


def test_a_shard_that_names_no_split(tmp_path: Path) -> None:
    assert "split names consist of" in refused(write(tmp_path, ["data/a b-00000-of-00001.parquet"]))


# What becomes of folders' names


LABELLED: Mapping[str, tuple[Sequence[str], Sequence[str | None]]] = {  # files in their order, and their classes
    "classes": (["cat/1.jpg", "dog/2.jpg"], ["cat", "dog"]),
    "folders in classes": (["cat/1.jpg", "dog/sub/2.jpg"], ["cat", "dog"]),
    "a picture beside": (["1.jpg", "cat/1.jpg", "dog/2.jpg"], [None, "cat", "dog"]),
    "below a place": (["a/b/cat/1.jpg", "a/b/dog/2.jpg"], ["cat", "dog"]),
    "by class": (["cat/train/1.jpg", "cat/val/3.jpg", "dog/train/l/2.jpg"], ["cat", "dog"]),
    "ImageNet": (["D/CLS/train/n1/1.jpg", "D/CLS/train/n2/2.jpg", "D/CLS/val/3.jpg"], ["n1", "n2"]),
    "a class called train": (["cat/1.jpg", "train/1.jpg"], ["cat", "train"]),
    "one in a split": (["Train/cat/1.jpg", "Train/train/1.jpg", "Test/train/2.jpg"], ["cat", "train"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELLED)
def test_labels(name: str, tmp_path: Path) -> None:
    files, expected = LABELLED[name]
    survey = surveyed(write(tmp_path, files))
    assert isinstance(survey.columns["label"].feature, datasets.ClassLabel)
    assert [None if label is None else classes(survey)[label] for label in labels(survey)] == expected


def test_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    """Or a label of one split would mean another class than that of another."""
    folder = write(
        tmp_path, ["train/ant/1.jpg", "train/cat/2.jpg", "test/bee/3.jpg", "test/cat/4.jpg", "val/cat/5.jpg"]
    )
    surveys = {split: surveyed(folder, split) for split in ("train", "test", "validation")}
    assert all(classes(survey) == ("ant", "bee", "cat") for survey in surveys.values())
    assert {split: labels(survey) for split, survey in surveys.items()} == {
        "train": [0, 2],
        "test": [1, 2],
        "validation": [2],
    }


@pytest.mark.parametrize(
    "names",
    [["1.jpg", "2.jpg"], ["train/1.jpg", "test/2.jpg"], ["cat/1.jpg", "cat/2.jpg"], ["cat/1.jpg", "2.jpg"]],
    ids=lambda names: "+".join(names),
)
def test_folders_that_are_no_labels(names: list[str], tmp_path: Path) -> None:
    assert list(surveyed(write(tmp_path / "photos", names)).columns) == ["image"]


def test_the_revision_changes_with_what_is_listed(tmp_path: Path) -> None:
    """Another name, size or label; nothing else, so that a copy of the folder is the same source."""

    def revision(name: str, names: list[str], more: Mapping[str, str] | None = None) -> str:
        folder = write(tmp_path / name, names)
        for file, text in (more or {}).items():
            (folder / file).write_text(text)
        return (found := surveyed(folder)).revision(list(found.columns))

    first = revision("a", ["cat/1.jpg", "dog/2.jpg"])
    assert first == revision("b", ["cat/1.jpg", "dog/2.jpg"], {"notes.txt": "of no picture"})
    others = [
        first,
        revision("c", ["cat/1.jpg", "dog/3.jpg"]),
        revision("d", ["cat/1.jpg", "eel/2.jpg"]),
        revision("e", ["cat/1.jpg", "dog/2.jpg"], {"cat/1.txt": "side"}),
        revision("f", ["cat/1.jpg", "dog/2.jpg"], {"cat/1.txt": "another side"}),
        *(
            revision(f"m{name}", ["1.jpg"], {"metadata.jsonl": f'{{"file_name": "1.jpg", "label": "{name}"}}'})
            for name in "ab"
        ),
    ]
    assert len(set(others)) == len(others)


def test_the_revision_is_that_of_earlier_versions(tmp_path: Path) -> None:
    """Sets that they made are resumed by it."""
    for number, name in enumerate(["train/cat/1.jpg", "train/dog/1.jpg", "test/dog/2.jpg"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * (number + 5))
    found = surveyed(tmp_path)
    assert found.revision(list(found.columns)) == "8e59b6f597c74fefdce866c257fbee1ecdaa1167c732276d794e52fbbd86fc69"


def test_a_listing_travels_in_a_file(tmp_path: Path) -> None:
    survey = surveyed(write(tmp_path / "photos", [f"{i % 2}/{i:03}.jpg" for i in range(250)]))
    assert [(f.part, f.rows) for f in survey.fragments] == [(0, 100), (1, 100), (2, 50)]
    stored = survey.reader.stored(tmp_path)
    for fragment in survey.fragments:
        pieces = list(stored.pieces(fragment, ["label", "image"], 64))
        assert pieces[0].table.column_names == ["label", "image"]
        assert pieces == list(survey.reader.pieces(fragment, ["label", "image"], 64))
    assert stored.where(survey.fragments[2]) == "images 200 to 249 of photos"


# Files beside pictures


def test_files_beside_pictures(tmp_path: Path) -> None:
    folder = write(tmp_path, ["1.jpg", "2.jpg", "3.jpg"])
    for name, content in {
        "1.txt": b"a cat\r\n\r\n",
        "2.TXT": b"a dog\n",
        "3.txt": b"\xff",
        "1.json": b'{"n": 1}\n',
        "2.json": b"{",
        "1.cls": b"7\n",
        "1.npy": gzip.compress(b""),
        "3.label": b"9",
        "2.image": b"",
        "2.txt": b"another",
        "notes.txt": b"",
        "1.a.txt": b"",
    }.items():
        (folder / name).write_bytes(content)
    survey = surveyed(folder)
    assert list(survey.columns) == ["image", "cls", "json", "npy", "txt", "label"]
    assert survey.columns["cls"].integers
    assert isinstance(survey.columns["json"].feature, datasets.Json)
    (piece,) = survey.reader.pieces(survey.fragments[0], ["image", "json", "txt", "cls"], 64)
    assert piece.table.select(["json", "txt", "cls"]).to_pydict() == {
        "json": ['{"n": 1}\n', None, None],
        "txt": ["a cat\r\n", "a dog", None],
        "cls": ["7", None, None],
    }
    assert {place: fault.reason for place, fault in piece.faults.items()} == {
        1: "column 'json' holds what is not JSON",
        2: "column 'txt' holds text that is not UTF-8",
    }
    (piece,) = survey.reader.pieces(survey.fragments[0], ["image", "cls"], 64)
    assert not piece.faults
    assert [text for _, values in survey.reader.values("txt") for text in values.to_pylist()] == [
        "a cat\r\n",
        "a dog",
        None,
    ]
    assert survey.unread == {
        "txt": ("1.txt", "2.TXT", "3.txt"),
        "json": ("1.json", "2.json"),
        "cls": ("1.cls",),
        "npy": ("1.npy",),
        "label": ("3.label",),
    }
    assert survey.untaken == {
        "beside an image, with the name of another column (.image)": ("2.image",),
        "a second .txt beside an image": ("2.txt",),
        "of another kind": ("1.a.txt", "notes.txt"),
    }
    (folder / "1.txt").unlink()
    (piece,) = survey.reader.pieces(survey.fragments[0], ["txt"], 64)
    assert piece.faults[0].reason == "column 'txt': there is no such file"


# Files that `datasets` found


def built(folder: Path, files: Mapping[str, Sequence[str]], root: str | None = None, **config: Any) -> Opened:
    """As of the Hub, where a builder of `datasets` tells the files."""
    root = root or str(folder)
    paths = {split: tuple(f"{root}/{name}" for name in names) for split, names in files.items()}
    builder = ImageFolder(data_files=DataFilesDict({s: DataFilesList(list(p), []) for s, p in paths.items()}), **config)
    revision = None if root == str(folder) else "0" * 40
    return Opened("images", folder.name, root, "train", paths, split_by="words", revision=revision, builder=builder)


@pytest.mark.parametrize("drop_labels", [None, True, False])
@pytest.mark.parametrize("several", [True, False])
def test_a_card_that_drops_labels(drop_labels: bool | None, several: bool, tmp_path: Path) -> None:
    names = ["train_a/cat/1.jpg", f"train_b/{'dog' if several else 'cat'}/2.jpg"]
    opened = built(write(tmp_path, names), {"train": names}, drop_labels=drop_labels)
    survey = images.survey(opened, FAULTS)
    if drop_labels or (drop_labels is None and not several):
        assert list(survey.columns) == ["image"]
    else:
        assert labels(survey) == [0, int(several)]
        assert classes(survey) == (("cat", "dog") if several else ("cat",))


@pytest.mark.parametrize("drop_metadata", [None, True])
def test_a_card_that_drops_metadata(drop_metadata: bool | None, tmp_path: Path) -> None:
    folder = write(tmp_path, ["1.jpg"])
    (folder / "metadata.csv").write_text("file_name,n\n1.jpg,1\n")
    opened = built(folder, {"train": ["1.jpg", "metadata.csv"]}, drop_metadata=drop_metadata)
    survey = images.survey(opened, FAULTS)
    assert list(survey.columns) == (["image"] if drop_metadata else ["image", "n"])
    reason = "metadata, excluded by the dataset card"
    assert survey.untaken == ({reason: ("metadata.csv",)} if drop_metadata else {})


def test_files_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = f"hf://datasets/our/flowers@{'0' * 40}"
    files = {"1.jpg": b"", "2.jpg": b"", "metadata.csv": b"file_name,n\n2.jpg,7\n1.jpg,8\n", "1.txt": b"a rose\n"}
    content = {f"{root}/{name}": data for name, data in files.items()}
    monkeypatch.setattr(hub_files, "content", lambda address, faults: content[address])
    survey = images.survey(built(tmp_path, {"train": list(files)}, root), FAULTS)
    reader = pickle.loads(pickle.dumps(survey.reader))
    (piece,) = reader.pieces(survey.fragments[0], ["image", "txt", "n"], 64)
    assert piece.table.to_pylist() == [
        {"image": {"bytes": None, "path": f"{root}/2.jpg"}, "txt": None, "n": 7},
        {"image": {"bytes": None, "path": f"{root}/1.jpg"}, "txt": "a rose", "n": 8},
    ]
