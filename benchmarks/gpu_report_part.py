"""What every part of gpu_report.py is made of: what it is given, what it finds, and how it says what it left out.

A part is a function Settings -> Iterator[Finding]. It runs in a process of its own; each finding is written down as
soon as it is there, so that a part that crashes or runs out of time keeps those before.
"""

from __future__ import annotations

import importlib
import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

MEASURED, LEFT_OUT, FAILED = "measured", "left out", "failed"  #: what became of a finding, and of a whole part
_FRAMES = 6  #: of a traceback that go into the JSON


class LeftOut(Exception):
    """Why something is not measured here, though nothing is broken: no card, no library, no set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all parts are given."""

    out: str | None  #: the converted set; None where there is none
    no_set: str = ""  #: why there is none
    device: str
    batch: int
    size: int  #: px, side of the crop
    images: int = 0  #: timed in each run, at least; parts choose it
    warmup_batches: int = 12  #: more than any loader makes ahead
    threads: int | None = None  #: that decode; None: this process's share of the cores
    patience: int = 1  #: times the limits; more for a rehearsal, beside which others may be at work

    @property
    def folder(self) -> Path:
        """Where the set is.

        Raises:
            LeftOut: if there is none.
        """
        if self.out is None:
            raise LeftOut(self.no_set)
        return Path(self.out)

    @property
    def real(self) -> bool:
        """Whether this is a card, not a rehearsal."""
        return self.device != "cpu"

    def times(self, real: int, rehearsal: int) -> int:
        """How often, or how many."""
        return real if self.real else rehearsal

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a part. A later finding of the same name takes the place of an earlier one."""

    name: str
    text: str  #: for the table
    state: str = MEASURED
    figures: dict[str, Any] = field(default_factory=dict)  #: for the JSON


Measure = Callable[[Settings], Iterator[Finding]]


def tried(name: str, measure: Callable[[], tuple[str, dict[str, Any]]]) -> Finding:
    """The finding that a measurement comes to: its text and figures, or why there are none."""
    try:
        text, figures = measure()
    except LeftOut as reason:
        return left_out(name, str(reason))
    except ModuleNotFoundError as error:
        return left_out(name, f"{error.name} cannot be imported")
    except Exception as error:  # whatever fails, what comes after it is still measured
        frames = traceback.format_exception(error)[-_FRAMES:]
        return Finding(name=name, text=one_line(error), state=FAILED, figures={"traceback": "".join(frames)})
    return Finding(name=name, text=text, figures=figures)


def left_out(name: str, reason: str) -> Finding:
    """For what a rehearsal goes without."""
    return Finding(name=name, text=reason, state=LEFT_OUT)


def needed(*modules: str) -> None:
    """Import what a measurement cannot do without.

    Raises:
        LeftOut: naming the first that cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:  # whatever a shared library lacks
            raise LeftOut(f"{module} cannot be imported ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """An error in a line: its first one, with its kind where it has no text."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
