"""Only plain files are read, no further than their size: a device would never end, a pipe never begin."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import tiny_jpeg
from tests.support.sources import open_source
from wdsremux import files

MOST = 2**31 - 1


def write_paths(folder: Path, paths: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    schema = datasets.Features({"image": datasets.Image()}).arrow_schema
    images = pa.table({"image": [{"bytes": None, "path": path} for path in paths]}, schema=schema)
    pq.write_table(images, folder / "train.parquet")
    return folder


@pytest.mark.timeout(60)
def test_paths_of_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "photo.jpg").write_bytes(tiny_jpeg(0))
    (tmp_path / "link.jpg").symlink_to("/dev/zero")
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(2**40)  # a hole
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
        paths = {
            "/dev/zero": "no image: it is no file but a device or a pipe",
            "/dev/null": "no image: it is no file but a device or a pipe",
            str(tmp_path / "pipe.jpg"): "no image: it is no file but a device or a pipe",
            str(tmp_path / "link.jpg"): "no image: it is no file but a device or a pipe",
            str(tmp_path / "huge.jpg"): "no image: it has 1,099,511,627,776 bytes, more than any image that is taken",
            str(tmp_path / "photo.jpg"): None,
        }
        (rows,) = open_source(str(write_paths(tmp_path / "source", list(paths))), "train").rows(0, 64)
        found = [rows.faults[place].reason if place in rows.faults else None for place in range(len(paths))]
    assert found == list(paths.values())
    assert rows.images[5].as_py() == tiny_jpeg(0)


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="no files that hold more than their size says")
def test_a_file_is_not_read_beyond_its_size() -> None:
    """/proc/kmsg is a plain file of size 0, and whoever reads it waits."""
    assert os.stat("/proc/version").st_size == 0
    assert files.read_plain("/proc/version", MOST) == b""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["1.txt", "metadata.csv", "2.jpg"])
def test_a_pipe_in_a_folder_of_pictures(name: str, tmp_path: Path) -> None:
    """It is named as not taken."""
    (tmp_path / "1.jpg").write_bytes(tiny_jpeg(0))
    os.mkfifo(tmp_path / name)
    source = open_source(str(tmp_path), "train")
    assert sum(fragment.rows or 0 for fragment in source.fragments) == 1
    assert name in source.notes[0]


def test_plain_files_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PIECE_BYTES", 7)
    for size in (0, 1, 6, 7, 8, 100):
        (tmp_path / "f").write_bytes(bytes(range(size)))
        assert files.read_plain(tmp_path / "f", size) == bytes(range(size))
        if size:
            with pytest.raises(files.NotPlain, match=f"it has {size} bytes"):
                files.read_plain(tmp_path / "f", size - 1)
    for path, kind in ((tmp_path, IsADirectoryError), (tmp_path / "none", FileNotFoundError)):
        with pytest.raises(kind):
            files.read_plain(path, 1)
