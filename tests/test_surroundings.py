"""What stands around a command: text that cannot be shown, streams that break, few descriptors."""

from __future__ import annotations

import errno
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from wdsremux.conversion import datasets_quirks, folder, space
from wdsremux.display import Display
from wdsremux.errors import ConversionError, SourceError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("an ordinary sentence, 漢字 too", "an ordinary sentence, 漢字 too"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("raw \udcff", r"raw \udcff"),
    ],
)
def test_text_is_shown_on_one_line(text: str, shown: str) -> None:
    assert printable(text) == shown


class Broken:
    """A stream that was closed at its other end, or whose disk is full."""

    encoding = "utf-8"

    def __init__(self, number: int) -> None:
        self.number = number
        self.tried = 0

    def write(self, text: str) -> int:
        self.tried += 1
        raise OSError(self.number, os.strerror(self.number))

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_nobody_who_watches_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    stream = Broken(number)
    monkeypatch.setattr(sys, "stderr", stream)
    with Display("a title") as display:
        display.say("one line")
    assert stream.tried
    assert display.drawn is False


def test_stderr_that_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Display("a title") as display:
        display.say("one line")


def test_workers_must_fit_in_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, Any]] = [(1_024, 1_024)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    space.check_open_files(200)
    with pytest.raises(ConversionError, match=r"400 workers need more open files than the limit of 1024 .* --workers"):
        space.check_open_files(400)
    space.check_open_files(64, 1_000)
    with pytest.raises(ConversionError, match=r"64 workers need more open files .* or use --workers 32, and run"):
        space.check_open_files(64, 1_001)
    limits.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    space.check_open_files(10_000)


def test_a_cache_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(
        SourceError, match=r"file/cache, the cache .* cannot be written to: Not a directory\. Set HF_HOME"
    ):
        datasets_quirks.check_cache()


def test_a_folder_is_sealed_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not folder.sealed(tmp_path / "nowhere")
    assert not folder.sealed(tmp_path)
    (tmp_path / ".wdsremux").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != ".wdsremux")
    assert folder.sealed(tmp_path)
