"""The console script: exit codes, and errors as one line. Light to import, so that a Ctrl-C finds it at work at once.

Exit codes: 0 done; 1 an error about a file, the source or OUT; 2 a wrong command line; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from wdsremux.errors import WdsremuxError, printable


def main() -> NoReturn:
    """Run the command line. An error is one line on stderr, and a traceback only with --debug."""
    _hold_standard_streams()
    try:
        from wdsremux.commands import app  # takes a quarter of a second

        app()
    except KeyboardInterrupt:
        _complain("Stopped.")
        raise SystemExit(130) from None
    except SystemExit as end:
        if isinstance(end.__context__ and end.__context__.__cause__, KeyboardInterrupt):  # Typer has caught it
            _complain("Stopped.")
        raise
    except (WdsremuxError, OSError) as error:  # an OSError is what no module has met, such as stdout on a full disk
        if "--debug" in sys.argv:
            raise
        ours = isinstance(error, WdsremuxError)
        text = printable(str(error) if ours else f"stopped by the system: {error}").rstrip(".")
        _complain(f"{text}.")
        raise SystemExit(error.exit_code if isinstance(error, WdsremuxError) else 1) from None
    raise SystemExit(0)


def _complain(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # stderr is gone: the exit code says it all the same
            print(f"wdsremux: {text}", file=sys.stderr, flush=True)


def _hold_standard_streams() -> None:
    """Open what was closed by the caller: the next file would take its number, and get what libraries print to it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # by the workers, too
    os.close(descriptor)
