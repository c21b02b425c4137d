"""Where a training run is: (epoch, position), a value. What was handed to the caller, never what was made ahead.

It does not depend on the number of ranks or the batch size: 4 ranks stop, and 3 go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wdsremux.errors import OptionError, StateError

_FORMAT, _VERSION = "wdsremux.loader", 1


@dataclass(frozen=True, slots=True)
class LoaderState:
    """Where a training run is."""

    epoch: int = 0
    position: int = 0  #: samples of the epoch, over all ranks, that were handed out
    loaded: bool = False  #: from a saved state that no iterator has used yet

    def begin(self) -> LoaderState:
        """Where the next iterator begins: a loaded state once; else an epoch's start, after a `break` the next's."""
        if self.loaded:
            return LoaderState(self.epoch, self.position)
        return LoaderState(self.epoch + 1) if self.position else LoaderState(self.epoch)

    def at_epoch(self, epoch: int) -> LoaderState:
        """After `set_epoch`: a loaded position is kept if it is of that epoch.

        Raises:
            OptionError: if there is no such epoch.
        """
        if not 0 <= epoch < 2**32:  # what the random streams can tell apart
            raise OptionError(f"Invalid epoch (got {epoch}). Supported: 0 to 4294967295")
        return self if self.loaded and epoch == self.epoch else LoaderState(epoch)

    def dump(self, order: dict[str, Any]) -> dict[str, Any]:
        """Plain values, so that any serialiser takes them; `order` is `Order.fingerprint`."""
        place = {"epoch": self.epoch, "position": self.position}
        return {"format": _FORMAT, "version": _VERSION} | place | {"order": order}


def load(saved: dict[str, Any], order: dict[str, Any]) -> LoaderState:
    """The inverse of `LoaderState.dump`.

    Raises:
        StateError: if it is no state, or of another data set or order, naming what differs.
    """
    try:
        if (saved["format"], saved["version"]) != (_FORMAT, _VERSION):
            raise StateError(f"the state is {saved['format']} {saved['version']}; this is {_FORMAT} {_VERSION}")
        state, theirs = LoaderState(int(saved["epoch"]), int(saved["position"]), loaded=True), dict(saved["order"])
    except (KeyError, TypeError, ValueError) as error:
        raise StateError("this is no state of a wdsremux.DataLoader. Load what its state_dict() gave") from error
    for name, value in order.items():
        if theirs.get(name) != value:
            raise StateError(
                f"the state was saved with {name} {theirs.get(name)!r}, this loader has {value!r}: "
                "the epochs would differ. Build the loader with the same data set and arguments"
            )
    return state
