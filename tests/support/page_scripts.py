"""Scripts made of what the documentation shows, so that a test can run it as a reader does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.pages import TEXTS, Block, blocks


@dataclass(frozen=True)
class Trial:
    """How the Python blocks of a page are tried: all of them in one script, one after another."""

    values: Mapping[str, str] = field(default_factory=dict)  #: replaced by smaller numbers and by places that exist
    before: str = ""  #: a line that is run before the first block
    after: Mapping[str, str] = field(default_factory=dict)  #: words of a block -> a line that is run after it
    left_out: Mapping[str, str] = field(default_factory=dict)  #: words of a block -> why it cannot be run here


def of_page(page: str) -> list[Block]:
    """Its Python blocks, in their order."""
    return [block for block in blocks("python") if block.page == page]


def block_with(page: str, words: str) -> Block:
    """The one of a page that has these words in it."""
    (found,) = [block for block in of_page(page) if words in block.text]
    return found


def replaced(text: str, values: Mapping[str, str]) -> str:
    """With smaller numbers, and places of this machine; each of the old ones must occur."""
    for old, new in values.items():
        assert old in text, f"{old!r} no longer occurs"
        text = text.replace(old, new)
    return text


def script(page: str, trial: Trial) -> str:
    """The blocks of a page that can be run, as one script with the lines of the page."""
    left_out = [block_with(page, words) for words in trial.left_out]
    text = _placed(page, trial.before, (block for block in of_page(page) if block not in left_out))
    lines = replaced(text, trial.values).split("\n")
    for words, code in trial.after.items():
        block = block_with(page, words)
        lines[block.line + block.text.count("\n")] = code  # in place of the fence that closes it
    return "\n".join(lines)


def left_out(page: str, trial: Trial) -> str:
    """The blocks of a page that cannot be run, after those that they build on; for a type checker."""
    last = max(block_with(page, words).line for words in trial.left_out)
    return _placed(page, trial.before, (block for block in of_page(page) if block.line <= last))


def _placed(page: str, before: str, shown: Iterable[Block]) -> str:
    """Blocks of a page, each in the lines that it has there, so that an error names them; other lines are empty."""
    lines = [""] * (TEXTS[page].count("\n") + 1)
    lines[0] = before
    for block in shown:
        code = block.text.splitlines()
        lines[block.line : block.line + len(code)] = code
    return "\n".join(lines)


def files(page: str) -> Iterator[tuple[str, str]]:
    """The name and content of each block that says in its first line what file it is; of several, the first."""
    known = set()
    for block in of_page(page):
        first, _, _ = block.text.partition("\n")
        name = first.removeprefix("# ")
        if name != first and name.endswith(".py") and name not in known:
            known.add(name)
            yield name, block.text


def cells(notebook: Path) -> list[str]:
    """The code cells of a notebook."""
    found = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]
