"""Parts of pages that scripts make: each stands between two marks, and is replaced whole."""

from __future__ import annotations

import sys
from pathlib import Path


def replace_part(page: Path, begin: str, end: str, content: str) -> None:
    """Put `content` between the marks; ends the script with a sentence where they are not."""
    head, begun, rest = page.read_text().partition(begin)
    _, ended, tail = rest.partition(end)
    if not begun or not ended:
        sys.exit(f"error: {page} has no place for the table: {begin} and {end} on lines of their own.")
    page.write_text(f"{head}{begin}\n{content}\n{end}{tail}")
