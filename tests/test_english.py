"""Errors, warnings, help and progress are in whole, natural sentences: idioms that went do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import wdsremux
from wdsremux.errors import counted

ROOT = Path(wdsremux.__file__).parent
MODULES = sorted(
    [
        *(path for room in ("conversion", "codec", "format") for path in (ROOT / room).rglob("*.py")),
        *ROOT.glob("*.py"),
    ]
)
#: Regular expressions of what reads oddly, and what to write in its place.
IDIOMS = {
    r"\bgo(es)? on\b": "resume, continue",
    r"\bwent on\b": "resumed, continued",
    r"\b(begin|began|begun|convert|made|make|pack\w*|join\w*)\b[^.]{0,20} anew\b": "start again",
    r"\bwas begun\b": "was started",
    r"\banother try\b": "retry",
    r"\bstands? (in|there|beside)\b": "is recorded in",
    r"\b(is|are|was) not there\b": "does not exist",
    r"\bis there no longer\b": "no longer exists",
    r"\bthere is no (file|folder|module|such)\b": "does not exist",
    r"\bis no (file|folder|function|image|data set|zip|list|plain|row|built-in)\b": "is not a",
    r"\bno folder here\b": "not a folder on this machine",
    r"\b[Ff]etch\w*\b": "download",
    r"\b[Mm]end\b": "repair, correct",
    r"\b[Ll]eave \S+ out\b": "omit",
    r"\bLook (at|whether)\b": "check",
    r"\b(came|come) out otherwise\b": "differs from what is recorded",
    r"\bbaked?\b": "convert",
    r"\b(are|is) not taken\b": "not converted",
    r"\bwould not bake\b": "would not write",
    r"\bnot as recorded\b": "does not match the manifest",
    r"\blies? (in|elsewhere|apart)\b": "is stored in",
    r"\b(holds|hold) (files|no|data|several|labels|folders|values|what|that)\b": "contain",
    r"\b(where|which) [^.]* (is|are) (known|needed|due|promised|announced|allowed)\b": "Supported: …",
    r"\b(and now|are) \S+ asked for\b": "but this run asks for",
    r"\bcannot be told\b": "is unclear",
    r"\bmade again\b": "rebuilt",
    r"\bprocess lives\b": "could be started",
    r"\ban OUT\b|\banother OUT\b": "output folder",
    r"\bpictures?\b": "image",
    r"\bcolou?red\b|\bnormalis|\bcolour\b": "color, normalize",
    r"\ba (worker|task|record|line|core|sample|row|name) a (worker|core|sample|line|row|task)\b": "per",
}
#: Reasons of rejects are bytes of rejects.jsonl, so these texts stay as they are; and what no person reads.
KEPT = {
    "codec/decoding.py",
    "codec/markers.py",
    "conversion/source/image_files.py",
    "conversion/source/kept_values.py",
    "conversion/source/kinds/tars/tar_fields.py",
    "format/card.py",
    "files.py",
}
KEPT_TEXTS = (
    "there is no such file",  # of a file beside an image
    "is no label: an integer",
    "is no file of this tar",
    "pipe or the like, no file",
    "holds what is not JSON",
)


def _sentences(path: Path) -> Iterator[tuple[int, str]]:
    """All texts of a module that have a space in them and are no docstrings, with {} for what is filled in."""
    tree = ast.parse(path.read_text())
    passed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    passed |= {id(each) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for each in node.values}
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text and not text.startswith("(?"):
            yield node.lineno, text


def _odd(text: str) -> list[str]:
    return [f"{found[0]!r} (write: {better})" for idiom, better in IDIOMS.items() if (found := re.search(idiom, text))]


@pytest.mark.parametrize("path", MODULES, ids=[path.relative_to(ROOT).as_posix() for path in MODULES])
def test_natural_english(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() in KEPT:
        pytest.skip("reasons of rejects")
    found = [
        f"{path.name}:{line}: {odd} in {text!r}"
        for line, text in _sentences(path)
        if not any(kept in text for kept in KEPT_TEXTS)
        for odd in _odd(text)
    ]
    assert not found, "\n".join(found)


def test_odd_sentences_are_found(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text('x = f"{a} was begun; " f"run it again to go on"\ny = "fetch it again"\n')
    assert [len(_odd(text)) for _, text in _sentences(tmp_path / "odd.py")] == [2, 1]


def test_what_is_exported_is_explained() -> None:
    """Each by a whole sentence with a full stop, and without the idioms."""
    for name in ("convert", "manifest", "verify", "recipe", "Manifest", "Planned", "Progress", "Noted", "Warned"):
        text = getattr(wdsremux, name).__doc__
        assert re.match(r"[A-Z][^\n]+\.(\s|$)", text), name
        assert not _odd(text.replace("def bake", "")), name


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2_000, ("row",), "2,000 rows"),
        (1, ("class", "classes"), "1 class"),
        (3, ("class", "classes"), "3 classes"),
    ],
)
def test_counted(number: int, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text
