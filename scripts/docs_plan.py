"""Write what `wdsremux plan` says of a source into a page of the documentation.

    python scripts/docs_plan.py build/sample-source docs/planning.md

The report is the part of the page between two marks. It is replaced completely.
"""

from __future__ import annotations

import sys
from pathlib import Path

import wdsremux

BEGIN, END = "<!-- report: written by scripts/docs_plan.py -->", "<!-- end of report -->"


def main() -> None:
    source, page = sys.argv[1], Path(sys.argv[2])
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{page} has no marks around a report: {BEGIN} and {END}")
    report = wdsremux.plan(source, train_speed=2_000, epochs=30)
    page.write_text(f"{before}{BEGIN}\n\n```text\n{report}\n```\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
