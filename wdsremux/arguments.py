"""Arguments of public functions, checked where they come in: a plain Python value goes on, or an OptionError says why.

What is like a number is one: numpy's integers become ints, so that states and manifests hold plain values. A float
where an integer is meant is an error, and so is a bool where a number is.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import operator
import os
import reprlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NoReturn, ParamSpec, TypeVar

from wdsremux.errors import OptionError

P = ParamSpec("P")
T = TypeVar("T")
_FLAGS = ("bool", "bool_")  #: types whose values are True and False: Python's, and numpy's under its two names


def refuse(name: str, value: object, supported: str) -> NoReturn:
    """
    Raises:
        OptionError: naming the argument, what was given for it, and what it takes.
    """
    raise OptionError(f"Invalid {name} (got {' '.join(reprlib.repr(value).split())}). Supported: {supported}")


def names(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """
    Raises:
        TypeError: for a keyword that is none of the names that are known, with the one that is most like it.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, [*known], 1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{function} got an unexpected keyword argument {name!r}{hint}")


def names_checked(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a public function: keywords that it does not take are refused as `names` does it."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        names(f"wdsremux.{function.__name__}", kwargs, known)
        return function(*args, **kwargs)

    return checked


def integer(name: str, value: Any, least: int | None = 1, most: int | None = None, unit: str = "") -> int:
    """An integer between bounds, which belong to it.

    Raises:
        OptionError: if it is none.
    """
    try:
        found = operator.index(value)
    except TypeError:
        found = None
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    if found is None or type(value).__name__ in _FLAGS or not low <= found <= high:
        if least is None:
            refuse(name, value, f"an integer{unit}")
        few = f"an integer of {least} or more{unit}" if unit else f"an integer, {least} or more"
        refuse(name, value, few if most is None else f"an integer, {least} to {most}")
    return found


def number(name: str, value: Any, least: float, unit: str = "") -> float:
    """A finite number that is not below `least`.

    Raises:
        OptionError: if it is none.
    """
    try:
        found = math.nan if isinstance(value, str | bytes) or type(value).__name__ in _FLAGS else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not least <= found < math.inf:
        refuse(name, value, f"a number{unit}, {least:g} or more")
    return found


def flag(name: str, value: Any) -> bool:
    """
    Raises:
        OptionError: if it is neither True nor False.
    """
    if type(value).__name__ not in _FLAGS:
        refuse(name, value, "True or False")
    return bool(value)


def text(name: str, value: Any, what: str = "a string") -> str:
    """
    Raises:
        OptionError: if it is no text.
    """
    if not isinstance(value, str):
        refuse(name, value, what)
    return value


def function(name: str, value: Any) -> None:
    """
    Raises:
        OptionError: if it cannot be called.
    """
    if not callable(value):
        refuse(name, value, "a function")


def path(name: str, value: Any) -> str:
    """
    Raises:
        OptionError: if it is no path.
    """
    try:
        found = os.fspath(value)
    except TypeError:
        found = None
    if not isinstance(found, str):
        refuse(name, value, "a path, as a string or a pathlib.Path")
    return found


def one_of(name: str, value: Any, known: Collection[str]) -> str:
    """
    Raises:
        OptionError: if it is none of the texts that are known.
    """
    if not isinstance(value, str) or value not in known:
        refuse(name, value, ", ".join(known))
    return value


def texts(name: str, value: Any, known: Collection[str]) -> tuple[str, ...]:
    """Some of the texts that are known, in the order given.

    Raises:
        OptionError: if one is none of them, or it is one text in place of several.
    """
    if isinstance(value, str) or not isinstance(value, Iterable) or not value:
        refuse(name, value, f"a tuple of {', '.join(known)}")
    return tuple(one_of(name, each, known) for each in value)


def channels(name: str, value: Any) -> tuple[float, float, float]:
    """Three numbers of 0 to 1, for red, green and blue: a sequence, an array or a tensor of them.

    Raises:
        OptionError: if it is none, or looks like values of 0 to 255.
    """
    given = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(given, Sequence) or isinstance(given, str | bytes) or len(given) != 3:
        refuse(name, value, "three numbers from 0 to 1, for red, green and blue")
    red, green, blue = (number(name, each, -math.inf) for each in given)
    if max(red, green, blue) > 1:
        raise OptionError(
            f"Invalid {name} (got {value!r}). Supported: three numbers from 0 to 1. These look like values from "
            "0 to 255: divide them by 255"
        )
    return red, green, blue
