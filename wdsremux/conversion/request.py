"""What decides the bytes of a split: compared where an earlier run is to be finished."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.errors import OutputError, printable
from wdsremux.format.containers import DEFAULT

_COMMIT = re.compile(r"[0-9a-f]{40}")  #: the revision of a source on the Hub; a folder's is longer
_LONGEST = 200  #: characters of a value in a sentence
_OF_FILES = ("source files", "source revision")  #: what a folder of this machine may change by itself
_CODE = "recipe sha256"
_FOLLOWING = {  #: what follows from other options and from the source: named only where none of these differs
    "source kind": 1,
    "source files": 1,
    "source revision": 1,
    "source license": 1,
    "source citation": 1,
    "options samples_per_shard": 2,
    "options samples_per_task": 2,
}
_UNNAMED = {"options container": DEFAULT}  #: what a value is that is only named where it is another
_FLAGS = ("fast", "restart_rows", "shuffle")  #: options that take no value
_OPTIONS = {"source config": "config", "source revision": "revision", "recipe batch_size": "batch_size", "seed": "seed"}
_WORDS = {"source name": "source", "recipe name": "recipe"} | _OPTIONS  #: what is said for a value's name

_Difference = tuple[str, Any, Any]  #: name, before, now


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
            OutputError: naming the first difference that the user made, and what to do.
        """
        found = sorted(_differences(asdict(before), asdict(self)), key=lambda each: _FOLLOWING.get(each[0], 0))
        if found:
            name, old, new = found[0]
            what, again = self._changed((name, _value(name, old), _value(name, new)), folder)
            raise OutputError(f"{what}. {again}, choose another output folder, or start again with --overwrite")

    def _changed(self, difference: _Difference, folder: Path) -> tuple[str, str]:
        """What changed, and how to have it as it was."""
        name, old, new = difference
        if name == _CODE:
            what = f"the code of recipe {_short(printable(self.recipe['name']))}, or its --recipe-version,"
            return f"{what} changed since the conversion in {folder} was started", "Use the recipe as it was"
        if name in _OF_FILES and not _COMMIT.fullmatch(str(self.source.get("revision"))):
            counts = f" ({old} before, {new} now)" if name == "source files" else ""
            what = f"source files were added, removed or changed since the conversion in {folder} was started{counts}"
            return what, "Restore them"
        option = name.removeprefix("options ") if name.startswith("options ") else _OPTIONS.get(name, "")
        if option in _FLAGS:
            old, new = bool(old), bool(new)
        word = _short(printable(_WORDS.get(name, name).removeprefix("options ")))
        what = f"{folder} was started with {word} {_said(old)}, but this run asks for {_said(new)}"
        return what, _again(option, old)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[_Difference]:
    for name in before | now:
        old, new = before.get(name), now.get(name)
        if old != new and isinstance(old, dict) and isinstance(new, dict):
            yield from ((f"{name} {inner}", a, b) for inner, a, b in _differences(old, new))
        elif old != new:
            yield name, old, new


def _value(name: str, value: Any) -> Any:
    return _UNNAMED.get(name) if value is None else value


def _again(option: str, old: Any) -> str:
    """What to say on the command line to have an option as it was."""
    if option not in ConvertOptions.__annotations__:  # what was read of the plan may name anything
        return "Use the same value"
    flag = f"--{'no-' if option == 'shuffle' else ''}{option.replace('_', '-')}"
    if option in _FLAGS:
        return f"Omit {flag}" if old == (option == "shuffle") else f"Use {flag}"
    if option == "label_column" and old is None:
        return f"Use {flag} none"
    if old is None or old == []:
        return f"Omit {flag}"
    value = ",".join(map(str, old)) if isinstance(old, list) else old
    return f"Use {flag} {_short(repr(value) if isinstance(value, str) and not value.isdecimal() else str(value))}"


def _said(value: Any) -> str:
    return "none" if value is None else _short(repr(value))


def _short(text: str) -> str:
    """Not all of a file, where that is what the text quotes."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
