"""The options of a conversion: the same names, with the same defaults, wherever they stand."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
import re
from typing import Any, get_type_hints

import pytest
import typer

import wdsremux
from wdsremux import commands
from wdsremux.codec import Encoding
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.source.selection import Selection
from wdsremux.conversion.spec import Spec

NAMES = list(get_type_hints(ConvertOptions))
COMMAND: Any = typer.main.get_command(commands.app)
#: Where a default is another thing in `Spec`, which holds what has been read: "as many as there are cores" is a number.
READ = {"workers", "keep"}


def test_signature() -> None:
    """As `help(wdsremux.convert)` shows it."""
    parameters = inspect.signature(wdsremux.convert).parameters
    assert list(parameters) == ["source", "out", *NAMES, "progress", "tell"]
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in NAMES)


def test_spec_has_the_same_fields_and_defaults() -> None:
    """What is read, and how pictures are encoded, are each one of its fields, and passed on whole."""
    fields = {field.name: field.default for held in (Spec, Selection, Encoding) for field in dataclasses.fields(held)}
    assert set(fields) == {"source", "out", "selection", "encoding", *NAMES}
    parameters = inspect.signature(wdsremux.convert).parameters
    for name in set(NAMES) - READ:
        assert parameters[name].default == fields[name], name


def test_command_line_has_the_same_options_and_defaults() -> None:
    options = {option.name: option for option in COMMAND.commands["convert"].params}
    assert set(options) == {"source", "out", *NAMES, "quiet", "verbose", "debug", "help"} & set(options)
    assert set(NAMES) <= set(options)
    parameters = inspect.signature(wdsremux.convert).parameters
    for name in NAMES:
        assert options[name].default == parameters[name].default, name
        assert options[name].help, name
        flag = f"--{name.replace('_', '-')}"
        assert flag in options[name].opts, name


@pytest.mark.parametrize("name", NAMES)
def test_docstring_explains(name: str) -> None:
    text = inspect.getdoc(wdsremux.convert) or ""
    assert re.search(rf"^    {name}: \S", text, re.MULTILINE), name


def test_a_misspelt_option_is_an_error_at_once() -> None:
    with pytest.raises(
        TypeError, match=r"^wdsremux\.convert got an unexpected keyword argument 'qualty'\. Did you mean 'quality'\?$"
    ):
        wdsremux.convert("a", "b", qualty=80)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^wdsremux\.verify got an .* 'decod'\. Did you mean 'decode'\?$"):
        wdsremux.verify("a", decod=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^wdsremux\.manifest got an unexpected keyword argument 'qwertz'$"):
        wdsremux.manifest("a", qwertz=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^convert\(\) missing 1 required positional argument: 'out'$"):
        wdsremux.convert("a")  # type: ignore[call-arg]


def test_help_shows_the_signature() -> None:
    """Although the public functions are decorated."""
    text = pydoc.plain(pydoc.render_doc(wdsremux.convert))
    assert "recipe: 'str | Callable[..., Any]' = 'resize:256'" in text
    assert "**" not in text.partition("Args:")[0]
