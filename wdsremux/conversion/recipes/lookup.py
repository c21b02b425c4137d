"""FILE.py:FUNC, package.module:FUNC or a callable -> the function, and where it is at home.

A FILE is run as `python FILE.py` would run it: its folder is importable meanwhile, and what it imports from there is
its own. Afterwards neither stays in `sys.modules`, where a `utils.py` of the user's would hide another one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import decode_source
from pathlib import Path
from typing import Any, NoReturn

from wdsremux.conversion.recipes.names import USERS
from wdsremux.errors import OptionError, RecipeError, one_line

MAIN = "__main__"
_PACKAGE = str(Path(__file__).parents[2]) + os.sep
_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib")}
)


@dataclass(frozen=True, slots=True)
class Found:
    """A user's function, and where it comes from."""

    name: str  #: for the manifest: no folder in it
    function: Callable[..., Any]
    homes: frozenset[str]  #: `__name__` of the modules whose code is the recipe's own
    folder: str | None  #: where its neighbours lie, which it may import at a call


def find(recipe: str | Callable[..., Any]) -> Found:
    """Load a user's function.

    Raises:
        OptionError: if `recipe` is neither a name nor callable.
        RecipeError: if its file or module is missing or fails, or holds no such function.
    """
    if isinstance(recipe, str):
        match = USERS.fullmatch(recipe)
        if match is None:
            raise OptionError(f"Invalid recipe (got {recipe!r}). Supported: FILE.py:FUNC and package.module:FUNC")
        place, path = match["home"], match["function"]
        if place.endswith(".py"):
            file = Path(place)
            module, name, folder = _load_file(file), f"{file.name}:{path}", file.resolve().parent
        else:
            module, name, folder = _load_module(place), recipe, Path.cwd()
        function = _attribute(module, path, name)
        return Found(name, function, frozenset({module.__name__, home(function)}), str(folder))
    if not callable(recipe):
        raise OptionError(
            f"Invalid recipe (got {recipe!r}). Supported: a name, or a function that maps a batch of rows"
        )
    module_name = home(recipe)
    folder_of_script = script_folder() if module_name == MAIN else None
    return Found(_name(recipe), recipe, frozenset({module_name}), folder_of_script)


def script_folder() -> str | None:
    """Where the running script lies; None in a notebook or a prompt."""
    file = getattr(sys.modules[MAIN], "__file__", None)
    return None if file is None else str(Path(file).resolve().parent)


@contextlib.contextmanager
def importable(folder: str | None) -> Iterator[None]:
    """Have a folder first on `sys.path` for a while, and its modules before others of their names.

    A `datasets` beside a recipe is the one that it means, as if Python ran it, though another one is loaded.
    """
    if folder is None:
        yield
        return
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        with _namesakes_hidden(folder):
            yield
    finally:
        if added:
            with contextlib.suppress(ValueError):  # the user's code took it away itself
                sys.path.remove(folder)


@contextlib.contextmanager
def _namesakes_hidden(folder: str) -> Iterator[None]:
    """Take modules from elsewhere that are called like one in the folder out of `sys.modules` meanwhile."""
    names = {name for name in _modules_in(folder) if _is_elsewhere(name, folder)} - sys.stdlib_module_names
    if not names:
        yield
        return
    hidden = _taken(names)
    sys.modules.update(_THEIRS.get(folder, {}))
    try:
        yield
    finally:
        _THEIRS[folder] = _taken(names)
        sys.modules.update(hidden)


_THEIRS: dict[str, dict[str, types.ModuleType]] = {}  #: by folder: modules of the user's that have namesakes


def _taken(names: set[str]) -> dict[str, types.ModuleType]:
    """Modules of these names and all within them, taken out of `sys.modules`."""
    found = [name for name in sys.modules if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}


