"""What Python tells of a function: its source text, the globals that its code names, the functions of a class."""

from __future__ import annotations

import dis
import linecache
import os
import types
from collections.abc import Iterator
from typing import Any

_ABOUT_MODULES = frozenset(
    {"__builtins__", "__cached__", "__file__", "__loader__", "__name__", "__package__", "__path__", "__spec__"}
)


def source_text(function: types.FunctionType) -> str | None:
    """The whole text of the file or notebook cell that a function stands in; None where there is none."""
    filename = function.__code__.co_filename
    if os.path.exists(filename):
        linecache.checkcache(filename)  # of files only: a cell's text is nowhere but in this cache
    return "".join(linecache.getlines(filename, function.__globals__)) or None


def position(code: types.CodeType) -> tuple[int, int]:
    """Line, and for a lambda column, that tell apart the functions of one name in one text."""
    if code.co_name != "<lambda>":
        return code.co_firstlineno, 0
    places = [
        (line, column)
        for line, _, column, end in code.co_positions()
        if line is not None and column is not None and end != column  # an empty place is the interpreter's own step
    ]
    return min(places, default=(code.co_firstlineno, 0))


def globals_named(function: types.FunctionType) -> list[str]:
    """The names of the globals that a function's code uses, that of functions inside it too; builtins are none."""
    names: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for step in dis.get_instructions(code):
            if "GLOBAL" in step.opname or step.opname == "LOAD_NAME":  # the latter in the body of a class inside it
                names.add(step.argval)
    return sorted((names & set(function.__globals__)) - _ABOUT_MODULES)


def captured(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """(name, value) of each variable that a function closes over and that has a value yet."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue


def methods(kind: type) -> Iterator[tuple[str, types.FunctionType]]:
    """(name, function) of all that a class defines itself: methods, properties, static and class methods."""
    for name, member in sorted(vars(kind).items()):
        if isinstance(member, property):
            around = [member.fget, member.fset, member.fdel]
        else:
            around = [getattr(member, "__func__", getattr(member, "func", member))]
        for function in around:
            if isinstance(function, types.FunctionType) and not _is_generated(name, function):
                yield name, function


def _is_generated(name: str, function: types.FunctionType) -> bool:
    """By dataclasses or namedtuple, around objects of theirs, and otherwise in each version of Python."""
    dunder = name.startswith("__") and name.endswith("__") and name != "__call__"
    library = function.__globals__.get("__name__") in ("dataclasses", "reprlib")
    return dunder and (library or function.__code__.co_filename == "<string>")


def state(value: object) -> dict[str, Any]:
    """An object's attributes, those in slots too."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found
