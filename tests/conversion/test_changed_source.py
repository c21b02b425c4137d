"""A source that changes between a kill and the run that goes on: a sentence says what differs, nothing is lost."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.support.places import ROWS, convert, picture, stop_halfway, write_pictures
from tests.support.reading import check_split, digests
from wdsremux.conversion.source import stamp
from wdsremux.errors import OutputError

MANY = 300
Tally = Callable[[str, str], None]
Write = Callable[[Path], Path]
CHANGED = ("a source that grew, shrank or was rewritten between kill and resume", "refused with a clear error")
TOUCHED = ("a source changed at equal size between kill and resume", "a warning; an error with --strict")


def write_images(folder: Path, rows: int = ROWS) -> Path:
    for i in range(rows):
        path = folder / f"{i % 3}" / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i))
    return folder


def write_many_images(folder: Path) -> Path:
    """A hundred of them are a fragment."""
    return write_images(folder, MANY)


def write_tars(folder: Path) -> Path:
    """Three of 30 pictures."""
    folder.mkdir()
    images = write_images(folder.parent / "loose")
    for first in range(0, ROWS, 30):
        with tarfile.open(folder / f"{first:03d}.tar", "w") as tar:
            for i in range(first, first + 30):
                tar.add(images / f"{i % 3}" / f"{i:03d}.jpg", f"{i:03d}.jpg")
    return folder


def write_arrow(folder: Path) -> Path:
    table = pq.read_table(files_of(write_pictures(folder.parent / "as-parquet")))
    folder.mkdir()
    with pa.OSFile(str(folder / "0.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=10)
    return folder


KINDS: dict[str, tuple[Write, int, str]] = {  #: how it is written, its rows, and what is given of it
    "parquet": (write_pictures, ROWS, "."),
    "images": (write_many_images, MANY, "."),
    "tars": (write_tars, ROWS, "."),
    "arrow": (write_arrow, ROWS, "*.arrow"),
}


def files_of(source: Path) -> list[Path]:
    return sorted(path for path in source.rglob("*") if path.suffix in (".parquet", ".jpg", ".tar", ".arrow"))


def grow(source: Path) -> None:
    last = files_of(source)[-1]
    shutil.copy(last, last.with_name(f"{last.stem.replace('train-00000', 'train-00001')}-more{last.suffix}"))


def shrink(source: Path) -> None:
    last = files_of(source)[-1]
    if last.suffix == ".parquet":
        shutil.copy(files_of(write_pictures(source.parent / "smaller", ROWS - 10))[-1], last)
    else:
        last.unlink()


def rewrite(source: Path) -> None:
    """A file of the same name, of another size."""
    first = files_of(source)[0]
    if first.suffix == ".parquet":
        shrink(source)
    else:
        first.write_bytes(first.read_bytes() + bytes(512))


@pytest.mark.parametrize("change", [grow, shrink, rewrite])
@pytest.mark.parametrize("kind", ["parquet", "images", "tars"])
def test_another_size_is_refused(tmp_path: Path, tally: Tally, kind: str, change: Callable[[Path], None]) -> None:
    write, rows, _ = KINDS[kind]
    source, out = write(tmp_path / "source"), tmp_path / "out"
    shutil.copytree(source, tmp_path / "before")
    stop_halfway(source, out)
    begun = digests(out)
    change(source)
    sentence = (
        r"^source files were added, removed or changed since the conversion in .*train was started"
        r"( \(\d+ before, \d+ now\))?\. Restore them, choose another output folder"
    )
    with pytest.raises(OutputError, match=sentence):
        convert(source, out)
    assert digests(out) == begun
    shutil.rmtree(source)
    (tmp_path / "before").rename(source)
    assert convert(source, out) == []
    check_split(out / "train", rows)
    tally(*CHANGED)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_size_is_told_by_the_time(tmp_path: Path, tally: Tally, kind: str) -> None:
    """Whether the content changed, only reading all of it could tell: so it is said, and the work goes on."""
    write, rows, given = KINDS[kind]
    out, folder = tmp_path / "out", write(tmp_path / "source")
    source = folder / given
    stop_halfway(source, out)
    begun = digests(out)
    for path in files_of(folder):
        times, content = path.stat(), bytearray(path.read_bytes())
        content[content.index(b"\xff\xd9") - 99] ^= 1  # within a picture
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns - 1))  # as a clock set back may have it
    with pytest.raises(OutputError, match=r"source files were modified after .* resume without strict=True"):
        convert(source, out, strict=True)
    assert digests(out) == begun
    warned = convert(source, out, max_rejects=rows)
    assert len(warned) == 1
    assert "source files were modified after" in warned[0]
    check_split(out / "train", rows)
    assert wdsremux.verify(out) == []
    tally(*TOUCHED)


def test_new_times_alone_change_no_byte(tmp_path: Path) -> None:
    """A source that was fetched again: the same bytes, and a warning."""
    source = write_pictures(tmp_path / "source")
    convert(source, tmp_path / "undisturbed")
    stop_halfway(source, tmp_path / "out")
    os.utime(files_of(source)[0])
    assert len(convert(source, tmp_path / "out")) == 1
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")


def test_before_the_first_task_is_done_nothing_is_mixed(tmp_path: Path) -> None:
    source, out = write_pictures(tmp_path / "source"), tmp_path / "out"
    stop_halfway(source, out)
    for path in out.glob("train/.wdsremux/task-*.json"):
        path.unlink()
    os.utime(files_of(source)[0])
    stop_halfway(source, out, strict=True)
    assert convert(source, out, strict=True) == [], "the plan was saved with the times of the second run"


def test_a_file_that_is_gone_is_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    there = stamp.stamp([str(path)])
    path.unlink()
    assert stamp.stamp([str(path)]) not in (there, stamp.stamp([]))
