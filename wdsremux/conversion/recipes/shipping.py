"""A user's function -> bytes for workers, and back.

What is the user's own travels by value (code and all), so that a worker needs neither the file nor a `__main__`, and
another machine none of it; installed packages travel by name.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

import cloudpickle

from wdsremux.conversion.recipes.lookup import MAIN, Found, described, importable, installed
from wdsremux.errors import RecipeError


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def reducer_override(self, obj: Any) -> Any:
        # cloudpickle would put the file's content of this moment in its place, and the recipe would read another file.
        if isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr):
            raise TypeError("cannot pickle an open file")
        if isinstance(obj, types.CodeType):
            make, fields = self.dispatch_table[types.CodeType](obj)
            # cloudpickle takes the file's name away; the trace of a recipe that raises should show its lines.
            return make, tuple(obj.co_filename if value == "<dynamic-code>" else value for value in fields)
        return super().reducer_override(obj)


def dumps(found: Found) -> bytes:
    """Pickle a function with all that it closes over and names.

    Raises:
        RecipeError: if something of that lives in this process only: a lock, an open file, a generator.
    """
    file = io.BytesIO()
    try:
        with _by_value(found.homes):
            _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(found.function)
    except Exception as error:  # whatever the __reduce__ of some object of the user's raises
        raise RecipeError(
            f"recipe {found.name} cannot be sent to workers: {described(error)}. It uses an object that "
            "exists only in this process; open or create that inside the function"
        ) from error
    return file.getvalue()


@contextlib.contextmanager
def _by_value(homes: frozenset[str]) -> Iterator[None]:
    """Have the user's own modules pickled whole; `__main__`, and what is no longer in `sys.modules`, are anyway."""
    packages = {home.partition(".")[0] for home in homes if home != MAIN} & set(sys.modules)
    modules = [
        sys.modules[name] for name in sorted(packages - {"wdsremux"} - cloudpickle.list_registry_pickle_by_value())
    ]
    chosen = [module for module in modules if not installed(module)]
    for module in chosen:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in chosen:
            cloudpickle.unregister_pickle_by_value(module)


@functools.lru_cache(maxsize=1)  # a process bakes with one recipe at a time; its closure may be large
def loads(payload: bytes, name: str, folder: str | None) -> Callable[..., Any]:
    """The function again, once a process.

    Unpickling runs code, which makes it unfit for data. This is no data: it is the user's own function, pickled by this
    very run and handed on by the process that started the worker. It is never read from OUT or from the source.

    Raises:
        RecipeError: if a package that it needs is missing here.
    """
    try:
        with importable(folder):
            return cast("Callable[..., Any]", pickle.loads(payload))
    except Exception as error:  # imports of the user's choice run here
        raise RecipeError(
            f"recipe {name} cannot be loaded in a worker: {described(error)}. Install there what the recipe imports"
        ) from error
