"""Options as a Python call names them: what an error or a warning says of --limit 50 is limit=50 there.

Sentences name options as the command line has them, so that each is written once; `wdsremux.api` turns them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.errors import WdsremuxError

_TYPES: dict[str, Any] = {**get_type_hints(ConvertOptions), "decode": bool}  #: the last is of `wdsremux.verify`
FLAGS = {name: f"{name}=True" for name, kind in _TYPES.items() if kind is bool} | {"no_shuffle": "shuffle=False"}
VALUED = {name for name, kind in _TYPES.items() if kind is not bool}
_NUMBERS = {name for name in VALUED if {int, float} & {_TYPES[name], *get_args(_TYPES[name])}}
PHRASES = {"--debug shows the traceback": "its __notes__ contain the traceback"}
#: A value is a number, none, a word in capitals that stands for one, in quotes, or a list or a path without a space;
#: any other word goes on with the sentence.
TOKEN = re.compile(
    r"(?<![\w-])--(?P<name>[a-z]+(?:-[a-z]+)*)(?![\w-])"
    r"(?: (?P<value>'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?%?|none|[A-Z]{2,}|\w+(?:[,/][\w.-]+)+)(?=[ .,;:)]|$))?"
)


def in_python(text: str) -> str:
    """A sentence with the options of the command line as arguments of a call; names that are none stay as they are."""
    for phrase, other in PHRASES.items():
        text = text.replace(phrase, other)
    return TOKEN.sub(_argument, text)


def _argument(match: re.Match[str]) -> str:
    name, value = match["name"].replace("-", "_"), match["value"]
    if name in FLAGS:
        return FLAGS[name] + (f" {value}" if value else "")
    if name not in VALUED:
        return match[0]
    if value is None:
        return f"{name}="
    is_number = name in _NUMBERS and value.replace(".", "", 1).isdigit()
    as_it_is = is_number or value.isupper() or value[0] in "'\""
    return f"{name}={value}" if as_it_is else f'{name}="{value}"'


@contextlib.contextmanager
def errors_in_python() -> Iterator[None]:
    """Have errors of ours name arguments; they keep their type, cause, notes and attributes."""
    try:
        yield
    except WdsremuxError as error:
        error.args = tuple(in_python(each) if isinstance(each, str) else each for each in error.args)
        raise
