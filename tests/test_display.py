"""What is shown of a conversion: one line at any width, plain lines where no line can move, nothing left over."""

from __future__ import annotations

import importlib.util
import io
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

import wdsremux
from tests.conftest import WriteSource, tiny_jpeg
from wdsremux.conversion.events import Noted, Planned, Progress, Warned
from wdsremux.conversion.plan import Extent, make_plan
from wdsremux.display import Display
from wdsremux.terminal import MovingLine, can_draw, clock, is_watched, layout, percent, shortened

LONG = "/home/user/a project directory with a long name/imagenet-1k-high-resolution (train)"
PLAN = make_plan([Extent(2_000, 1_000)] * 15, 0, 1_000, 2_000)


def recorded(width: int = 80, **options: Any) -> Console:
    return Console(file=io.StringIO(), width=width, color_system=None, **{"force_terminal": True, **options})


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def drawn(title: str, width: int) -> str:
    """The line in mid-run, as it stands on a terminal of this width."""
    console = recorded(width)
    display = Display(title, console)
    display.tell(Planned(PLAN, 2_000, 10**9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(display, "_seconds", lambda: 3.0)
        display.tell(Progress(0, 2_200, 2_200, 3, 25_000_000, 6_000_000))
    with console.capture() as capture:
        console.print(display._line._line())
    return capture.get().rstrip("\n")


@pytest.mark.parametrize("title", ["big (train)", LONG, "写真のデータセット" * 8 + " (train)"])
@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_the_line_is_one_line(title: str, width: int) -> None:
    line = drawn(title, width)
    assert "\n" not in line
    assert cell_len(line) < width - 2  # Ctrl-C is echoed at its end
    assert "━" in line
    assert " 14 %  733 images/s  0:00:35 left" in line
    assert line.startswith(title[:2])
    assert line.split(" ━")[0].rstrip().endswith("train)")


def test_more_is_told_where_there_is_room() -> None:
    assert "3 rejects  8.3 MB/s in  2.0 MB/s out" in drawn("big (train)", 100)
    assert "3 rejects" not in drawn("big (train)", 60)
    assert "3 rejects" in drawn(LONG, 160)


@pytest.mark.parametrize("width", range(1, 200))
@pytest.mark.parametrize("title", ["a", "big (train)", LONG, "写" * 50])
def test_no_width_is_exceeded(title: str, width: int) -> None:
    found = layout(width, title, ["  5 %", "12,345 images/s", "12:34:56 left"], ["3 rejects", "1.0 MB/s in"])
    parts = [found.name, "━" * found.bar, *found.texts]
    assert sum(map(cell_len, parts)) + 2 * (len(parts) - 1 - (not found.bar)) <= max(width, 1)


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [("abc", 3, "abc"), ("abcdefgh", 5, "ab…gh"), ("abcdefgh", 4, "a…gh"), ("写真写真", 5, "写…真"), ("abc", 1, "…")],
)
def test_long_names_are_cut_in_the_middle(text: str, width: int, short: str) -> None:
    assert shortened(text, width) == short


def test_numbers_for_people() -> None:
    assert [clock(5), clock(3_599.6), clock(360_000)] == ["0:00:05", "1:00:00", "100:00:00"]
    assert [percent(0), percent(0.5), percent(1)] == ["  0 %", " 50 %", "100 %"]


def test_a_finished_run_leaves_no_bar(write_source: WriteSource, tmp_path: Path, capfd: Any) -> None:
    """The moving line is taken away; what stays are lines, and the last names the folder."""
    console = recorded(200)
    source = write_source([tiny_jpeg(i) for i in range(4)])
    from wdsremux import api

    with Display("tiny", console) as display:
        api.run(source, tmp_path / "out", display.tell, {"workers": 1})
    last = written(console).rsplit("\x1b[2K", 1)
    assert "see " + str(tmp_path / "out" / "train") in last[0]
    assert last[1].strip() == ""


@pytest.mark.parametrize("options", [{"force_terminal": False}, {"_environ": {"TERM": "dumb"}}])
def test_where_no_line_can_move_there_are_plain_lines(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe, and a terminal that knows no cursor."""
    monkeypatch.setattr("wdsremux.display.LINE_EVERY_S", 0.0)
    console = recorded(**options)
    with Display("big", console) as display:
        display.tell(Planned(PLAN, 0, 1_000))
        display.tell(Progress(0, 3_000, 3_000, 0, 1, 1))
    first, second = written(console).splitlines()
    assert first == "wdsremux: big: 30,000 rows in 15 tasks for 30 shards"
    assert second.startswith("wdsremux: big: 3,000 of 30,000 rows, ")
    assert second.endswith(" left")
    assert not display.drawn


def notebook(monkeypatch: pytest.MonkeyPatch, widgets: bool) -> Console:
    """The console of a notebook, with or without ipywidgets."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: (widgets or None) if name == "ipywidgets" else found(name)
    )
    return recorded(force_jupyter=True, force_terminal=False)


def test_a_notebook_without_widgets_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    console = notebook(monkeypatch, widgets=False)
    assert is_watched(console)
    assert not can_draw(console)
    assert not Display("big", console, show=None).drawn


def test_a_notebook_with_widgets_gets_a_line_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    console = notebook(monkeypatch, widgets=True)
    assert Display("big", console, show=None).drawn
    line = MovingLine(LONG, console)
    line.move(1, 2)
    plain = Console(file=io.StringIO(), width=200, color_system=None)
    plain.print(line._line())
    assert 40 < cell_len(written(plain).rstrip()) <= 90


@pytest.mark.parametrize(("show", "shown"), [(True, True), (None, False), (False, False)])
def test_what_is_shown_where_nobody_watches(show: bool | None, shown: bool) -> None:
    """Warnings are printed in any case, unless somebody takes them."""
    console = recorded(force_terminal=False)
    with Display("big", console, show=show) as display:
        display.tell(Noted("a note"))
    assert (written(console) == "wdsremux: a note\n") is shown
    with Display("big", console, show=show) as display:
        display.tell(Warned("look out"))
    assert written(console).endswith("wdsremux: warning: look out\n")
    taken: list[str] = []
    with Display("big", console, show=show, warn=taken.append) as display:
        display.tell(Warned("look here"))
    assert taken == ["look here"]


def test_details_are_left_out_unless_they_are_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "wdsremux")
    planned = Planned(PLAN, 0, 10**9, "ray", 64, {"torch": "2.11", "cpu": "x86_64 avx2"})
    for verbose in (False, True):
        console = recorded(force_terminal=False)
        with Display("big", console, verbose=verbose) as display:
            display.tell(planned)
        assert ("wdsremux: engine: ray, 64 workers\n" in written(console)) is verbose
        assert ("wdsremux: environment: torch 2.11, cpu x86_64 avx2\n" in written(console)) is verbose
        plan = "wdsremux: plan: up to 2,000 rows per task, up to 1,000 samples per shard, 1,000.0 MB in the source\n"
        assert (plan in written(console)) is verbose
    assert caplog.text.count("engine: ray") == 2


@pytest.mark.parametrize(
    ("options", "lines", "events"),
    [({}, 0, 0), ({"progress": True}, 2, 0), ({"progress": False}, 0, 0), ({"progress": True, "tell": True}, 2, 4)],
)
def test_progress_from_python(
    options: dict[str, Any],
    lines: int,
    events: int,
    write_source: WriteSource,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On no terminal: lines only if they are asked for. A caller who listens may have them, too."""
    told: list[Any] = []
    if "tell" in options:
        options = options | {"tell": told.append}
    source = write_source([tiny_jpeg(i) for i in range(4)])
    wdsremux.convert(source, tmp_path / "out", recipe="copy", workers=1, **options)
    assert len(capsys.readouterr().err.splitlines()) == lines
    assert (len(told) > 0) is (events > 0)


def test_progress_is_a_flag(tmp_path: Path) -> None:
    with pytest.raises(wdsremux.WdsremuxError, match=r"Invalid progress \(got 'no'\)\. Supported: True or False"):
        wdsremux.convert(tmp_path, tmp_path, progress="no")  # type: ignore[arg-type]
