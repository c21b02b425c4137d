"""What an engine is: it maps tasks over processes or machines, and does nothing else.

A plug is named in `ENGINES` and imported when used. What comes back is progress and finished task numbers; image bytes
never cross a process border.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from wdsremux.errors import BackendError, OptionError, install_command

if TYPE_CHECKING:
    from wdsremux.conversion.bake import Bakery
    from wdsremux.conversion.events import Progress, Warned
    from wdsremux.conversion.plan import Task

ENGINES = {  #: a name is also that of the extra which installs what it needs
    "local": "wdsremux.conversion.engines.local:LocalEngine",
    "ray": "wdsremux.conversion.engines.ray:RayEngine",
}


@dataclass(frozen=True, slots=True)
class Done:
    """A task is baked: its shards stand, its record is in the journal."""

    task: int


class Engine(Protocol):
    """Where tasks run."""

    def environment(self) -> dict[str, Any]:
        """That of the processes that bake (`environment.describe`).

        Raises:
            WorkerError: if none can be started.
        """

    def map(self, tasks: Sequence[Task], bakery: Bakery) -> Generator[Progress | Done | Warned]:
        """Bake all tasks, in any order; where there are few, several workers share each (see `portions`).

        What a worker was at when it died from outside is done again, three times in all at most; a Progress with
        negative sums then takes back what was told of it, and a Warned says so. Summing all Progress stays right.

        Closing the iterator early, or an exception, ends the work without leaving a process behind.

        Raises:
            WorkerError: if workers keep dying at a task, or one failed in a way that was not foreseen.
            OutputError: if a machine that is to bake does not see OUT.
            WdsremuxError: any other that a worker reports, as it is and with its notes.
        """


def make_engine(name: str, workers: int) -> Engine:
    """The engine of that name.

    Args:
        name: one of `ENGINES`.
        workers: how many tasks it runs at once, at most.

    Raises:
        OptionError: if there is none.
        BackendError: if what it needs is not installed.
    """
    if name not in ENGINES:
        raise OptionError(f"Invalid engine (got {name!r}). Supported: {', '.join(ENGINES)}")
    module, _, attribute = ENGINES[name].partition(":")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"engine {name} needs {error.name}, which is not installed. Install it with {install_command(name)}"
        ) from error
    engine: Engine = getattr(loaded, attribute)(workers)
    return engine
