"""Where a training run is: (epoch, position), a value. What was handed to the caller, never what was made ahead.

It does not depend on the number of ranks or the batch size: 4 ranks stop, and 3 go on.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wdsremux import arguments
from wdsremux.errors import OptionError, StateError

_FORMAT, _VERSION = "wdsremux.loader", 1
_NONE = "this is not a state of a wdsremux.DataLoader. Load what its state_dict() returned"
EPOCHS = 2**32  #: what the random streams can tell apart


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
        epoch = arguments.integer("epoch", epoch, 0, EPOCHS - 1)
        return self if self.loaded and epoch == self.epoch else LoaderState(epoch)

    def loses(self, other: LoaderState, nsamples: int) -> bool:
        """Whether a loaded state is thrown away where another one takes its place, and not just gone past its end."""
        ahead = other.epoch > self.epoch and self.position in (0, nsamples)
        return self.loaded and other != self and not ahead

    def dump(self, order: dict[str, Any]) -> dict[str, Any]:
        """Plain values, so that any serialiser takes them; `order` is `Order.fingerprint`."""
        place = {"epoch": self.epoch, "position": self.position}
        return {"format": _FORMAT, "version": _VERSION} | place | {"order": order}


def load(saved: dict[str, Any], order: dict[str, Any]) -> LoaderState:
    """The inverse of `LoaderState.dump`.

    Raises:
        StateError: if it is no state, or of another data set or order, naming what differs.
    """
    if not isinstance(saved, Mapping):
        raise StateError(_NONE)
    try:
        kind, theirs = (saved["format"], saved["version"]), dict(saved["order"])
        other = bool(kind != (_FORMAT, _VERSION))
        state = LoaderState(_integer(saved, "epoch"), _integer(saved, "position"), loaded=True)
        differing = [name for name, value in order.items() if theirs.get(name) != value]
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # arrays raise many kinds
        raise StateError(_NONE) from error
    if other:
        raise StateError(
            f"Invalid format of the state (got {_short(kind[0])} {_short(kind[1])}). Supported: {_FORMAT!r} {_VERSION}"
        )
    for name in differing:
        raise StateError(
            f"the state was saved with {name} {_short(theirs.get(name))}, but this loader has {order[name]!r}, so "
            "its epochs would differ. Create the loader with the same data set and arguments"
        )
    if not (0 <= state.epoch < EPOCHS and 0 <= state.position <= order["samples"]):
        raise StateError(
            f"the state is at sample {_short(state.position)} of epoch {_short(state.epoch)}, which does not exist. "
            "Load what state_dict() returned"
        )
    return state


def _integer(saved: Mapping[str, Any], key: str) -> int:
    """What is saved under a key: not what int() would make of a text or a fraction.

    Raises:
        StateError: if it is no integer.
        LookupError: if there is none.
    """
    try:
        return arguments.integer(key, saved[key], None)
    except OptionError:
        raise StateError(
            f"Invalid {key} of the state (got {_short(saved[key])}). Supported: an integer. Load what state_dict() "
            "returned"
        ) from None


def _short(value: object) -> str:
    """A value in one line, whatever it is."""
    return " ".join(reprlib.repr(value).split())
