"""One line that moves while something runs, on a terminal or in a notebook, whatever its width."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self, cast

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wdsremux.errors import printable

_NOTEBOOK_COLUMNS = 90  #: of a line in a notebook, which does not tell how wide it is
_GAP = 2  #: columns between two parts of the line
_SPARE = 3  #: columns at its end, for the ^C that a terminal echoes: one more would begin a second line
_LEAST_NAME, _MOST_NAME = 12, 40
_LEAST_BAR, _MOST_BAR = 5, 40


class _Unbreakable:
    """A stream that is written to as long as it lasts: a conversion of hours does not end with who watches it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a pipe without a reader, a full disk; closed
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def console_on_stderr() -> Console:
    """None stands for stderr where it was closed."""
    lasting = sys.stderr and cast("IO[str]", _Unbreakable(sys.stderr))
    return Console(file=lasting, stderr=True, highlight=False)


def is_watched(console: Console) -> bool:
    """Whether a person is there: on a terminal, be it a dumb one, or in a notebook."""
    return console.is_terminal or console.is_jupyter


def can_draw(console: Console) -> bool:
    """Whether a line can move there: a dumb terminal cannot, nor a notebook without ipywidgets."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_interactive


def shortened(text: str, width: int) -> str:
    """A text cut in its middle to so many columns: what differs between long paths stands at their ends."""
    if cell_len(text) <= width:
        return text
    head, tail = "", ""
    while cell_len(head) + cell_len(text[len(head)]) <= (width - 1) // 2:
        head += text[len(head)]
    while cell_len(head) + 1 + cell_len(tail) + cell_len(text[-len(tail) - 1]) <= width:
        tail = text[-len(tail) - 1] + tail
    return f"{head}…{tail}"


def clock(seconds: float) -> str:
    """A duration as H:MM:SS."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def percent(fraction: float) -> str:
    """A share, always as wide as that of the whole."""
    return f"{100 * fraction:3.0f} %"


@dataclass(frozen=True, slots=True)
class Fitted:
    """The line at one width."""

    name: str
    bar: int  #: columns; 0: there is no room for one
    texts: tuple[str, ...]


def layout(width: int, title: str, facts: Sequence[str], extras: Sequence[str]) -> Fitted:
    """What of a line fits.

    Args:
        width: columns that there are.
        title: in front; cut in its middle where it is too long.
        facts: that stand in any line as long as there is room for the least of a name and a bar.
        extras: in the order in which they are added where there is more room.
    """
    texts = list[str]()
    room = width - min(cell_len(title), _LEAST_NAME) - _GAP - _LEAST_BAR
    for text in facts:
        if (needed := cell_len(text) + _GAP) <= room:
            texts.append(text)
            room -= needed
    name = max(0, min(cell_len(title), _MOST_NAME) - _LEAST_NAME)
    given = min(name, max(0, room - _LEAST_BAR))
    room -= given
    for text in extras:
        if (needed := cell_len(text) + _GAP) > room - _LEAST_BAR:
            break
        texts.append(text)
        room -= needed
    shown = shortened(title, max(1, min(cell_len(title), _LEAST_NAME + given, width)))
    return Fitted(shown, min(_MOST_BAR, max(0, _LEAST_BAR + room)), tuple(texts))


class MovingLine:
    """A line that is drawn again while it is held, and is gone afterwards. Use as a context manager."""

    def __init__(self, title: str, console: Console | None = None, *, drawn: bool | None = None) -> None:
        """
        Args:
            title: what it is about.
            console: where to draw; None: stderr.
            drawn: whether to draw; None: where that can be done.
        """
        self.console = console or console_on_stderr()
        self.title = printable(title)
        self.drawn = can_draw(self.console) if drawn is None else drawn
        self.fraction: float | None = None  #: 0 to 1; None: nobody knows how much there is
        self.facts: Sequence[str] = ()
        self.extras: Sequence[str] = ()
        self._live = Live(console=self.console, get_renderable=self._line, transient=True, refresh_per_second=8)
        self._began_s = time.monotonic()

    def __enter__(self) -> Self:
        if self.drawn:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def move(self, done: float, total: float) -> None:
        """Say how far it is, in whatever unit; the percentage and the time left follow."""
        self.fraction = min(1.0, done / total) if total else 1.0
        passed_s = time.monotonic() - self._began_s
        left = (f"{clock(passed_s / self.fraction - passed_s)} left",) if self.fraction else ()
        self.facts = (percent(self.fraction), *left)

    def _line(self) -> RenderableType:
        width = _NOTEBOOK_COLUMNS if self.console.is_jupyter else self.console.width - _SPARE
        found = layout(width, self.title, self.facts, self.extras)
        grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        cells: list[RenderableType] = [Text(found.name, no_wrap=True)]
        if found.bar:
            total = None if self.fraction is None else 1.0
            cells.append(ProgressBar(total=total, completed=self.fraction or 0.0, width=found.bar))
        cells += [Text(text, no_wrap=True) for text in found.texts]
        for _ in cells:
            grid.add_column(no_wrap=True)
        grid.add_row(*cells)
        return grid
