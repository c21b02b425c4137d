"""SOURCE and OUT lie apart, and what others wrote stays: a refused run leaves every file as it was."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wdsremux
from tests.conftest import tiny_jpeg
from tests.support.kinds import write_tar
from tests.support.reading import check_split
from wdsremux.conversion.overlap import check_files, check_places
from wdsremux.errors import OptionError, OutputError, WdsremuxError

#: where OUT is, by what SOURCE is; {s} is the source's folder, {w} the folder around it
OVERLAPS = {
    "the same": ("{s}", "{s}"),
    "with a slash": ("{s}/", "{s}/."),
    "inside": ("{s}", "{s}/out"),
    "deep inside": ("{s}", "{s}/a/b/../out"),
    "around": ("{s}", "{w}"),
    "the split is the source": ("{w}/train", "{w}"),
    "through a link to the source": ("{s}", "{w}/link/out"),
    "through a link from the source": ("{w}/link", "{s}/out"),
    "by a relative path": ("source", "source/out"),
    "by another relative path": ("./source/../source", "{s}"),
    "a recursive glob": ("{s}/**/*.tar", "{s}/out"),
    "files in OUT": ("{s}/*.tar", "{s}"),
    "files in OUT/SPLIT": ("{w}/train/*.tar", "{w}"),
    "a file in OUT": ("{s}/train-000000.tar", "{s}"),
}
APART = {
    "beside": ("{s}", "{w}/out"),
    "a name that begins alike": ("{s}", "{s}-256"),
    "beside the files of a glob": ("{s}/*.tar", "{s}/out"),
    "beside a file": ("{s}/train-000000.tar", "{s}/out"),
    "through a link": ("{w}/link", "{w}/out"),
}


@contextlib.contextmanager
def layout() -> Iterator[Path]:
    """A folder with a source of a tar in it, a link to that, and a source that is called like a split; the working
    directory meanwhile.
    """
    with tempfile.TemporaryDirectory() as place:
        around = Path(os.path.realpath(place))
        for name in ("source", "train"):
            write_tar(
                around / name / "train-000000.tar", [(str(i), {"jpg": tiny_jpeg(i), "cls": b"1"}) for i in range(3)]
            )
        (around / "link").symlink_to(around / "source")
        before = os.getcwd()
        os.chdir(around)
        try:
            yield around
        finally:
            os.chdir(before)


def content(folder: Path) -> dict[str, bytes | str]:
    """All files below a folder, links by where they lead."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


def convert(source: str, out: str, **options: Any) -> None:
    wdsremux.convert(source, out, recipe="copy", workers=1, **options)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", OVERLAPS)
def test_what_overlaps_is_refused(name: str, overwrite: bool) -> None:
    with layout() as around:
        before = content(around)
        source, out = (text.format(s=around / "source", w=around) for text in OVERLAPS[name])
        with pytest.raises(OutputError, match="separate from SOURCE"):
            convert(source, out, overwrite=overwrite)
        assert content(around) == before


@pytest.mark.parametrize("name", APART)
def test_what_lies_apart_is_converted(name: str) -> None:
    with layout() as around:
        source, out = (text.format(s=around / "source", w=around) for text in APART[name])
        convert(source, out)
        check_split(Path(out) / "train", 3)


def test_a_class_folder_that_links_into_out() -> None:
    with layout() as around:
        for name in ("photos/cat/1.jpg", "out/train/dog/2.jpg"):
            (around / name).parent.mkdir(parents=True)
            (around / name).write_bytes(tiny_jpeg(1))
        (around / "photos" / "dog").symlink_to(around / "out" / "train" / "dog")
        before = content(around)
        with pytest.raises(OutputError, match=r"has files in .*out"):
            convert(str(around / "photos"), str(around / "out"))
        assert content(around) == before