@functools.lru_cache(maxsize=16)
def _modules_in(folder: str) -> frozenset[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # it is gone, or not on this machine
        return frozenset()
    files = {entry.name.removesuffix(".py") for entry in entries if entry.name.endswith(".py")}
    packages = {entry.name for entry in entries if os.path.isfile(os.path.join(entry.path, "__init__.py"))}
    return frozenset(files | packages) - {"wdsremux", MAIN}


def _is_elsewhere(name: str, folder: str) -> bool:
    """Whether a module of that name is loaded, and from elsewhere."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and not file.startswith(folder + os.sep)


def installed(module: types.ModuleType) -> bool:
    """Whether other processes and machines can be expected to have a module: it is no file of the user's own."""
    file = getattr(module, "__file__", None)
    return file is None or _is_installed(file)


def _is_installed(file: str) -> bool:
    return file.startswith(_INSTALLED) or bool({"site-packages", "dist-packages"} & {*Path(file).parts})


def _load_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise RecipeError(
            f"recipe file {path} does not exist (looked for in {Path.cwd()}). Give an existing file, as FILE.py:FUNC"
        )
    folder = path.resolve().parent
    module = types.ModuleType(f"wdsremux recipe {path.stem}")  # a name that no import can ask for
    module.__file__ = str(path.resolve())
    before = set(sys.modules)
    sys.modules[module.__name__] = module  # dataclasses look their module up while they are made
    try:
        with importable(str(folder)):
            # Not by an import loader: it would leave a __pycache__ beside the file, and may take a stale one.
            exec(compile(decode_source(path.read_bytes()), module.__file__, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        _fail(f"recipe file {path}", error)
    finally:
        del sys.modules[module.__name__]
        for name in [name for name in set(sys.modules) - before if _is_neighbour(sys.modules[name], folder)]:
            del sys.modules[name]
    return module


def _is_neighbour(module: types.ModuleType, folder: Path) -> bool:
    """Whether it is Python source of the user's, from the recipe's folder; only that can travel by value."""
    file = getattr(module, "__file__", None)
    return (
        file is not None
        and file.endswith(".py")
        and not installed(module)
        and Path(file).resolve().is_relative_to(folder)
    )


def _load_module(name: str) -> types.ModuleType:
    try:
        with importable(str(Path.cwd())):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise RecipeError(
                f"the module {error.name!r} of recipe {name} does not exist (looked for in {Path.cwd()} and among the "
                "installed packages). Install it, or run the command in its folder"
            ) from error
        _fail(f"recipe module {name}", error)
    except (Exception, SystemExit) as error:
        _fail(f"recipe module {name}", error)


def _fail(what: str, error: BaseException) -> NoReturn:
    raise failure(f"{what} cannot be imported", error) from error


def failure(text: str, error: BaseException) -> RecipeError:
    """An error that ends with what the user's code raised, and where, and has its trace as a note."""
    result = RecipeError(f"{text}: {described(error)} ({_raised_at(error)}--debug shows the traceback)")
    result.add_note("".join(traceback.format_exception(error)))
    return result


def _raised_at(error: BaseException) -> str:
    """File and line of the user's own code that came last; empty where none of it ran, as in a file that is no Python.

    The frames around it are of this package, those within it of libraries.
    """
    own = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith((_PACKAGE, "<frozen "))
        and not _is_installed(frame.f_code.co_filename)
    ]
    if not own:
        return ""
    code, line = own[-1]
    is_cell = "ipykernel_" in code.co_filename or code.co_filename.startswith("<ipython-input")
    return f"{'notebook cell' if is_cell else Path(code.co_filename).name}:{line} in {code.co_name}; "


def described(error: BaseException) -> str:
    """Those of an exception of the user's, in one line of bounded length."""
    return f"{type(error).__name__}: {one_line(error)}" if str(error).strip() else type(error).__name__


def _attribute(module: types.ModuleType, path: str, name: str) -> Callable[..., Any]:
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
            raise RecipeError(
                f"recipe {name}: {path!r} does not exist. Functions there: {', '.join(known[:9]) or 'none'}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise RecipeError(f"recipe {name}: {path!r} is not a function but a value of type {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        return _name(function.func)
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def home(function: Any) -> str:
    """`__name__` of the module that the code is from; a decorator of a library's does not hide it."""
    while True:
        inner = getattr(function, "func" if isinstance(function, functools.partial) else "__wrapped__", None)
        if inner is None:
            break
        function = inner
    function = getattr(function, "__func__", function)
    if isinstance(function, types.FunctionType):
        return str(function.__globals__.get("__name__", MAIN))
    return str(getattr(function if isinstance(function, type) else type(function), "__module__", MAIN))
