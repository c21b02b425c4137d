"""A reading that a fault of the network cut short goes on where it stopped.

A refused connection, a body cut short, an expired signature's 403, a busy server: wait, with backoff and jitter or for
as long as the server asks, and begin again after what was already given, until nothing has come for `--patience`
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from wdsremux.errors import SourceError, one_line

T = TypeVar("T")
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Faults:
    """Which errors are faults of a source, and how long to try again."""

    kinds: tuple[type[Exception], ...]  #: what reading raises
    final: tuple[type[Exception], ...] = ()  #: those of them that no waiting cures
    patience_s: float = 0.0  #: 0: they are all final (a disk)
    wait_s: float = 1.0  #: before the second try; doubled each time up to a minute, and jittered

    def passing(self, error: BaseException) -> bool:
        """Whether another try may help."""
        return isinstance(error, self.kinds) and not isinstance(error, self.final)

    def waits(self, state: RetryCallState) -> float:
        """How many seconds to wait before the next try; the last one comes when patience ends, and not later."""
        backoff_s = (wait_exponential(self.wait_s, _LONGEST_WAIT_S) + wait_random(0, self.wait_s))(state)
        error = state.outcome.exception() if state.outcome else None
        left_s = self.patience_s - (state.seconds_since_start or 0.0)
        return min(max(backoff_s, _asked_s(error)), max(left_s, 0.0))


def _asked_s(error: BaseException | None) -> float:
    """For how many seconds an answer asked to be left alone, in its Retry-After; 0 where it did not."""
    value = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def call(attempt: Callable[[], T], faults: Faults, where: str) -> T:
    """What `attempt` returns, tried again after a fault.

    Raises:
        SourceError: naming `where` and the last fault.
    """
    try:
        return Retrying(
            retry=retry_if_exception(faults.passing),
            stop=stop_after_delay(faults.patience_s),
            wait=faults.waits,
            reraise=True,
        )(attempt)
    except SourceError:
        raise
    except faults.kinds as error:
        reason = one_line(error)
        waited = f" for {faults.patience_s:g} s" if faults.passing(error) and faults.patience_s else ""
        raise SourceError(
            f"{where} could not be read{waited}: {reason}. Run the same command again to resume; "
            f"{_advice(error, bool(waited))}"
        ) from error


def _advice(error: Exception, waited: bool) -> str:
    if getattr(getattr(error, "response", None), "status_code", None) == 401:
        return "if your token has expired, log in first (`hf auth login`, or HF_TOKEN)"
    return "increase --patience to retry for longer" if waited else "check that it exists, is complete, and is readable"


def read(begin: Callable[[int], Iterator[T]], faults: Faults, where: str) -> Iterator[T]:
    """What `begin(0)` iterates over; after a fault, `begin(n)` goes on, n being the sum of the lengths given so far.

    Patience starts anew with everything that comes.
    """
    given = 0
    running: Iterator[T] | None = None

    def advance() -> T | None:
        nonlocal running
        if running is None:
            running = begin(given)
        try:
            return next(running, None)
        except faults.kinds:
            running = None
            raise

    while (item := call(advance, faults, where)) is not None:
        given += len(item)  # type: ignore[arg-type]
        yield item
