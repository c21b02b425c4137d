"""Errors and warnings name options as the caller writes them: --limit 50 at a prompt, limit=50 in Python."""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import typer

import wdsremux
from tests.conftest import WriteSource, tiny_jpeg
from wdsremux import commands
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.events import Event, Warned
from wdsremux.errors import ConversionWarning, OutputError, RecipeError, SourceError, VersionError
from wdsremux.python_names import FLAGS, PHRASES, TOKEN, VALUED, errors_in_python, in_python

COMMAND: Any = typer.main.get_command(commands.app)
OPTIONS = {name for command in (COMMAND, *COMMAND.commands.values()) for each in command.params for name in each.opts}


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("Start again with --overwrite", "Start again with overwrite=True"),
        ("resume without --strict, or", "resume without strict=True, or"),
        ("Omit --no-shuffle", "Omit shuffle=False"),
        ("Use --label-column none; --keep 'a b' puts", "Use label_column=\"none\"; keep='a b' puts"),
        ("with --keep COLUMNS to", "with keep=COLUMNS to"),
        ("with --classes a,b,c or --classes FILE, or", 'with classes="a,b,c" or classes=FILE, or'),
        ("which --keep cannot write", "which keep= cannot write"),
        ("Use --limit 50, choose", "Use limit=50, choose"),
        ("Use --subsampling 420", 'Use subsampling="420"'),
        ("(--revision refs/convert/parquet), or", '(revision="refs/convert/parquet"), or'),
        ("use fewer workers (--workers)", "use fewer workers (workers=)"),
        ("more with --max-rejects and run", "more with max_rejects= and run"),
        ("take --split or --image-column", "take split= or image_column="),
        ("increase --patience to", "increase patience= to"),
        ("--max-rejects 1%", 'max_rejects="1%"'),
        (
            "(bad.py:2 in helper; --debug shows the traceback)",
            "(bad.py:2 in helper; its __notes__ contain the traceback)",
        ),
        ("a--keep, --nothing and --keep-all", "a--keep, --nothing and --keep-all"),
    ],
)
def test_sentences(text: str, python: str) -> None:
    assert in_python(text) == python


def test_every_option_of_a_conversion_is_known() -> None:
    for name in ConvertOptions.__annotations__:
        assert (name in FLAGS) != (name in VALUED)
        assert in_python(f"see --{name.replace('_', '-')}.").startswith(f"see {name}=")


# What the package says


_COMMAND_LINE = ("cli.py", "commands.py", "convert_command.py", "plan_command.py", "reports.py", "python_names.py")


def _sentences() -> Iterator[tuple[Path, ast.Constant | ast.JoinedStr]]:
    """All texts in the package that are no docstrings, but those of the command line's own."""
    for path in sorted(Path(wdsremux.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        passed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        passed |= {id(each) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for each in node.values}
        for node in ast.walk(tree):
            text = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
            if text and id(node) not in passed and path.name not in _COMMAND_LINE:
                assert isinstance(node, ast.Constant | ast.JoinedStr)
                yield path, node


def test_the_package_names_options_that_there_are() -> None:
    """And each that an error or a warning of a conversion may name is turned for a caller from Python."""
    count = 0
    for path, node in _sentences():
        text = ast.unparse(node)
        for phrase in PHRASES:
            text = text.replace(phrase, "")
        for match in TOKEN.finditer(text):
            count += 1
            name = match["name"].replace("-", "_")
            assert f"--{match['name']}" in OPTIONS or name in FLAGS, f"{path}: {text}"
            assert name in FLAGS or name in VALUED, f"{path}: {text}"
    assert count > 40


def test_values_that_are_filled_in_can_be_told_from_the_sentence() -> None:
    """After an option: none, a number, or what has quotes around it, as it may be any text."""
    found = []
    for path, node in _sentences():
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        found += [
            (path.name, ast.unparse(after.value))
            for before, after in itertools.pairwise(parts)
            if isinstance(before, ast.Constant)
            and isinstance(after, ast.FormattedValue)
            and re.search(r"--[a-z-]+ $", str(before.value))
            and after.conversion != ord("r")
        ]
    assert {shown for _, shown in found} <= {"NO_COLUMN", "max(1, fitting)"}, found


# What a caller gets


def test_an_error_from_python(write_source: WriteSource, tmp_path: Path) -> None:
    two: dict[str, Any] = {"thumbnail": (datasets.Image(), [{"bytes": tiny_jpeg(0), "path": None}] * 3)}
    source = write_source([tiny_jpeg(0)] * 3, columns=two)
    with pytest.raises(SourceError, match=r"2 image columns: image, thumbnail\. Choose one with image_column=$"):
        wdsremux.convert(source, tmp_path / "out")
    options: dict[str, Any] = {"image_column": "image", "recipe": "copy", "workers": 1}
    wdsremux.convert(source, tmp_path / "out", **options)
    with pytest.raises(
        OutputError, match=r"Omit limit=, choose another output folder, or start again with overwrite=True$"
    ):
        wdsremux.convert(source, tmp_path / "out", limit=2, **options)


def test_a_recipe_that_raises_from_python(write_source: WriteSource, tmp_path: Path) -> None:
    def bake(batch: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no")

    source = write_source([tiny_jpeg(0)] * 3)
    with pytest.raises(RecipeError) as caught:
        wdsremux.convert(source, tmp_path / "out", recipe=bake, workers=1)
    assert str(caught.value).endswith(" in bake; its __notes__ contain the traceback)")
    assert 'raise ValueError("no")' in caught.value.__notes__[0]


def test_warnings_from_python(write_source: WriteSource, tmp_path: Path) -> None:
    more: dict[str, Any] = {"target": (datasets.Value("int64"), [0, 1, 2])}
    source = write_source([tiny_jpeg(0)] * 3, range(3), columns=more)
    sentence = "To use 'target', add label_column='target'; to keep its values, add keep='target'"
    with pytest.warns(ConversionWarning) as caught:
        wdsremux.convert(source, tmp_path / "a", recipe="copy", workers=1)
    assert [sentence in str(warning.message) for warning in caught] == [True]
    told: list[Event] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wdsremux.convert(source, tmp_path / "b", recipe="copy", workers=1, tell=told.append)
    assert [sentence in event.text for event in told if isinstance(event, Warned)] == [True]


def test_an_error_keeps_what_it_is() -> None:
    failure = VersionError("is another --split", "index.json")
    failure.__cause__ = ValueError("why")
    failure.add_note("a note")
    with pytest.raises(VersionError) as caught, errors_in_python():
        raise failure
    assert caught.value is failure
    assert str(failure) == "index.json is another split="
    assert (str(failure.__cause__), failure.what, failure.__notes__) == ("why", "is another --split", ["a note"])
