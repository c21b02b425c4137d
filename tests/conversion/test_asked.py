"""A finished split that is asked for again: told by a note, as long as nothing that decides the answer has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wdsremux
from tests.conftest import WriteSource, tiny_jpeg
from wdsremux.conversion import asked
from wdsremux.conversion.events import Event, Finished
from wdsremux.conversion.source import Source
from wdsremux.conversion.source.selection import Selection
from wdsremux.errors import OutputError

OPTIONS: dict[str, Any] = {"recipe": "copy", "samples_per_shard": 4}


@pytest.fixture
def source(write_source: WriteSource) -> Path:
    return write_source([tiny_jpeg(number) for number in range(12)], [number % 3 for number in range(12)])


def convert(source: Path, out: Path, **options: Any) -> Finished:
    events: list[Event] = []
    wdsremux.convert(source, out, tell=events.append, **(OPTIONS | options))
    assert isinstance(events[-1], Finished)
    return events[-1]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Fills with the sources that are opened."""
    from wdsremux.conversion import job
    from wdsremux.conversion.source import opening

    seen: list[Path] = []

    def open_source(selection: Selection, *rest: Any) -> Source:
        seen.append(Path(selection.source))
        return opening.open_source(selection, *rest)

    monkeypatch.setattr(job, "open_source", open_source)
    return seen


def test_it_is_told_without_a_look_into_the_source(source: Path, tmp_path: Path, opened: list[Path]) -> None:
    first = convert(source, tmp_path / "out")
    again = [convert(source, tmp_path / "out") for _ in range(2)]
    assert len(opened) == 1
    assert not first.already
    assert [(event.already, event.manifest, event.bytes_source, event.folder) for event in again] == [
        (True, first.manifest, first.bytes_source, first.folder)
    ] * 2


def test_nothing_large_is_loaded(source: Path, tmp_path: Path) -> None:
    """The second that the libraries take is what is saved."""
    convert(source, tmp_path / "out")
    script = (
        "import sys, wdsremux\n"
        f"wdsremux.convert({str(source)!r}, {str(tmp_path / 'out')!r}, progress=True, **{OPTIONS})\n"
        "print(*{'datasets', 'numpy', 'pyarrow', 'torch', 'webdataset'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "already converted, 12 images in 3 shards" in done.stderr
    assert done.stdout == "\n"


def add_file(source: Path, out: Path) -> None:
    (source / "data" / "notes.txt").write_text("x")


def touch(source: Path, out: Path) -> None:
    file = next(source.glob("**/*.parquet"))
    os.utime(file, ns=(0, 0))


def edit_in_place(source: Path, out: Path) -> None:
    """Of the same size, and said to be of the same time."""
    file = next(source.glob("**/*.parquet"))
    before = file.stat()
    content = file.read_bytes()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def link_a_folder(source: Path, out: Path) -> None:
    (out.parent / "empty").mkdir()
    (source / "more").symlink_to(out.parent / "empty")


def forget(source: Path, out: Path) -> None:
    (out / "train" / ".wdsremux" / "asked.json").unlink()


def garble(source: Path, out: Path) -> None:
    (out / "train" / ".wdsremux" / "asked.json").write_text("{")


def another_version(source: Path, out: Path) -> None:
    note = out / "train" / ".wdsremux" / "asked.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"question": "0" * 64}))


def leave_a_partial_file(source: Path, out: Path) -> None:
    """As a run does that is killed."""
    (out / "train" / ".samples.npy.partial").touch()


def without_a_card(source: Path, out: Path) -> None:
    (out / "README.md").unlink()


@pytest.mark.parametrize(
    "change",
    [
        add_file,
        touch,
        edit_in_place,
        link_a_folder,
        leave_a_partial_file,
        forget,
        garble,
        another_version,
        without_a_card,
    ],
    ids=lambda change: change.__name__,
)
def test_whatever_changed_is_looked_at(
    change: Callable[[Path, Path], None], source: Path, tmp_path: Path, opened: list[Path]
) -> None:
    out = tmp_path / "out"
    convert(source, out)
    shutil.copytree(out, tmp_path / "before")
    change(source, out)
    opened.clear()
    assert convert(source, out).already
    assert opened == [source]
    assert sorted(os.listdir(out / "train")) == sorted(os.listdir(tmp_path / "before" / "train"))
    assert (out / "README.md").read_bytes() == (tmp_path / "before" / "README.md").read_bytes()


@pytest.mark.parametrize("other", [{"quality": 80}, {"limit": 6}, {"seed": 1}, {"keep": "label"}, {"shuffle": False}])
def test_another_question_gets_its_own_answer(source: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    out = tmp_path / "out"
    convert(source, out)
    with pytest.raises(OutputError):
        convert(source, out, **other)
    with pytest.raises(OutputError):  # nor is it taken for the one that was asked for last
        convert(source, out, **other)


def test_a_shard_that_is_gone_is_made_again(source: Path, tmp_path: Path, opened: list[Path]) -> None:
    out = tmp_path / "out"
    convert(source, out)
    shard = out / "train" / "train-000001.tar"
    content = shard.read_bytes()
    shard.unlink()
    assert not convert(source, out).already
    assert shard.read_bytes() == content
    opened.clear()
    assert convert(source, out).already
    assert opened == []


def test_a_manifest_that_was_edited_is_made_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, out)
    path = out / "train" / "index.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"nsamples": 12', b'"nsamples": 13'))
    assert not convert(source, out).already
    assert path.read_bytes() == content


def test_a_card_of_others_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(source, out)
    (out / "README.md").write_text("Mine.")
    with pytest.raises(OutputError, match=r"README\.md was not written by wdsremux"):
        convert(source, out)


def test_what_depends_on_more_is_never_answered_so(
    source: Path, tmp_path: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe's code may change, and so may a file with the classes; a glob and a Hub id lead anywhere."""
    names, recipe = tmp_path / "names.txt", tmp_path / "mine.py"
    names.write_text("a\nb\nc\n")
    recipe.write_text("def same(batch):\n    return batch\n")
    questions: list[tuple[Any, dict[str, Any]]] = [
        (source, {"recipe": f"{recipe}:same"}),
        (source, {"classes": str(names)}),
        (f"{source}/**/*.parquet", {}),
        (next(source.glob("**/*.parquet")), {}),
    ]
    for number, (what, options) in enumerate(questions):
        out = tmp_path / str(number)
        convert(what, out, **options)
        assert not (out / "train" / ".wdsremux" / "asked.json").exists()
    monkeypatch.setattr(asked, "_ENTRIES", 1)  # and a look at a million files takes as long as opening them
    convert(source, tmp_path / "large")
    opened.clear()
    convert(source, tmp_path / "large")
    assert opened == [source]


@pytest.mark.parametrize("options", [{"limit": object()}, {"split": 3}, {"recipe": 7}])
def test_options_that_are_none_are_left_to_others(source: Path, tmp_path: Path, options: Any) -> None:
    assert asked.question(source, tmp_path, OPTIONS | options) is None


def test_a_card_that_says_where_the_data_is_is_read(source: Path, tmp_path: Path) -> None:
    """It may be in another folder, whose files nobody has looked at here."""
    assert asked.question(source, tmp_path, {"recipe": "copy"}) is not None
    (source / "README.md").write_text("---\nconfigs:\n- config_name: a\n  data_files: ../elsewhere/*.parquet\n---\n")
    assert asked.question(source, tmp_path, {"recipe": "copy"}) is None
