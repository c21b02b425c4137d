"""Tasks over processes of this machine.

    this process ── fork server (torch, webdataset and datasets loaded once) ──> worker, worker, …
                 <──────────────── a pipe each: steps out (whole tasks, most of them); progress and Done back

A worker that has read all rows of its step may ask for the next one: it is at two of them then.

Workers are forked from a server that has loaded the libraries: torch alone is 670 MB resident, and a fork shares it
(20 MB private a worker). They never import the caller's `__main__`, so a script without a guard works. A worker whose
parent dies ends itself at once: it must not write beside the run that follows.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
import types
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from wdsremux.conversion import environment
from wdsremux.conversion.bake import Bakery
from wdsremux.conversion.engines import forkserver, local_worker
from wdsremux.conversion.engines.attempts import Attempts, Message
from wdsremux.conversion.engines.base import Done
from wdsremux.conversion.engines.local_worker import AllRead
from wdsremux.conversion.events import Progress, Warned
from wdsremux.conversion.plan import Task
from wdsremux.conversion.portions import Step
from wdsremux.errors import WorkerError

T = TypeVar("T")
_STOP_AFTER_S = 5.0  #: how long a worker may take to end before it is killed


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    step: Step | None = None  #: what it is at
    coming: Step | None = None  #: what it was given beside it, because it asked
    served: bool = False  #: whether it has finished a step
    unread: bool = False  #: whether it was dead already when it was given the step
    released: bool = False  #: whether it was told that there is nothing more


@dataclass(frozen=True, slots=True)
class _Death:
    """A worker ended without a word."""

    how: str
    idle: bool  #: between two steps: it had finished one, and not read the next


class LocalEngine:
    """Maps tasks over `workers` processes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def environment(self) -> dict[str, Any]:
        """See `Engine.environment`."""
        return answered(environment.describe)

    def map(self, tasks: Sequence[Task], bakery: Bakery) -> Generator[Progress | Done | Warned]:
        """See `Engine.map`."""
        attempts, cargo = Attempts(tasks, bakery, self.workers), pickle.dumps(bakery)
        workers = [_start(cargo) for _ in range(min(self.workers, attempts.waiting))]
        try:
            _feed(workers, attempts)
            while any(worker.step for worker in workers):
                for worker in _ready(workers):
                    yield from _listen(worker, workers, attempts, cargo)
        finally:
            _stop(workers)
            attempts.close()


def _listen(
    worker: _Worker, workers: list[_Worker], attempts: Attempts, cargo: bytes
) -> list[Progress | Done | Warned]:
    """Hear a worker out; if it has ended a step, or has died, see that all workers have something to do."""
    step, message = cast("Step", worker.step), _receive(worker)
    if isinstance(message, AllRead):
        _give_more(worker, attempts)
        return []
    if isinstance(message, _Death):
        told = _requeue(worker, message, attempts)
        workers[workers.index(worker)] = _start(cargo)
    else:
        told = attempts.tally(step, message)
    if not isinstance(message, Progress):
        worker.step, worker.coming, worker.served = worker.coming, None, True
        _feed(workers, attempts)
    return told


def _feed(workers: list[_Worker], attempts: Attempts) -> None:
    """Give workers that have nothing to do a step, as long as there are any; let them end where none will come."""
    for worker in workers:
        if worker.step is None and not worker.released:
            worker.step = attempts.take()
            worker.released = worker.step is None and not attempts.more
            if worker.step is not None or worker.released:
                _send(worker, worker.step)


def answered(question: Callable[[], T]) -> T:
    """A worker's answer: this process itself does not load what workers bake with.

    Args:
        question: travels to the worker, and back comes what it returns or raises.

    Raises:
        WdsremuxError: that it raised.
        WorkerError: if it died without one.
    """
    worker = _started(local_worker.answer, question)
    try:
        answer, fault = worker.pipe.recv()
    except (EOFError, OSError) as error:
        _end(worker)
        raise WorkerError(
            f"no worker process could be started: the first one died with {_ending(worker.process.exitcode)}. "
            "Run the same command again; if memory ran out, use fewer workers (--workers)"
        ) from error
    _end(worker)
    if fault is not None:
        raise fault
    return cast("T", answer)


def _start(cargo: bytes) -> _Worker:
    return _started(local_worker.work, cargo)


def _started(target: Callable[[Connection, Any], None], cargo: Any) -> _Worker:
    """A process that runs `target(its end of the pipe, cargo)`."""
    context = forkserver.start()
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, cargo), daemon=True, name="wdsremux-worker")
    with _without_main():
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide `__main__` while a process starts, so that multiprocessing does not have the child import it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _give_more(worker: _Worker, attempts: Attempts) -> None:
    """Give a worker that is at a step another one, if there is one."""
    worker.coming = attempts.take()
    if worker.coming is not None:
        _send(worker, worker.coming)


def _send(worker: _Worker, step: Step | None) -> None:
    try:
        worker.pipe.send(step)
    except BrokenPipeError:  # it has died: its sentinel says so next
        worker.unread = True


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """The busy workers that have something to say, or have died."""
    busy: dict[Any, _Worker] = {}
    for worker in workers:
        if worker.step is not None:
            busy[worker.pipe] = busy[worker.process.sentinel] = worker
    ready = wait(list(busy))
    return list({id(busy[handle]): busy[handle] for handle in ready}.values())


def _receive(worker: _Worker) -> Message | AllRead | _Death:
    """The worker's next message, or how it died."""
    try:
        return cast("Message | AllRead", worker.pipe.recv())
    except EOFError:
        unread = worker.unread
    except OSError as error:  # reset: it left its task unread; otherwise it died within a message
        unread = isinstance(error, ConnectionResetError)
    _end(worker)
    idle = worker.served and unread and worker.coming is None  # else it is the next one that it left unread
    return _Death(_ending(worker.process.exitcode), idle)


def _requeue(worker: _Worker, death: _Death, attempts: Attempts) -> list[Progress | Done | Warned]:
    """Let the steps of a dead worker wait again; gives what is to be told of them.

    A worker that died between two steps cost none an attempt. A new one that dies before it reads its first did: where
    all die so, that must come to an end.

    Raises:
        WorkerError: if too many have died at that step.
    """
    step = cast("Step", worker.step)
    if worker.coming is not None:
        attempts.put_back(worker.coming)
    if death.idle:
        attempts.put_back(step)
        return []
    return attempts.lost(step, death.how)


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"signal {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.step is not None:
            worker.process.terminate()
        worker.pipe.close()
    for worker in workers:
        _end(worker)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join(_STOP_AFTER_S)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
