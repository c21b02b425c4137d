"""What a user may give for SOURCE on this machine: a file, a glob, braces, paths with odd characters."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import tiny_jpeg
from tests.support.kinds import KINDS, Photos, write_tar
from tests.support.sources import open_source
from wdsremux.conversion.source import Source
from wdsremux.errors import SourceError

PHOTOS = Photos(tuple(tiny_jpeg(i) for i in range(8)), tuple(i // 4 for i in range(8)))


def images(source: Source) -> list[bytes | None]:
    numbers = range(len(source.fragments))
    return [image for i in numbers for rows in source.rows(i, 64) for image in rows.images.to_pylist()]


def opened(source: object, split: str = "train") -> Source:
    return open_source(str(source), split)


def refused(source: object, split: str = "train") -> str:
    with pytest.raises(SourceError) as caught:
        opened(source, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tar(folder: Path, name: str, pack: Callable[[bytes], bytes] = lambda data: data) -> Path:
    write_tar(folder / "plain", [(f"{i}", {"jpg": data, "cls": b"1"}) for i, data in enumerate(PHOTOS.images)])
    (folder / name).write_bytes(pack((folder / "plain").read_bytes()))
    (folder / "plain").unlink()
    return folder / name


@pytest.mark.parametrize("kind", ["parquet", "arrow-glob", "tars"])
def test_a_single_file(kind: str, tmp_path: Path) -> None:
    KINDS[kind].write(tmp_path / "s", {"train": PHOTOS})
    file = min(path for path in (tmp_path / "s").rglob("*") if path.suffix in (".parquet", ".arrow", ".tar"))
    source = opened(file, "any")
    assert images(source) == list(PHOTOS.images[:4])
    assert source.description["name"] == file.parent.name


def test_a_single_picture_and_a_single_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(PHOTOS.images[0])
    (tmp_path / "notes.txt").write_text("text")
    assert images(opened(tmp_path / "1.jpg")) == [PHOTOS.images[0]]
    assert "matches no parquet, Arrow, image or tar files, only others such as notes.txt" in refused(
        tmp_path / "notes.txt"
    )


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "A.TAR", "a.tar.xz", "gzipped.tar"])
def test_tars_plain_and_compressed(name: str, tmp_path: Path) -> None:
    pack = lzma.compress if name.endswith("xz") else gzip.compress if "g" in name else bytes
    file = tar(tmp_path, name, pack)
    for source in (file, tmp_path, f"{tmp_path}/*"):
        assert images(opened(source)) == list(PHOTOS.images)


@pytest.mark.parametrize("pattern", ["{000..002}.tar", "00{0,1,2}.tar", "00[0-2].tar", "**/00[!3].tar"])
def test_braces_and_globs(pattern: str, tmp_path: Path) -> None:
    for number in range(4):
        write_tar(tmp_path / f"{number:03}.tar", [(f"{number}", {"jpg": PHOTOS.images[number]})])
    assert images(opened(f"{tmp_path}/{pattern}")) == list(PHOTOS.images[:3])
    assert "has an unclosed brace" in refused(f"{tmp_path}/{{000..002.tar")


@pytest.mark.parametrize("name", ["photos[1]", "a*b", "what?", "{x}", "a::b", "s p a c e", "ä", "x=y", "100%"])
@pytest.mark.parametrize("kind", ["parquet", "arrow-saved", "images", "tars", "images-csv"])
def test_folders_with_odd_names(kind: str, name: str, tmp_path: Path) -> None:
    if kind == "arrow-saved" and "::" in name:
        pytest.skip("save_to_disk cannot write to such a folder")
    KINDS[kind].write(tmp_path / name, {"train": PHOTOS})
    source = opened(tmp_path / name / ("train" if kind == "arrow-saved" else ""))
    assert sorted(filter(None, images(source))) == sorted(PHOTOS.images)
    inside = next(path for path in (tmp_path / name).rglob("*") if path.is_file())
    if kind in ("parquet", "tars"):
        assert len(images(opened(inside))) == 4
        assert len(images(opened(f"{inside.parent}/*" if "[" not in name and "*" not in name else inside))) >= 4


def test_several_kinds_in_a_glob(tmp_path: Path) -> None:
    KINDS["parquet"].write(tmp_path, {"train": PHOTOS})
    (tmp_path / "data" / "1.jpg").write_bytes(PHOTOS.images[0])
    assert "matches files of several kinds: images (1.jpg), parquet (train-00000-of-00002.parquet)" in refused(
        f"{tmp_path}/data/*"
    )


def test_what_a_glob_does_not_take_is_named(tmp_path: Path) -> None:
    tar(tmp_path, "a.tar")
    (tmp_path / "notes.md").write_text("text")
    (note,) = opened(f"{tmp_path}/*").notes
    assert note == f"files of {tmp_path.name} that are not converted: 1 of another kind (notes.md)"


@pytest.mark.parametrize("kind", ["parquet", "arrow-saved-dict", "images", "tars"])
def test_a_split_that_is_not_there(kind: str, tmp_path: Path) -> None:
    KINDS[kind].write(tmp_path / "s", {"train": PHOTOS, "test": PHOTOS})
    for split in ("val", "validation", "nothing"):
        said = refused(tmp_path / "s", split)
        assert f"has no split {split!r}. Its splits (from " in said
        assert "test" in said.rpartition(":")[2]
        assert "train" in said.rpartition(":")[2]


def test_other_splits_are_named(tmp_path: Path) -> None:
    KINDS["images"].write(tmp_path / "s", {"train": PHOTOS, "test": PHOTOS})
    (note,) = opened(tmp_path / "s").notes
    assert note == "files of s that are not converted: 8 in other splits (test)"


@pytest.mark.parametrize("form", ["datasets--o--flowers", "copy"])
def test_a_folder_of_the_hub_s_cache(form: str, tmp_path: Path) -> None:
    folder = tmp_path / form
    KINDS["parquet"].write(folder / "snapshots" / "aaaa", {"train": PHOTOS})
    (folder / "refs").mkdir()
    (folder / "blobs").mkdir()
    assert images(opened(folder)) == list(PHOTOS.images)
    KINDS["parquet"].write(folder / "snapshots" / "bbbb", {"train": PHOTOS})
    assert "2 snapshots of one data set: aaaa, bbbb" in refused(folder)
    assert images(opened(folder / "snapshots" / "bbbb")) == list(PHOTOS.images)


def test_pictures_beside_data_files_are_named(tmp_path: Path) -> None:
    """Those of a README."""
    KINDS["parquet"].write(tmp_path / "s", {"train": PHOTOS})
    for number in range(3):
        (tmp_path / "s" / f"{number}.png").write_bytes(PHOTOS.images[number])
    source = opened(tmp_path / "s")
    assert images(source) == list(PHOTOS.images)
    assert "3 images beside parquet files (0.png, 1.png, 2.png)" in source.notes[0]
