"""How much a test tries: little in CI, what the issue asks for in `make soak`, which sets WDSREMUX_SOAK=1."""

from __future__ import annotations

import os


def soaking() -> bool:
    """Whether this is a run of hours."""
    return os.environ.get("WDSREMUX_SOAK", "0") not in ("", "0")


def rounds(few: int, many: int) -> range:
    """The numbers of the rounds to do."""
    return range(many if soaking() else few)
