"""The Python blocks of the README, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def blocks() -> list[str]:
    """In their order."""
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def block(words: str) -> str:
    """The one that has these words in it."""
    (found,) = [text for text in blocks() if words in text]
    return found


def replaced(text: str, values: dict[str, str]) -> str:
    """With smaller numbers and places of this machine in place of those that stand there; each must stand there."""
    for old, new in values.items():
        assert old in text, f"the README has no longer {old!r}"
        text = text.replace(old, new)
    return text
