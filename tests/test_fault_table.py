"""The table of faults: counted, sorted, and the rest of the file left alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fault_table
import pytest

NOTES = [
    {"fault": "a full disk", "outcome": "a clear error", "count": 2},
    {"fault": "a bit flipped", "outcome": "found", "count": 1_234},
    {"fault": "a full disk", "outcome": "a clear error", "count": 1},
]
TABLE = """
| fault | tried | what happened |
|---|---|---|
| a bit flipped | 1,234 | found |
| a full disk | 3 | a clear error |
"""


def make(folder: Path, readme: str, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "notes").write_text("".join(json.dumps(note) + "\n" for note in NOTES))
    (folder / "README.md").write_text(readme)
    monkeypatch.setattr(sys, "argv", ["", str(folder / "notes"), str(folder / "README.md")])
    fault_table.main()
    return (folder / "README.md").read_text()


def test_replaces_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    around = "before\n{}{}{}\nafter\n"
    made = make(tmp_path, around.format(fault_table.BEGIN, "\nold\n", fault_table.END), monkeypatch)
    assert made == around.format(fault_table.BEGIN, TABLE, fault_table.END)


def test_a_file_without_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^error: .*README\.md has no place for the table"):
        make(tmp_path, "nothing\n", monkeypatch)
    assert (tmp_path / "README.md").read_text() == "nothing\n"


def test_the_guarantees_have_a_place() -> None:
    text = (Path(__file__).parents[1] / "docs/guarantees.md").read_text()
    assert text.index(fault_table.BEGIN) < text.index(fault_table.END)
