"""Ctrl-C and SIGTERM of the command line, remembered: a library that is half loaded may swallow the exception, or make
another one of it.

hear        remember a signal, and raise KeyboardInterrupt
asked       the signal that came
check       raise again what was swallowed
announce    say once that the command has stopped
complain    say anything else on stderr
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from wdsremux.errors import printable

_asked: int | None = None
_announced = False


@contextlib.contextmanager
def hear() -> Iterator[None]:
    """Remember a Ctrl-C that comes meanwhile, unless this process was started to ignore it."""
    global _asked, _announced
    _asked, _announced = None, False
    before, hook = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}, sys.unraisablehook
    if before[signal.SIGINT] is signal.default_int_handler:
        signal.signal(signal.SIGINT, _ask)
    sys.unraisablehook = lambda lost: None if isinstance(lost.exc_value, KeyboardInterrupt) else hook(lost)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def hear_terminations() -> None:
    """Let SIGTERM end a command as Ctrl-C does: workers first, nothing left half-written."""
    signal.signal(signal.SIGTERM, _ask)


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = number
    raise KeyboardInterrupt


def asked() -> int | None:
    """The number of the signal that came; None if none did."""
    return _asked


def check() -> None:
    """
    Raises:
        KeyboardInterrupt: if a signal came, and whoever got the exception has gone on.
    """
    if _asked is not None:
        raise KeyboardInterrupt


def exit_code() -> int:
    """Of a command that was stopped."""
    return 128 + (signal.SIGINT if _asked is None else _asked)


def announce(text: str) -> None:
    """Say on stderr that the command has stopped, unless that was said before."""
    global _announced
    if not _announced:
        _announced = True
        complain(text)


def complain(text: str) -> None:
    """One line on stderr; none where it is closed, as the exit code says it all the same."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(printable(f"wdsremux: {text}"), file=sys.stderr, flush=True)
