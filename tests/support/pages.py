"""The README and the pages of docs/, in the parts that tests look at."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text() for path in sorted(DOCS.glob("*.md"))}  #: of the site
TEXTS = PAGES | {"README.md": (ROOT / "README.md").read_text()}
SHELLS = ("sh", "bash", "console")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (?P<text>.+?)(?: \{ ?#(?P<id>[\w-]+) ?\})?$", re.MULTILINE)
_REFERENCE = re.compile(r"^::: (?P<name>[\w.]+)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """Those of all pages that are in one of these languages."""
    return [
        Block(page, content.count("\n", 0, found.start()) + 1, found["language"], textwrap.dedent(found["text"]))
        for page, content in TEXTS.items()
        for found in _FENCE.finditer(content)
        if found["language"] in languages
    ]


def commands() -> list[tuple[Block, str]]:
    """The lines of shell blocks that call wdsremux, from that word on; continued lines joined."""
    found = []
    for block in blocks(*SHELLS):
        for line in block.text.replace("\\\n", " ").splitlines():
            if match := re.search(r"(?:^|\s)(wdsremux .*)", line):
                found.append((block, match[1]))
    return found


def prose(page: str) -> str:
    """A page without its blocks of code, and without what scripts write into it."""
    text = _FENCE.sub("", TEXTS[page])
    return re.sub(r"<!-- options: .*?<!-- end of options -->", "", text, flags=re.DOTALL)


def links(page: str) -> list[str]:
    """The targets of its links within the repository."""
    found = [match["target"] for match in _LINK.finditer(prose(page))]
    return [target for target in found if "://" not in target]


def anchors(page: str) -> set[str]:
    """What a link can lead to in a page: headings, as Markdown's toc names them, and objects of the API."""
    text = _FENCE.sub("", PAGES[page])
    found: set[str] = set()
    for match in _HEADING.finditer(text):
        name = match["id"] or _slug(match["text"])
        count = sum(each == name or re.fullmatch(rf"{re.escape(name)}_\d+", each) is not None for each in found)
        found.add(f"{name}_{count}" if count else name)
    return found | {match["name"] for match in _REFERENCE.finditer(text)}


def _slug(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", re.sub(r"[`*]", "", heading)).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def rows(page: str, heading: str) -> Iterator[list[str]]:
    """The cells of a table, row by row: of the first one of a page whose first column is called so."""
    lines = iter(PAGES[page].splitlines())
    next(line for line in lines if line.startswith(f"| {heading} |"))
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]
