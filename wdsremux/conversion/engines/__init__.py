"""Engines map tasks over processes or machines, and do nothing else.

A plug is named in `ENGINES` and imported when used. What comes back is progress and finished task numbers; image bytes
never cross a process border.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wdsremux.errors import OptionError

if TYPE_CHECKING:
    from wdsremux.conversion.bake import Bakery
    from wdsremux.conversion.events import Progress
    from wdsremux.conversion.plan import Task

ENGINES = {"local": "wdsremux.conversion.engines.local:LocalEngine"}


@dataclass(frozen=True, slots=True)
class Done:
    """A task is baked: its shards stand, its record is in the journal."""

    task: int


class Engine(Protocol):
    """Where tasks run."""

    def map(self, tasks: Sequence[Task], bakery: Bakery) -> Generator[Progress | Done]:
        """Bake all tasks, in any order.

        Closing the iterator early, or an exception, ends the work without leaving a process behind.

        Raises:
            ConversionError: if a task cannot be baked.
            SourceError: if the source cannot be read.
        """


def make_engine(name: str, workers: int) -> Engine:
    """The engine of that name.

    Raises:
        OptionError: if there is none.
    """
    if name not in ENGINES:
        raise OptionError(f"Invalid engine (got {name!r}). Supported: {', '.join(ENGINES)}")
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)(workers)
    return engine
