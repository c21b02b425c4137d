"""Sources that are damaged, empty in part, changed meanwhile, or of another kind: one sentence each."""

from __future__ import annotations

import gzip
import io
import itertools
import struct
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import tiny_jpeg
from tests.support.kinds import KINDS, Photos, table, write_tar
from tests.support.sources import open_source
from wdsremux.conversion.source import Fault, Source
from wdsremux.conversion.source.base import relative
from wdsremux.conversion.source.image_files import Files
from wdsremux.errors import SourceError

PHOTOS = Photos(tuple(tiny_jpeg(i) for i in range(12)), tuple(i // 4 for i in range(12)))


def rows(source: Source) -> list[tuple[bytes | None, int | None]]:
    return [
        pair
        for number in range(len(source.fragments))
        for batch in source.rows(number, 64)
        for pair in zip(batch.images.to_pylist(), batch.labels.to_pylist(), strict=True)
    ]


def refused(source: object, split: str = "train", **options: Any) -> str:
    """What is said of a source that cannot be opened, or read to its end."""
    with pytest.raises(SourceError) as caught:
        rows(open_source(str(source), split, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(kind: str, folder: Path) -> tuple[str, list[Path]]:
    """A source of twelve photos in two files, and the files."""
    KINDS[kind].write(folder, {"train": PHOTOS})
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".parquet", ".arrow", ".tar")]
    return KINDS[kind].source(folder, "train"), files


# Damage


@pytest.mark.parametrize("kind", ["parquet", "arrow-saved", "arrow-glob-files", "tars"])
@pytest.mark.parametrize("file", [0, 1])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.99])
def test_a_file_cut_short(kind: str, file: int, keep: float, tmp_path: Path) -> None:
    source, files = written(kind, tmp_path / "cut")
    whole = files[file].read_bytes().rstrip(b"\0")  # of a tar: without its end mark
    files[file].write_bytes(whole[: int(len(whole) * keep)])
    assert files[file].name in refused(source)


@pytest.mark.parametrize("blocks", range(1, 12))
def test_a_tar_cut_between_blocks(blocks: int, tmp_path: Path) -> None:
    """Between two files, too, where nothing but the missing end mark tells."""
    source, files = written("tars", tmp_path / "cut")
    files[1].write_bytes(files[1].read_bytes()[: 512 * blocks])
    assert files[1].name in refused(source)


def test_a_damaged_header_in_a_tar(tmp_path: Path) -> None:
    """tarfile takes it for the end of the tar."""
    source, files = written("tars", tmp_path / "flipped")
    content = bytearray(files[1].read_bytes())
    content[content.index(b"008.jpg")] ^= 1
    files[1].write_bytes(content)
    assert files[1].name in refused(source)


def test_damage_within_an_arrow_file(tmp_path: Path) -> None:
    """Offsets that point past their images would have us read whatever lies there."""
    source, files = written("arrow-glob", tmp_path / "damaged")
    content = files[0].read_bytes()
    sizes = [len(image) for image in PHOTOS.images[:5]]
    offsets = struct.pack("<6i", *itertools.accumulate(sizes, initial=0))
    assert content.count(offsets) == 1
    files[0].write_bytes(content.replace(offsets, offsets[:20] + struct.pack("<i", 2 * sum(sizes))))
    assert "record batch 0 of 0.arrow could not be read" in refused(source)


@pytest.mark.parametrize(("kind", "suffix"), [("parquet", ".parquet"), ("arrow-glob", ".arrow"), ("tars", ".tar")])
def test_a_file_that_is_text(kind: str, suffix: str, tmp_path: Path) -> None:
    source, files = written(kind, tmp_path / "text")
    for file in files:
        file.write_text("404: not found, and a page that says so at some length\n" * 20)
        assert suffix in refused(source)


# Empty


def test_empty_parquet_files_among_others(tmp_path: Path) -> None:
    source, files = written("parquet", tmp_path / "source")
    pq.write_table(table(PHOTOS).slice(0, 0), files[0])
    assert [image for image, _ in rows(open_source(source, "train"))] == list(PHOTOS.images[6:])


def test_empty_arrow_files_among_others(tmp_path: Path) -> None:
    source, files = written("arrow-glob", tmp_path / "source")
    for new_writer in (pa.ipc.new_stream, pa.ipc.new_file):
        with new_writer(str(files[0]), table(PHOTOS).schema):
            pass
        assert [image for image, _ in rows(open_source(source, "train"))] == list(PHOTOS.images[6:])


def test_empty_tars_among_others(tmp_path: Path) -> None:
    source, files = written("tars", tmp_path / "source")
    write_tar(files[1], [])
    assert [image for image, _ in rows(open_source(source, "train"))] == list(PHOTOS.images[:6])
    write_tar(files[0], [])
    assert "has no rows in its split 'train': its tar files contain no samples" in refused(source)
    write_tar(files[1], [(f"{i}", {"jpg": data}) for i, data in enumerate(PHOTOS.images)])
    assert [image for image, _ in rows(open_source(source, "train"))] == list(PHOTOS.images)


