"""What every kind of source must keep to: whatever photos come in, the same samples come of them."""

from __future__ import annotations

import pickle
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from fsspec.implementations.zip import ZipFileSystem
from sample_source import jpeg as photo

import wdsremux
from tests.support.kinds import KINDS, NAMES, Photos, read_lines
from tests.support.reading import check_split, read_split
from tests.support.sources import open_source
from wdsremux.conversion.recipes.base import Sample, Settings
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.source import Source, file_kinds
from wdsremux.conversion.source.base import SourceKind
from wdsremux.conversion.source.kinds import arrow, images, parquet, tars

# `datasets` reads the first lines of it, and leaves it to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file.*metadata.csv:ResourceWarning")
TRAIN, TEST = 23, 7
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def photos() -> dict[str, Photos]:
    """Real photographs, sorted by class."""
    return {split: _photos(split, count) for split, count in (("train", TRAIN), ("test", TEST))}


def _photos(split: str, count: int) -> Photos:
    labels = [number * len(NAMES) // count for number in range(count)]
    return Photos(tuple(photo(label, split, number) for number, label in enumerate(labels)), tuple(labels))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(kind: str, **splits: Photos) -> Path:
        folder = tmp_path / f"photos-{kind}"
        KINDS[kind].write(folder, splits)
        return folder

    return write


def opened(kind: str, folder: Path, photos: Photos, split: str = "train", **options: Any) -> Source:
    given = KINDS[kind].label_options(photos) | options
    return open_source(KINDS[kind].source(folder, split), split, **given)


def samples(source: Source, recipe: str = "copy") -> list[tuple[bytes, int]]:
    """(image, label) of all rows, in order."""
    made = make_recipe(recipe, Settings())
    items = [
        item
        for number in range(len(source.fragments))
        for rows in source.rows(number, made.batch_size)
        for item in made.bake(rows)
    ]
    ZipFileSystem.clear_instance_cache()  # as a worker's end does: it keeps a zip open that it reads images from
    return [(item.image.data, item.label) for item in items if isinstance(item, Sample)]


# The seam


def test_the_suite_knows_every_kind(photos: dict[str, Photos], write: Write) -> None:
    """Each row of the table, by a source of which it is found to be."""
    found = {opened(kind, write(kind, **photos), photos["train"]).description["kind"] for kind in KINDS}
    assert found == set(file_kinds.KINDS)


def test_a_kind_is_a_module_that_keeps_to_the_protocol() -> None:
    modules: list[SourceKind] = [parquet, arrow, tars, images]  # mypy looks whether they do
    assert [file_kinds.source_kind(name) for name in file_kinds.KINDS] == modules


@pytest.mark.parametrize("kind", KINDS)
def test_a_fragment_read_in_pieces_of_any_size(kind: str, photos: dict[str, Photos], write: Write) -> None:
    """Its rows are the same ones, in the same order, at every reading, and in a reader that has travelled."""
    folder = write(kind, **photos)
    source = opened(kind, folder, photos["train"])
    travelled: Source = pickle.loads(pickle.dumps(source))
    for number, fragment in enumerate(source.fragments):
        whole = rows_of(source, number, 1_000)
        assert len(whole) == fragment.rows or fragment.rows is None
        for reader, size in ((source, 1), (source, 3), (travelled, 3)):
            assert rows_of(reader, number, size) == whole
        assert source.where(number)
        assert str(folder.parent) not in source.where(number)


def rows_of(source: Source, number: int, batch_rows: int) -> list[tuple[bytes | None, int | None, str | None]]:
    """(content, label, path) of each row of a fragment."""
    found: list[tuple[bytes | None, int | None, str | None]] = []
    for rows in source.rows(number, batch_rows):
        assert len(rows) <= batch_rows
        assert rows.first == len(found)
        content = [None if image is None else bytes(image) for image in rows.contents]
        found += zip(content, rows.labels.to_pylist(), rows.paths.to_pylist(), strict=True)
    ZipFileSystem.clear_instance_cache()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_revision_is_of_the_content(kind: str, photos: dict[str, Photos], write: Write) -> None:
    """The same files have the same one wherever they lie."""
    folder = write(kind, **photos)
    revision = opened(kind, folder, photos["train"]).description["revision"]
    assert opened(kind, folder, photos["train"]).description["revision"] == revision
    moved = folder.parent / "elsewhere" / folder.name
    moved.parent.mkdir()
    shutil.copytree(folder, moved)
    assert opened(kind, moved, photos["train"]).description["revision"] == revision


# The same samples


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_samples(kind: str, order: str, labelled: bool, photos: dict[str, Photos], write: Write) -> None:
    splits = {split: found if order == "sorted" else found.shuffled() for split, found in photos.items()}
    if not labelled:
        splits = {split: found.unlabelled() for split, found in splits.items()}
    folder = write(kind, **splits)
    for split, expected in splits.items():
        source = opened(kind, folder, expected, split)
        assert sum(fragment.rows or 0 for fragment in source.fragments) == len(expected)
        found = samples(source)
        assert Counter(found) == Counter(expected.samples())
        if KINDS[kind].ordered or not labelled:
            assert found == expected.samples()
        assert source.classes == (NAMES if labelled and KINDS[kind].classes else None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_sees_the_same_bytes(kind: str, photos: dict[str, Photos], write: Write) -> None:
    encode = make_recipe("resize:48", Settings())
    folder = write(kind, **photos)
    reference = samples(opened("parquet", write("parquet", **photos) if kind != "parquet" else folder, photos["train"]))
    expected = Counter((encode.encode(image).data, label) for image, label in reference)  # type: ignore[attr-defined]
    assert Counter(samples(opened(kind, folder, photos["train"]), "resize:48")) == expected


# A whole conversion


@pytest.mark.parametrize("kind", KINDS)
def test_two_splits_of_a_kind(kind: str, photos: dict[str, Photos], write: Write, tmp_path: Path) -> None:
    """Converted, checked by the contract, loaded by us and by `datasets`; a broken image among them is a reject."""
    train = Photos((*photos["train"].images[:-1], b"no image"), photos["train"].labels)
    splits = {"train": train, "test": photos["test"]}
    folder, out = write(kind, **splits), tmp_path / "out"
    for split, found in splits.items():
        wdsremux.convert(
            KINDS[kind].source(folder, split),
            out,
            split=split,
            recipe="copy",
            workers=1,
            max_rejects=1,
            samples_per_shard=6,
            **KINDS[kind].label_options(found),
        )
        check_split(out / split, len(found))
        expected = [sample for sample in found.samples() if sample[0] != b"no image"]
        converted = [(content["jpg"], int(content["cls"])) for content in read_split(out / split).values()]
        assert Counter(converted) == Counter(expected)
        check_loaders(out, split, [label for _, label in expected], tmp_path / "cache")
    check_no_place(out / "train", tmp_path)


def check_loaders(out: Path, split: str, labels: list[int], cache: Path) -> None:
    with wdsremux.DataLoader(out, 4, split=split, shuffle=False, augment="eval", size=32, num_threads=1) as loader:
        assert sorted(label for _, batch in loader for label in batch.tolist()) == sorted(labels)
    rows = datasets.load_dataset(str(out), split=split, cache_dir=str(cache / split))
    assert sorted(rows["cls"]) == sorted(labels)


def check_no_place(folder: Path, tmp_path: Path) -> None:
    """Neither manifest nor rejects say where on this machine the source lay."""
    (reject,) = read_lines(folder / "rejects.jsonl")
    assert reject["reason"] == "not an image of any known format"
    by_name = r"(zip://|(\w+/)*)\d+\.jpg(::\w+/photos\.zip)?"
    by_place = r"row \d+ of (row group|record batch) \d of [\w./-]+"
    assert re.fullmatch(f"{by_name}|{by_place}", reject["where"])
    for name in ("rejects.jsonl", "index.json"):
        text = (folder / name).read_text()
        assert str(tmp_path) not in text
        assert '"/' not in text


@pytest.mark.parametrize("kind", ["parquet", "images", "tars", "arrow-saved"])
def test_without_shuffling_the_order_is_the_source_s(
    kind: str, photos: dict[str, Photos], write: Write, tmp_path: Path
) -> None:
    folder = write(kind, train=photos["train"])
    wdsremux.convert(
        KINDS[kind].source(folder, "train"),
        tmp_path / "out",
        recipe="copy",
        workers=1,
        shuffle=False,
        samples_per_shard=4,
        samples_per_task=10,
    )
    converted = [(content["jpg"], int(content["cls"])) for content in read_split(tmp_path / "out" / "train").values()]
    assert converted == photos["train"].samples()


@pytest.mark.parametrize("kind", ["parquet", "images", "tars", "arrow-saved"])
def test_a_limit_is_exact(kind: str, photos: dict[str, Photos], write: Write, tmp_path: Path) -> None:
    folder = write(kind, train=photos["train"])
    source = KINDS[kind].source(folder, "train")
    wdsremux.convert(source, tmp_path / "out", recipe="copy", workers=1, limit=13)
    converted = [(content["jpg"], int(content["cls"])) for content in read_split(tmp_path / "out" / "train").values()]
    assert len(converted) == 13
    assert not Counter(converted) - Counter(photos["train"].samples())
