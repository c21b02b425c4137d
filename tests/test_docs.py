"""The documentation is true of the code, as far as that can be looked up, and its links lead somewhere."""

from __future__ import annotations

import ast
import configparser
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import docs_cli
import docs_notebooks
import pytest
import torch.utils.data
import yaml

import wdsremux
from tests.conftest import ROOT
from tests.support.pages import DOCS, PAGES, SHELLS, TEXTS, Block, anchors, blocks, commands, links, prose, rows
from wdsremux import errors
from wdsremux.loading.signature import TORCH

PYTHON = blocks("python")
THEIRS = {"--amp", "--include", "--no-prefetcher"}  #: options of other programs that the text names
CALLED: dict[str, Callable[..., Any]] = {
    "convert": wdsremux.convert,
    "DataLoader": wdsremux.DataLoader,
    "Augment": wdsremux.Augment,
    "manifest": wdsremux.manifest,
    "verify": wdsremux.verify,
    "recipe": wdsremux.recipe,
}
#: Ways of speaking that a native reader stumbles over, and words that the glossary has another one for.
IDIOMS = (
    r"one sentence",
    r"\bstands? (in|beside|between|above)\b",
    r"\bgo(es)? on\b",
    r"\bwent on\b",
    r"\bmend(s|ed|ing)?\b",
    r"\bvouch",
    r"\banother try\b",
    r"\bbegin anew\b",
    r"\ba task a worker\b",
    r"\b(worker|task|record|line|pixels) a (core|worker|sample|reject|side|class)\b",
    r"\bimages a second\b",
    r"\bis no (folder|file|function|image|data set)\b",
    r"\bis not there\b",
    r"\bcame of it\b",
    r"\bto the byte\b",
    r"\bhow well that went\b",
    r"\bthat is paid once\b",
    r"\bwhat is paid once\b",
    r"\bwhole in itself\b",
    r"\barithmetic\b",
    r"\bpictures?\b",
    r"\bremux(ed|es|ing)\b",
    r"\bhand(s|ed)? out\b",
)


# The site


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r": (\w+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(PAGES)
    assert yaml.safe_load(text)["strict"] is True


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in links(page):
        file, _, anchor = target.partition("#")
        assert not file or (DOCS / file).is_file(), target
        if anchor:
            assert anchor in anchors(file or page), target


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in links("README.md"):
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("page", TEXTS)
def test_natural_english(page: str) -> None:
    for idiom in IDIOMS:
        found = re.search(rf".*{idiom}.*", prose(page), re.IGNORECASE)
        assert found is None, f"{idiom}: {found[0]}"


def test_natural_english_of_the_examples() -> None:
    examples = {path.name: path.read_text() for path in (ROOT / "examples").glob("*.py")}
    for name, text in (examples | docs_notebooks.NOTEBOOKS).items():
        for idiom in IDIOMS:
            assert not re.search(idiom, text, re.IGNORECASE), f"{name}: {idiom}"


def test_every_example_is_explained() -> None:
    for path in (ROOT / "examples").iterdir():
        assert path.name.startswith("__") or f"`examples/{path.name}`" in PAGES["examples.md"], path


def test_code_fits_its_box() -> None:
    """About as many columns as a page has beside its two menus."""
    for block in blocks("python", "text", *SHELLS):
        assert max(map(len, block.text.splitlines())) <= 80, block


def test_the_words_of_the_glossary_are_in_their_order() -> None:
    words = re.findall(r"^### (.+)$", PAGES["glossary.md"], re.MULTILINE)
    assert words == sorted(words)


def test_extras_exist() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    known = set(settings["options.extras_require"])
    for page, text in TEXTS.items():
        for named in re.findall(r"(?:\.|wdsremux)\[([\w,-]+)\]", text):
            assert set(named.split(",")) <= known, f"{page}: [{named}]"


# The command line


def test_the_reference_is_as_the_script_writes_it() -> None:
    assert docs_cli.written(PAGES["cli.md"]) == PAGES["cli.md"], "run python scripts/docs_cli.py docs/cli.md"


def test_a_page_without_a_place_for_the_reference() -> None:
    with pytest.raises(SystemExit, match="has no place for the options"):
        docs_cli.written("nothing here\n")


@pytest.mark.parametrize(("block", "line"), [pytest.param(*each, id=f"{each[0]} {each[1]}") for each in commands()])
def test_commands_are_understood(block: Block, line: str) -> None:
    """Each command exists, and takes the options and arguments that it is given."""
    _, name, *words = shlex.split(line, comments=True)
    command = docs_cli.commands().commands[name]
    command.make_context(f"wdsremux {name}", words)  # raises what the user would be told


