"""How much a test tries: little in CI, what takes hours in `make soak`, which sets WDSREMUX_SOAK=1."""

from __future__ import annotations

import os


def soaking() -> bool:
    """Whether this is a run of hours."""
    return os.environ.get("WDSREMUX_SOAK", "0") not in ("", "0")


def tries(few: int, many: int) -> int:
    """How often to try: hypothesis' max_examples, or rounds of a loop."""
    return many if soaking() else few
