"""Rejects counted while tasks run, against what is allowed."""

from __future__ import annotations

from dataclasses import dataclass

from wdsremux.conversion.events import Progress
from wdsremux.conversion.spec import Spec
from wdsremux.errors import RejectError
from wdsremux.format.rejects import RejectLine

_LEAST_ROWS = 8_192  #: that a share of rejects is taken of where nobody knows the rows


@dataclass(slots=True)
class RejectCount:
    """Counts rejects against what is allowed."""

    spec: Spec
    planned: int | None  #: rows; None: not known, and a share is of those that came
    rows: int
    rejects: int

    def add(self, progress: Progress) -> None:
        self.rows += progress.rows
        self.rejects += progress.nrejects
        self.check(progress.reject)

    def check(self, last: RejectLine | None) -> None:
        """
        Raises:
            RejectError: if there are too many.
        """
        rows = max(self.rows, _LEAST_ROWS) if self.planned is None else self.planned
        allowed = self.spec.rejects_allowed(rows)
        if self.rejects <= allowed:
            return
        example = f", for example row {last.row} of fragment {last.fragment}: {last.reason}" if last else ""
        raise RejectError(
            f"{self.rejects} rows could not be baked, where {allowed} are allowed{example}. "
            "Look at the source, or allow more with --max-rejects and run the command again"
        )
