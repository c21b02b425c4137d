"""Converts what it is told to, one request a line: for tests that need another environment than pytest has.

with Client(os.environ | hub.environment(home)) as client:
    assert client.convert("ours/flowers", out, recipe="copy") == ""
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PATIENCE_S = 100.0  #: for one conversion; past it the process is killed, and the test fails


class Client:
    """A process that calls `wdsremux.convert`; a context manager."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.client"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def convert(self, source: str | Path, out: Path, **options: Any) -> str:
        """Call `wdsremux.convert`. Returns the error's text, "" if there was none."""
        assert self._process.stdin
        assert self._process.stdout
        alarm = threading.Timer(PATIENCE_S, self._process.kill)
        alarm.start()
        try:
            self._process.stdin.write(json.dumps({"source": str(source), "out": str(out), **options}) + "\n")
            self._process.stdin.flush()
            return str(json.loads(self._process.stdout.readline()))
        finally:
            alarm.cancel()
            alarm.join()


def main() -> None:
    import wdsremux
    from wdsremux.errors import WdsremuxError

    for line in sys.stdin:
        try:
            wdsremux.convert(**json.loads(line))
        except WdsremuxError as error:
            print(json.dumps(str(error)), flush=True)
        else:
            print(json.dumps(""), flush=True)


if __name__ == "__main__":
    main()
