"""What decides the bytes of a split: compared where an earlier run is to be finished."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wdsremux.errors import OutputError, printable

_COMMIT = re.compile(r"[0-9a-f]{40}")  #: the revision of a source on the Hub; a folder's is longer
_LONGEST = 200  #: characters of a value in a sentence
_OF_FILES = ("source files", "source revision")  #: what a folder of this machine may change by itself


@dataclass(frozen=True, slots=True)
class Request:
    """What decides the bytes of a split, but for the environment. Plain values, compared at a resume."""

    source: dict[str, Any]
    recipe: dict[str, Any]
    options: dict[str, Any]
    seed: int

    def check(self, before: Request, folder: Path) -> None:
        """Refuse to go on with what was begun otherwise.

        Raises:
            OutputError: naming the first difference.
        """
        for name, old, new in _differences(asdict(before), asdict(self)):
            asked, again = f"and now {_short(repr(new))} is asked for", "Ask for the same"
            if name in _OF_FILES and not _COMMIT.fullmatch(str(self.source.get("revision"))):
                asked, again = f"and now it is {new!r}: files were added, removed or changed", "Put them back"
            begun = f"{folder} was begun with {_short(printable(name))} {_short(repr(old))}"
            raise OutputError(f"{begun}, {asked}. {again}, choose another OUT, or begin anew with --overwrite")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in before | now:
        old, new = before.get(name), now.get(name)
        if old != new and isinstance(old, dict) and isinstance(new, dict):
            yield from ((f"{name} {inner}", a, b) for inner, a, b in _differences(old, new))
        elif old != new:
            yield name, old, new


def _short(text: str) -> str:
    """Not all of a file, where that is what the text quotes."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
