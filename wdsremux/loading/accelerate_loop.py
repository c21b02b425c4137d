"""What Accelerate has to know of the loop that it is in: `accumulate` makes an optimiser's step at the end of an epoch.

It asks `accelerate.state.GradientState` which loader is at work and whether this was its last batch. A loader that has
not made itself known there is never at its end: of 6 batches, accumulated by 4, the last 2 would make no step, in
silence (huggingface/accelerate#1847). Its own loaders make themselves known by the same two calls.
"""

from __future__ import annotations

import sys
from typing import Any


class Loop:
    """One pass over a loader, as `GradientState` knows it; without Accelerate it is known to nobody."""

    def __init__(self) -> None:
        self.end_of_dataloader = False  #: whether the batch that is handed out is the last
        self.remainder = 0  #: samples that were added to fill a batch; `gather_for_metrics` takes that many away
        self._state = _gradient_state()
        if self._state is not None:
            self._state._add_dataloader(self)

    def close(self) -> None:
        """The pass is over."""
        if self._state is not None:
            self._state._remove_dataloader(self)


def _gradient_state() -> Any:
    """That of this process; None where there is no Accelerator."""
    module = sys.modules.get("accelerate.state")
    kind = getattr(module, "GradientState", None)
    return kind() if kind is not None and kind._shared_state else None
