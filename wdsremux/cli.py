"""The console script: exit codes, and errors as one line. Light to import, so that a Ctrl-C finds it at work at once.

Exit codes: 0 done; 1 an error about a file, the source or OUT; 2 a wrong command line; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from wdsremux import stopping
from wdsremux.errors import WdsremuxError

_NAME = "wdsremux"  #: of the program, however it was started: the scripts for completion are of that name


def main() -> NoReturn:
    """Run the command line. An error is one line on stderr, and a traceback only with --debug."""
    _hold_standard_streams()
    with stopping.hear():
        try:
            _run()
        except BaseException as error:  # whatever a library that was half loaded has made of a Ctrl-C
            if stopping.asked() is None and not isinstance(error, KeyboardInterrupt):
                raise
        stopping.announce("Stopped.")
        raise SystemExit(stopping.exit_code())


def _run() -> NoReturn:
    try:
        from wdsremux.commands import app  # takes a quarter of a second

        app(prog_name=_NAME)
    except (WdsremuxError, OSError) as error:  # an OSError is what no module has met, such as stdout on a full disk
        if "--debug" in sys.argv or stopping.asked() is not None:
            raise
        ours = isinstance(error, WdsremuxError)
        text = str(error) if ours else f"the operating system reported an error: {error}"
        stopping.complain(text.rstrip(".") + ".")
        raise SystemExit(error.exit_code if isinstance(error, WdsremuxError) else 1) from None
    raise SystemExit(0)


def _hold_standard_streams() -> None:
    """Open what was closed by the caller: the next file would take its number, and get what libraries print to it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # by the workers, too
    os.close(descriptor)
