"""A command on a terminal of its own, and what is on its screen afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


#: Makes its stdin the terminal of its session, and becomes the command.
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """Runs a command on a pseudo-terminal. Ctrl-C typed into it reaches the whole group, as on a real one."""

    def __init__(
        self, command: Sequence[str], *, columns: int = 80, cwd: Path | None = None, **environment: str
    ) -> None:
        self.columns = columns
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=os.environ | {"TERM": "xterm", "COLUMNS": ""} | environment,
            start_new_session=True,
        )
        os.close(slave)
        self.written = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 2**16)
            except OSError:  # nobody has the other end any more
                return
            if not piece:
                return
            self.written += piece

    def wait_for(self, text: str, timeout_s: float = 60.0) -> None:
        """Until a text was written."""
        deadline_s = time.monotonic() + timeout_s
        while text.encode() not in self.written:
            assert time.monotonic() < deadline_s, self.written
            assert self.process.poll() is None, self.written
            time.sleep(0.01)

    def ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def finish(self, timeout_s: float = 60.0) -> int:
        """Wait for the end; gives the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        os.close(self._master)
        return code

    def screen(self) -> list[str]:
        """The lines that are left on the screen, long ones wrapped."""
        lines, row, column = [""], 0, 0
        for match in _SEQUENCE.finditer(self.written.decode()):
            argument, what, control, text = match.groups()
            if control == "\r":
                column = 0
            elif control == "\n":
                row += 1
            elif what == "A":
                row -= int(argument or 1)
            elif what == "K":
                lines[row] = ""
            for char in text or "":
                if column == self.columns:
                    row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
                lines[row] = lines[row].ljust(column)[:column] + char + lines[row][column + 1 :]
                column += 1
            lines += [""] * (row + 1 - len(lines))
        return [line.rstrip() for line in lines if line.strip()]
