"""Makes the table of faults of docs/guarantees.md from what the tests noted.

    WDSREMUX_FAULTS=build/faults.jsonl python -m pytest …
    python benchmarks/fault_table.py build/faults.jsonl docs/guarantees.md

The table stands between two marks in the page, and is replaced whole.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from readme_part import replace_part

BEGIN, END = "<!-- faults: made by benchmarks/fault_table.py -->", "<!-- end of faults -->"


def table(lines: Iterable[str]) -> str:
    """One row for each fault and outcome, in the order of the alphabet; counted."""
    counts: Counter[tuple[str, str]] = Counter()
    for note in map(json.loads, lines):
        counts[note["fault"], note["outcome"]] += note["count"]
    rows = [f"| {fault} | {count:,} | {outcome} |" for (fault, outcome), count in sorted(counts.items())]
    return "\n".join(["| fault | tried | what happened |", "|---|---|---|", *rows])


def main() -> None:
    notes, page = map(Path, sys.argv[1:3])
    replace_part(page, BEGIN, END, table(notes.read_text().splitlines()))


if __name__ == "__main__":
    main()
