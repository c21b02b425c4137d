"""Tasks over a Ray cluster: one that runs already, or one started here for the run.

    this process ── the bakery, once ──> object store ──> node, node, …
                 ── a task ──> a generator on some node ── progress, and last Done or an error ──> this process

Every node reads the source and writes OUT by itself, so both must be on file systems that all nodes share. Ray retries
nothing: what is lost with a worker or a node is done again by `attempts`, as with processes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayError, WorkerCrashedError

from wdsremux.conversion import environment
from wdsremux.conversion.bake import Bakery
from wdsremux.conversion.engines import ray_worker
from wdsremux.conversion.engines.attempts import Attempts
from wdsremux.conversion.engines.base import Done
from wdsremux.conversion.engines.ray_cluster import check_nodes, joined
from wdsremux.conversion.events import Progress, Warned
from wdsremux.conversion.plan import Task
from wdsremux.conversion.portions import Step, task_of
from wdsremux.errors import WorkerError, first_line

_LOSSES = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)  #: died from outside
_STOP_AFTER_S = 5.0  #: how long cancelled tasks are waited for

Running = dict[Any, Step | None]  #: by Ray's generator, the longest unheard first; None once it has told its last


class RayEngine:
    """Maps tasks over a Ray cluster, `workers` at once."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def environment(self) -> dict[str, Any]:
        """See `Engine.environment`. Nodes are held to that of this process."""
        return environment.describe()

    def map(self, tasks: Sequence[Task], bakery: Bakery) -> Generator[Progress | Done | Warned]:
        """See `Engine.map`."""
        if not tasks:
            return
        bakery = replace(bakery, folder=bakery.folder.absolute(), work=bakery.work.absolute())
        with joined(self.workers) as here:
            cargo = ray.put(ray_worker.pack(bakery))
            if not here:
                check_nodes(cargo, bakery.work)
            yield from self._bake(Attempts(tasks, bakery, self.workers), cargo)

    def _bake(self, attempts: Attempts, cargo: Any) -> Generator[Progress | Done | Warned]:
        bake = ray.remote(num_cpus=1, num_returns="streaming", max_retries=0)(ray_worker.bake)
        running: Running = {}
        try:
            while True:
                while len(running) < self.workers and (step := attempts.take()) is not None:
                    running[bake.remote(step, cargo)] = step
                if not running:
                    return
                yield from _listen(running, attempts)
        finally:
            _cancel(running)
            attempts.close()


def _listen(running: Running, attempts: Attempts) -> list[Progress | Done | Warned]:
    """Wait until one of the steps has something to tell, and take it out if it is over.

    Raises:
        WdsremuxError: what the step told, if that is an error.
        WorkerError: if workers keep dying at it, or Ray itself failed.
    """
    [stream], _ = ray.wait(list(running), num_returns=1)
    step = running[stream]
    if step is None:
        _end(stream, time.monotonic() + _STOP_AFTER_S)
        del running[stream]
        return []
    try:
        message = ray.get(next(stream))
    except _LOSSES as loss:
        del running[stream]
        return attempts.lost(step, type(loss).__name__)
    except RayError as error:
        raise WorkerError(
            f"Ray failed on task {task_of(step).number}: {type(error).__name__}: {first_line(error)}. "
            "Run the same command again to resume"
        ) from error
    del running[stream]
    running[stream] = step if isinstance(message, Progress) else None
    return attempts.tally(step, message)


def _end(stream: Any, deadline_s: float) -> None:
    """Read what nobody waits for: Ray prints errors that are left unread."""
    with contextlib.suppress(RayError, StopIteration):  # however it ends
        while ray.wait([stream], timeout=max(0.0, deadline_s - time.monotonic()))[0]:
            ray.get(next(stream))


def _cancel(running: Running) -> None:
    """End the tasks, so that none writes beside the run that follows."""
    deadline_s = time.monotonic() + _STOP_AFTER_S
    for stream in running:
        with contextlib.suppress(RayError):  # Ray is gone, and its workers with it
            ray.cancel(stream, force=True)
    for stream in running:
        _end(stream, deadline_s)