@pytest.mark.parametrize("compressed", [False, True])
def test_tars_joined_with_cat(compressed: bool, tmp_path: Path) -> None:
    """Every reader stops at the end mark of the first."""
    source, files = written("tars", tmp_path / "source")
    both = files[0].read_bytes() + files[1].read_bytes()
    files[0].write_bytes(gzip.compress(both) if compressed else both)
    assert "more data follows the end of the archive" in refused(source)


@pytest.mark.parametrize("kind", ["parquet", "arrow-glob"])
def test_no_rows_at_all(kind: str, tmp_path: Path) -> None:
    KINDS[kind].write(tmp_path / "source", {"train": Photos((), ())})
    assert "has no rows in its split 'train'" in refused(KINDS[kind].source(tmp_path / "source", "train"))


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "cannot be opened as a data set" in refused(tmp_path)


# Changed after it was opened


def fewer(kind: str, files: list[Path]) -> None:
    half = Photos(PHOTOS.images[:3], PHOTOS.labels and PHOTOS.labels[:3])
    if kind == "parquet":
        pq.write_table(table(half), files[0])
    elif kind == "tars":
        write_tar(files[0], [(str(i), {"jpg": data, "cls": b"0"}) for i, data in enumerate(half.images)])
    else:
        with pa.ipc.new_stream(str(files[0]), table(half).schema) as out:
            out.write_table(table(half))


@pytest.mark.parametrize("change", [fewer, lambda kind, files: files[0].unlink()], ids=["replaced", "removed"])
@pytest.mark.parametrize("kind", ["parquet", "arrow-glob", "tars"])
def test_a_file_that_changed(kind: str, change: Callable[[str, list[Path]], object], tmp_path: Path) -> None:
    source, files = written(kind, tmp_path / "source")
    opened = open_source(source, "train")
    change(kind, files)
    with pytest.raises(SourceError, match=files[0].name):
        rows(opened)


def test_an_image_that_vanished_is_a_reject(tmp_path: Path) -> None:
    source, _ = written("images", tmp_path / "source")
    opened = open_source(source, "train")
    (tmp_path / "source" / "train" / "cat" / "001.jpg").unlink()
    (batch,) = opened.rows(0, 64)
    assert batch.images.null_count == 1
    assert batch.faults == {1: Fault("image", "no image: there is no such file")}
    assert batch.paths[1].as_py() == "train/cat/001.jpg"


# Of another kind


def test_folders_of_other_kinds(tmp_path: Path) -> None:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
    for name_, content, kind in (
        ("a.csv", b"a,b\n1,2\n", "csv"),
        ("a.txt", b"text\n", "text"),
        ("a.wav", sound.getvalue(), "audiofolder"),
        ("a.json", b'{"a": 1}\n', "json"),
    ):
        folder = tmp_path / name_.replace(".", "-")
        folder.mkdir()
        (folder / name_).write_bytes(content)
        assert (
            f"contains no parquet, Arrow, image or WebDataset tar files, only files that `datasets` reads as {kind}"
            in refused(folder)
        )


def test_tars_of_no_images(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("1", {"txt": b"no image"})])
    assert "has no image column. Its columns: txt (string), __key__ (string), __url__ (string)" in refused(tmp_path)


def test_a_sample_of_a_tar_without_an_image(tmp_path: Path) -> None:
    """It is a row like others, and becomes a reject."""
    write_tar(tmp_path / "a.tar", [("1", {"jpg": PHOTOS.images[0], "cls": b"0"}), ("2", {"txt": b"no image"})])
    assert rows(open_source(str(tmp_path), "train")) == [(PHOTOS.images[0], 0), (None, None)]


def test_a_zip_of_class_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        for number, (data, cat) in enumerate(zip(PHOTOS.images, PHOTOS.names, strict=True)):
            file.writestr(f"{cat}/{number}.jpg", data)
    assert "photos.zip contains folders of images, whose names cannot be read as labels inside a zip" in refused(
        tmp_path
    )


# Tars with more or fewer fields


def test_ragged_tars(tmp_path: Path) -> None:
    """Past the first samples, by which `datasets` tells the columns, a field may be missing or new."""
    samples: list[tuple[str, dict[str, bytes]]] = [
        (f"{i:02}", {"jpg": data, "cls": b"1"}) for i, data in enumerate(PHOTOS.images)
    ]
    del samples[7][1]["cls"]
    del samples[8][1]["jpg"]
    samples[9][1]["txt"] = b"more"
    write_tar(tmp_path / "a.tar", samples)
    found = rows(open_source(str(tmp_path), "train"))
    assert [label for _, label in found] == [1] * 7 + [None] + [1] * 4
    assert [image for image, _ in found] == [*PHOTOS.images[:8], None, *PHOTOS.images[9:]]