NAMES = st.lists(st.sampled_from(["a", "b", "link", "..", "train"]), max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(source=NAMES, out=NAMES, links=st.lists(st.tuples(NAMES, NAMES), max_size=2))
def test_paths_drawn_at_random(source: list[str], out: list[str], links: list[tuple[list[str], list[str]]]) -> None:
    """Refused exactly where one really lies in the other."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(os.path.realpath(place)) / "x" / "y" / "z"
        (root / "a" / "b").mkdir(parents=True)
        for name, target in links:
            with contextlib.suppress(OSError):
                root.joinpath(*name, "link").symlink_to(root.joinpath(*target))
        given_source, given_out = root.joinpath(*source), root.joinpath(*out)
        with contextlib.suppress(OSError):
            given_source.mkdir(parents=True, exist_ok=True)
        if not given_source.is_dir():
            return
        real_source, real_out = Path(os.path.realpath(given_source)), Path(os.path.realpath(given_out))
        real_split = Path(os.path.realpath(given_out / "train"))
        apart = all(
            not real.is_relative_to(real_source) and not real_source.is_relative_to(real)
            for real in (real_out, real_split)
        )
        before = content(Path(place))
        try:
            check_places(str(given_source), given_out, given_out / "train")
            check_files(str(given_source), [str(given_source / "1.jpg")], given_out, given_out / "train")
            refused = False
        except OutputError:
            refused = True
        assert refused != apart
        assert content(Path(place)) == before


# Files of others


def refused(around: Path, **options: Any) -> str:
    before = content(around)
    with pytest.raises(WdsremuxError) as caught:
        convert(str(around / "source"), str(around / "out"), **options)
    assert content(around) == before
    return str(caught.value)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "out/train/train-000000.tar",
        "out/train/train-000000.idx",
        "out/train/samples.npy",
        "out/train/index.json",
        "out/train/notes.txt",
        "out/train/sub/notes.txt",
        "out/train/.samples.npy.partial",
        "out/train/.wdsremux/notes.txt",
        "out/README.md",
        "out/_info.json",
        "out/.lock",
    ],
)
def test_what_we_did_not_write_is_left_alone(name: str, overwrite: bool) -> None:
    with layout() as around:
        (around / name).parent.mkdir(parents=True)
        (around / name).write_text("of others")
        assert (Path(name).name if "/sub/" not in name else "sub") in refused(around, overwrite=overwrite) or (
            ".wdsremux" in refused(around, overwrite=overwrite)
        )


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["train/train-000001.tar", "train/notes.txt", "README.md"])
def test_what_others_put_beside_ours_is_left_alone(name: str, overwrite: bool) -> None:
    with layout() as around:
        convert(str(around / "source"), str(around / "out"), samples_per_shard=3)
        (around / "out" / name).write_text("of others")
        assert Path(name).name in refused(around, overwrite=overwrite, samples_per_shard=3)


@pytest.mark.parametrize("lost", [".wdsremux", "index.json", None])
def test_ours_is_replaced(lost: str | None) -> None:
    """By what is left of plan and manifest, it is known for ours."""
    with layout() as around:
        out = around / "out"
        convert(str(around / "source"), str(out), samples_per_shard=1)
        if lost == ".wdsremux":
            for path in (out / "train" / lost).iterdir():
                path.unlink()
            (out / "train" / lost).rmdir()
        elif lost:
            (out / "train" / lost).unlink()
        convert(str(around / "source"), str(out), samples_per_shard=3, overwrite=True)
        check_split(out / "train", 3)
        assert [path.name for path in sorted((out / "train").glob("*.tar"))] == ["train-000000.tar"]


# Where OUT is


@pytest.mark.parametrize("out", ["s3://bucket/x", "gs://b", "hf://datasets/a/b", "file:///tmp/x", "https://x/y"])
def test_an_address_is_no_folder(out: str) -> None:
    with layout() as around:
        before = content(around)
        for each in (out, Path(out)):
            with pytest.raises(OptionError, match="Supported: a folder on this machine"):
                convert(str(around / "source"), str(each))
        assert content(around) == before


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with layout() as around:
        monkeypatch.setenv("HOME", str(around / "home"))
        (around / "home").mkdir()
        convert(str(around / "source"), "~/out")
        check_split(around / "home" / "out" / "train", 3)
        assert wdsremux.manifest("~/out").nsamples == 3
        assert wdsremux.verify("~/out") == []
        with wdsremux.DataLoader("~/out", 2, size=8, num_threads=1) as loader:
            assert len(loader.dataset) == 3