def test_options_in_the_text_exist() -> None:
    """Those of `--option VALUE`, of any command, and those of `wdsremux COMMAND --option`."""
    known = {name: _options(command) for name, command in docs_cli.commands().commands.items()}
    every = set().union(*known.values(), THEIRS, _options(docs_cli.commands()))
    for page in TEXTS:
        for code in re.findall(r"`([^`]+)`", prose(page)):
            command = re.match(r"wdsremux ([a-z]+)", code)
            if command or code.startswith("--"):
                named = set(re.findall(r"(?<!\S)--[\w-]+", code))
                assert named <= (known[command[1]] if command else every), f"{page}: {code}"


def _options(command: Any) -> set[str]:
    return {"--help"}.union(*([*each.opts, *each.secondary_opts] for each in command.params))


def test_the_commands_of_the_pages_are_found() -> None:
    assert len(commands()) > 10


# Python


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_is_sound(block: Block) -> None:
    """It compiles, and names only what there is, with arguments that there are."""
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if name := _of_package(node):
            assert hasattr(wdsremux, name), f"{block}: wdsremux.{name}"
        if isinstance(node, ast.Call) and (name := _of_package(node.func)) in CALLED:
            known = set(inspect.signature(CALLED[name]).parameters)
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            assert given <= known, f"{block}: wdsremux.{name}({', '.join(given - known)}=)"


def _of_package(node: ast.AST) -> str:
    """X of wdsremux.X; empty for anything else."""
    named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "wdsremux"
    return node.attr if named and isinstance(node, ast.Attribute) else ""


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_attributes_of_loaders_exist(block: Block) -> None:
    known = {*dir(wdsremux.DataLoader), "batch_size", "batch_sampler", "dataset", "sampler"}
    tree = ast.parse(block.text)
    loaders = {"loader", "train", "test"} & {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in loaders:
            assert node.attr in known, f"{block}: {node.value.id}.{node.attr}"


def test_names_in_the_text_exist() -> None:
    modules = {path.stem for path in (ROOT / "wdsremux").iterdir()}
    for page in TEXTS:
        for name in re.findall(r"`@?wdsremux\.(\w+)", prose(page)):
            assert name in modules or hasattr(wdsremux, name), f"{page}: wdsremux.{name}"


def test_every_public_name_is_explained() -> None:
    for name in wdsremux.__all__:
        assert name == "__version__" or f"`wdsremux.{name}`" in PAGES["api.md"], name


def test_every_error_is_explained() -> None:
    classes = {
        name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.WdsremuxError)
    }
    assert {cells[0].strip("`") for cells in rows("api.md", "class")} == classes


# Tables of arguments


def _defaults(page: str, heading: str) -> Iterator[tuple[str, Any]]:
    """The names of a table, and their defaults as values; `inspect.Parameter.empty` where there is none."""
    for name, default, *_ in rows(page, heading):
        code = default.strip("`")
        value = eval(code, {"torch": torch}) if code else inspect.Parameter.empty
        yield name.strip("`"), value


def test_arguments_of_the_loader() -> None:
    signature = inspect.signature(wdsremux.DataLoader)
    assert list(_defaults("loader.md", "argument")) == [
        (each.name, each.default) for each in signature.parameters.values()
    ]


def test_fields_of_augment() -> None:
    table = dict(_defaults("augmentation.md", "field"))
    assert table == {field.name: field.default for field in fields(wdsremux.Augment)}


def test_presets_are_what_the_page_says() -> None:
    from wdsremux.loading.augment.base import make_augment

    for name, meaning, _ in rows("augmentation.md", "`augment`"):
        call = re.findall(r"`(wdsremux\.Augment\(.*?\))`", meaning)
        assert make_augment(ast.literal_eval(name.strip("`"))) == eval(call[0], {"wdsremux": wdsremux})


def test_every_argument_of_torchs_loader_is_explained() -> None:
    named = {name for cells in rows("migrating.md", "torch's argument") for name in re.findall(r"`(\w+)`", cells[0])}
    theirs = set(inspect.signature(torch.utils.data.DataLoader.__init__).parameters) - {"self"}
    assert named == theirs
    ours = set(inspect.signature(wdsremux.DataLoader).parameters)
    for cells in rows("migrating.md", "torch's argument"):
        names = re.findall(r"`(\w+)`", cells[0])
        advice = set(re.findall(r"(\w+)=", " ".join(TORCH.get(name, "") for name in names))) & ours
        assert advice <= set(re.findall(r"`(\w+)", cells[1])), f"{names}: {advice}"


# The other pages of the repository


def test_the_readme_is_short() -> None:
    assert TEXTS["README.md"].count("\n") <= 120


def test_every_target_of_make_is_explained() -> None:
    targets = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    explained = set(re.findall(r"`make ([\w-]+)`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert set(" ".join(targets).split()) <= explained


def test_this_version_is_in_the_changelog() -> None:
    versions = re.findall(r"^## \[?([\w.]+)\]?", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert versions[1] == wdsremux.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == wdsremux.__version__