def test_a_label_of_a_tar_that_is_no_number(tmp_path: Path) -> None:
    """The others are: it is the fault of its row alone."""
    write_tar(
        tmp_path / "a.tar", [(f"{i}", {"jpg": PHOTOS.images[i], "cls": b"cat" if i > 6 else b"1"}) for i in range(9)]
    )
    (batch,) = open_source(str(tmp_path), "train").rows(0, 64)
    assert batch.labels.to_pylist() == [1] * 7 + [None] * 2
    reason = "'cat' is no label: an integer of 64 bits is needed"
    assert batch.faults == dict.fromkeys((7, 8), Fault("cls", reason))


def test_one_field_twice_in_a_sample(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("1", {"jpg": PHOTOS.images[0]}), *([("2", {"jpg": PHOTOS.images[1]})] * 2)])
    (batch,) = open_source(str(tmp_path), "train").rows(0, 64)
    assert batch.faults == {1: Fault("jpg", "2.jpg comes twice in its sample")}


# Rows that hold only a path


def write_paths(folder: Path, paths: list[str | None]) -> Path:
    folder.mkdir(exist_ok=True)
    schema = datasets.Features({"image": datasets.Image()}).arrow_schema
    images = pa.table({"image": [{"bytes": None, "path": path} for path in paths]}, schema=schema)
    pq.write_table(images, folder / "train.parquet")
    return folder


def test_paths(tmp_path: Path) -> None:
    """Relative to the source, or anywhere on this machine; what is not there is told apart, without saying where."""
    (tmp_path / "photo.jpg").write_bytes(PHOTOS.images[0])
    (tmp_path / "source" / "photos").mkdir(parents=True)
    (tmp_path / "source" / "photos" / "1.jpg").write_bytes(PHOTOS.images[1])
    paths: dict[str | None, tuple[bytes | None, str | None, str | None]] = {
        str(tmp_path / "photo.jpg"): (PHOTOS.images[0], "photo.jpg", None),
        "photos/1.jpg": (PHOTOS.images[1], "photos/1.jpg", None),
        str(tmp_path / "source" / "photos" / "1.jpg"): (PHOTOS.images[1], "photos/1.jpg", None),
        str(tmp_path / "gone.jpg"): (None, "gone.jpg", "no image: there is no such file"),
        str(tmp_path): (None, tmp_path.name, "no image: it is a folder"),
        "photos/gone.jpg": (None, "photos/gone.jpg", "no image: null"),
        "https://example.org/1.jpg": (None, "https://example.org/1.jpg", "no image: the file lies outside the source"),
        None: (None, None, None),
    }
    (batch,) = open_source(str(write_paths(tmp_path / "source", list(paths))), "train").rows(0, 64)
    reasons = [fault and fault.reason for fault in map(batch.faults.get, range(len(batch)))]
    found = zip(batch.images.to_pylist(), batch.paths.to_pylist(), reasons, strict=True)
    assert list(found) == list(paths.values())


@pytest.mark.parametrize(
    "path",
    [
        "{local}/secret.jpg",
        "file://{local}/secret.jpg",
        "secret.jpg",
        "hf://datasets/other/set@1/1.jpg",
        "hf://datasets/our/flowers@1/../../other/set@1/1.jpg",
        "zip://secret.jpg::{local}/secret.zip",
        "zip://secret.jpg::file://{local}/secret.zip",
        "zip://1.jpg::file://{local}/secret.zip::hf://datasets/our/flowers@1/a.zip",
        "simplecache::{local}/secret.jpg",
        "local://{local}/secret.jpg?hf://datasets/our/flowers@1/1.jpg",
    ],
)
def test_a_remote_source_reads_no_file_of_this_machine(path: str, tmp_path: Path) -> None:
    """Its rows were written by strangers."""
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    files = Files("hf://datasets/our/flowers@1", remote=True)
    images, faults = files.fill(pa.array([None], pa.binary()), pa.array([path.format(local=tmp_path)]))
    assert images.to_pylist() == [None]
    assert faults == {0: "no image: the file lies outside the source"}


def test_names_in_files() -> None:
    root = "/data/flowers"
    assert relative("/data/flowers/cat/1.jpg", root) == "cat/1.jpg"
    assert relative("zip://cat/1.jpg::/data/flowers/a/b.zip", root) == "zip://cat/1.jpg::a/b.zip"
    assert relative("/data/flowers2/1.jpg", root) == "1.jpg"
    assert relative("cat/1.jpg", root) == "cat/1.jpg"
    assert relative("hf://datasets/a/b@1/c.jpg", "hf://datasets/a/b@1") == "c.jpg"


def test_paths_of_some_rows_only() -> None:
    """The first says nothing of the others."""
    files = Files("/data/flowers", remote=False)
    paths = pa.array([None, "1.jpg", "/data/flowers/2.jpg", "/home/me/3.jpg"])
    assert files.relative(paths).to_pylist() == [None, "1.jpg", "2.jpg", "3.jpg"]
    plain = pa.array(["1.jpg", None, "a/2.jpg"])
    assert files.relative(plain) is plain
