"""What a user's function does, as a SHA-256 that is the same in every run and process, whatever the hash seed.

The hash is of the source text of the function's file or notebook cell, and of the values that it closes over, has as
defaults, and names among its globals. Functions and classes of the user's own (of the same file, of any cell, of
`__main__`) are followed; those of other modules count by name, and modules too. Where there is no source text (typed
into `python -i` or `-c`, up to Python 3.12) bytecode, names and constants stand in, which other versions change.

Never hashed: a pickle's bytes (cloudpickle's differ from run to run) and any path of ours; a path among the user's
values counts from the recipe's folder on, where it lies in there. Not seen: what other modules do, and what an object's
repr does not tell. `recipe_version=` takes the place of all this. A transform of torchvision that is the recipe counts
by its class and all its attributes.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import os
import re
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NoReturn

import numpy as np
import torch

from wdsremux import rng
from wdsremux.conversion.recipes import functions, per_picture
from wdsremux.conversion.recipes.lookup import Found
from wdsremux.errors import OptionError

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
_ATOMS = (type(None), bool, int, float, complex, bytes, bytearray, type(...), range)
_PLAIN = (*_ATOMS, str, list, tuple, dict, set, frozenset)


def fingerprint(found: Found, version: str | None) -> str:
    """SHA-256, in hexadecimal, of a recipe.

    Args:
        found: the recipe.
        version: the user's own name for what it does; then it and the recipe's name alone count.

    Raises:
        OptionError: if it uses a value that cannot be told from another in the next run: its repr is an address.
    """
    if version is not None:
        return rng.digest("user", found.name, version)
    walk = _Walk(found)
    try:
        return rng.digest("user", walk.value(found.function, found.name))
    except RecursionError:
        walk.refuse("values that are nested too deeply to be compared")


class _Walk:
    """One walk over a function and all that it uses. What it returns is plain: strings, numbers, tuples and lists."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._of_transform = per_picture.is_transform(found.function)  # one that a function names counts by its repr
        self._seen: dict[int, tuple[object, str]] = {}  # holds the objects, so that no id is given out twice
        self._open: list[int] = []  # the containers around the present value

    def refuse(self, what: str) -> NoReturn:
        """
        Raises:
            OptionError: always.
        """
        raise OptionError(
            f"recipe {self._found.name} uses {what}. Set the version of the recipe yourself, with --recipe-version"
        )

    def value(self, value: Any, where: str) -> Any:
        """A description of any value; `where` is what the user calls it."""
        if type(value) in _ATOMS:
            return (type(value).__name__, repr(value))
        if isinstance(value, str | PurePath):
            return (type(value).__name__, self._text(str(value)))
        if isinstance(value, types.ModuleType):
            return ("module", value.__name__)
        if value is os.environ:  # another one in every run; what a recipe reads there is its own affair
            return ("named", "os", "environ")
        if isinstance(value, list | tuple | set | frozenset | deque | Mapping):
            return self._container(value, where)
        if id(value) not in self._seen:
            self._seen[id(value)] = (value, f"number {len(self._seen)}")  # for a cycle: f names g, which names f
            self._seen[id(value)] = (value, rng.digest(self._object(value, where)))
        return self._seen[id(value)][1]

    def _text(self, text: str) -> str:
        """Without the recipe's folder: another one where the same recipe runs from a copy."""
        folder = self._found.folder
        return text if folder in (None, os.sep) else re.sub(rf"{re.escape(folder)}(?=[/\\'\"),\]\s]|$)", ".", text)

    def _container(self, value: Any, where: str) -> Any:
        if id(value) in self._open:
            return ("cycle", len(self._open) - self._open.index(id(value)))
        self._open.append(id(value))
        if isinstance(value, Mapping):
            pairs = [(self.value(key, where), self.value(inner, where)) for key, inner in value.items()]
            parts = pairs if isinstance(value, OrderedDict) else sorted(pairs, key=repr)
        else:
            parts = [self.value(inner, where) for inner in value]
            parts = sorted(parts, key=repr) if isinstance(value, set | frozenset) else parts
        self._open.pop()
        return (type(value).__qualname__, parts, self.value(getattr(value, "default_factory", None), where))

    def _object(self, value: Any, where: str) -> Any:
        if isinstance(value, types.FunctionType):
            return self._function(value, where)
        if isinstance(value, types.MethodType | types.BuiltinMethodType | types.MethodWrapperType):
            return self._method(value, where)
        if isinstance(value, functools.partial):
            return ("partial", *(self.value(inner, where) for inner in (value.func, value.args, value.keywords)))
        if isinstance(value, type):
            return self._class(value, where) if value.__module__ in self._found.homes else _by_name(value)
        if isinstance(value, enum.Enum):
            return ("enum", self.value(type(value), where), value.name)
        if isinstance(value, torch.Tensor):
            return ("tensor", str(value.dtype), tuple(value.shape), self._tensor(value, where))
        if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array_interface__"):  # a PIL picture's
            return self._array(np.asarray(value), where)
        if isinstance(value, re.Pattern):  # its repr stops after 200 characters
            return ("pattern", value.pattern, value.flags)
        wrapped = getattr(value, "__wrapped__", None)  # of functools.lru_cache and its like
        if wrapped is not None:
            return ("around", type(value).__qualname__, self.value(wrapped, where))
        if isinstance(getattr(value, "__qualname__", None), str):  # a function of an extension module
            return _by_name(value)
        return self._instance(value, where)

    def _tensor(self, tensor: torch.Tensor, where: str) -> str:
        try:
            flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
            return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
        except (RuntimeError, TypeError):  # sparse, quantised, or on the device "meta"
            self.refuse(f"{where!r}: a tensor whose values cannot be read")

    def _array(self, array: np.ndarray[Any, Any], where: str) -> Any:
        if array.dtype.hasobject:
            return ("array", array.shape, self.value(array.tolist(), where))
        return ("array", str(array.dtype.descr), array.shape, hashlib.sha256(array.tobytes()).hexdigest())

    def _instance(self, value: Any, where: str) -> Any:
        """An object: its state where its class is the user's own, else its repr."""
        kind = type(value)
        if self._of_transform and per_picture.is_transform(value):
            return ("transform", self.value(kind, where), self.value(per_picture.parameters(value), where))
        if kind.__module__ in self._found.homes:
            return ("object", self.value(kind, where), self.value(functions.state(value), where))
        try:
            text = repr(value)
        except Exception as error:  # whatever it raises
            self.refuse(f"{where!r}: a {kind.__qualname__} whose repr raises {type(error).__name__}")
        if _ADDRESS.search(text) or f"{id(value):x}" in text.lower():
            self.refuse(f"{where!r}: a {kind.__qualname__}, whose repr is a memory address, which differs in every run")
        weights = value.state_dict() if isinstance(value, torch.nn.Module) else None
        return ("object", _by_name(kind), self._text(text), self.value(weights, where))

    def _method(self, method: Any, where: str) -> Any:
        """A bound method; one that a module holds by name, such as `random.random`, is a function of that module."""
        owner, name = method.__self__, method.__name__
        if isinstance(owner, types.ModuleType):
            return ("named", owner.__name__, name)
        if isinstance(method, types.BuiltinMethodType) and method.__module__ is not None:  # pybind11's have an owner
            return _by_name(method)
        home = sys.modules.get(type(owner).__module__)
        if getattr(home, name, None) == method:
            return ("named", type(owner).__module__, name)
        return ("method", name, self.value(owner, where), self.value(getattr(method, "__func__", None), where))

    def _function(self, function: types.FunctionType, where: str) -> Any:
        name, home = function.__code__.co_qualname, str(function.__globals__.get("__name__"))
        if home not in self._found.homes and hasattr(
            function, "__wrapped__"
        ):  # a library's decorator, around the user's
            return ("around", home, name, self.value(function.__wrapped__, where))
        captured = [(key, self.value(inner, key)) for key, inner in functions.captured(function)]
        if home not in self._found.homes:
            return ("function", home, name, captured)
        text = functions.source_text(function)
        if text is None:
            code = self._bytecode(function.__code__, where)
        else:
            code = ("text", hashlib.sha256(text.encode()).hexdigest(), functions.position(function.__code__))
        named = [(key, self.value(function.__globals__[key], key)) for key in functions.globals_named(function)]
        defaults = self.value((function.__defaults__, function.__kwdefaults__), f"a default of {name}")
        return ("function", name, code, defaults, captured, named, self.value(vars(function), where))

    def _bytecode(self, code: types.CodeType, where: str) -> Any:
        names = (code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        constants = [
            self._bytecode(constant, where) if isinstance(constant, types.CodeType) else self.value(constant, where)
            for constant in code.co_consts
        ]
        return ("code", code.co_name, code.co_code.hex(), code.co_exceptiontable.hex(), names, counts, constants)

    def _class(self, kind: type, where: str) -> Any:
        """A class of the user's own: its methods have its text; its other attributes count where they are plain."""
        bases = [self.value(base, where) for base in kind.__bases__]
        methods = [(name, self.value(method, name)) for name, method in functions.methods(kind)]
        plain = [
            (name, self.value(member, name)) for name, member in sorted(vars(kind).items()) if _is_plain(name, member)
        ]
        return ("class", kind.__qualname__, bases, methods, plain)


def _is_plain(name: str, member: object) -> bool:
    return type(member) in _PLAIN and not name.startswith("__")


def _by_name(value: Any) -> tuple[str, ...]:
    return ("named", str(getattr(value, "__module__", None)), str(value.__qualname__))
