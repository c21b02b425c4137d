"""Tasks over processes of this machine.

    this process ── fork server (torch, webdataset and datasets loaded once) ──> worker, worker, …
                 <──────────────── a pipe each: tasks out; progress and Done back

Workers are forked from a server that has loaded the libraries: torch alone is 670 MB resident, and a fork shares it
(20 MB private a worker). They never import the caller's `__main__`, so a script without a guard works. A worker whose
parent dies ends itself at once: it must not write beside the run that follows.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import types
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

from wdsremux.conversion import bake as baking
from wdsremux.conversion.bake import Bakery
from wdsremux.conversion.engines import Done, server
from wdsremux.conversion.events import Progress
from wdsremux.conversion.plan import Task
from wdsremux.errors import ConversionError, WdsremuxError, WorkerError

_STOP_AFTER_S = 5.0  #: how long a worker may take to end before it is killed


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None  #: what it is at


class LocalEngine:
    """Maps tasks over `workers` processes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, tasks: Sequence[Task], bakery: Bakery) -> Generator[Progress | Done]:
        """See `Engine.map`."""
        waiting = list(reversed(tasks))
        workers = [_start(bakery) for _ in range(min(self.workers, len(waiting)))]
        try:
            for worker in workers:
                _send_next(worker, waiting)
            while any(worker.task for worker in workers):
                for worker in _ready(workers):
                    message = _receive(worker)
                    if isinstance(message, Done):
                        _send_next(worker, waiting)
                    yield message
        finally:
            _stop(workers)


def _start(bakery: Bakery) -> _Worker:
    context = server.start()
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, bakery), daemon=True, name="wdsremux-worker")
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


def _send_next(worker: _Worker, waiting: list[Task]) -> None:
    worker.task = waiting.pop() if waiting else None
    with contextlib.suppress(BrokenPipeError):  # it died between two tasks: its sentinel says so next
        worker.pipe.send(worker.task)


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """The busy workers that have something to say, or have died."""
    busy: dict[Any, _Worker] = {}
    for worker in workers:
        if worker.task is not None:
            busy[worker.pipe] = busy[worker.process.sentinel] = worker
    ready = wait(list(busy))
    return list({id(busy[handle]): busy[handle] for handle in ready}.values())


def _receive(worker: _Worker) -> Progress | Done:
    """The worker's next message.

    Raises:
        WdsremuxError: the worker's own.
        WorkerError: if it died, or failed in a way that was not foreseen.
    """
    try:
        message = worker.pipe.recv()
    except (EOFError, ConnectionResetError):  # the second if it died with a message unread
        worker.process.join()
        number = worker.task.number if worker.task else None
        raise WorkerError(
            f"a worker died at task {number} with {_ending(worker.process.exitcode)}. "
            "Run the same command again to go on; if memory ran out, with fewer --workers"
        ) from None
    if isinstance(message, BaseException):
        raise message
    return cast("Progress | Done", message)


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"signal {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.task is not None:
            worker.process.terminate()
        worker.pipe.close()
    for worker in workers:
        worker.process.join(_STOP_AFTER_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(pipe: Connection, bakery: Bakery) -> None:
    """A worker's life: bake the tasks that come through the pipe, until None comes or the parent is gone."""
    import torch

    torch.set_num_threads(1)  # the cores are shared out among the workers already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while (task := pipe.recv()) is not None:
        try:
            baking.bake(task, bakery, pipe.send)
            pipe.send(Done(task.number))
        except WdsremuxError as error:
            pipe.send(error)
        except OSError as error:
            pipe.send(ConversionError(f"task {task.number}: {error}. Run the same command again to go on"))
        except Exception as error:  # a defect; the user gets a sentence, and with --debug the trace
            failure = WorkerError(f"task {task.number} failed: {type(error).__name__}: {error}")
            failure.add_note(traceback.format_exc())
            pipe.send(failure)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
