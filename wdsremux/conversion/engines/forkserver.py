"""The fork server of local workers: a process that has loaded the libraries and is forked for each worker.

This module loads none of them itself, so that the server can begin to load while the caller does. The server (640 MB)
lives as long as somebody holds it; one that the caller's own code had started before is left to that.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from typing import Any

from wdsremux.errors import WorkerError

_PRELOAD = ["wdsremux.conversion.engines.preload"]
_SERVER: Any = forkserver._forkserver  # there is one a process, and no public way to end it
_lock = threading.Lock()
_holders = 0
_ours = False  #: whether the server that runs was started here


@contextlib.contextmanager
def hold() -> Iterator[None]:
    """Have the server run meanwhile; conversions in several threads share it.

    Raises:
        OSError: if it cannot be started.
        WorkerError: if this process may not start others.
    """
    global _holders, _ours
    with _lock:
        _ours = _ours or not _runs()
        start()
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and _ours:
                _ours = False
                with contextlib.suppress(ProcessLookupError, TypeError):  # it has died, or was never asked for
                    os.kill(_SERVER._forkserver_pid, signal.SIGTERM)  # it may still be loading, for seconds
                _SERVER._stop()


@contextlib.contextmanager
def beside() -> Iterator[None]:
    """Let the libraries be loaded beside what follows, in a process that ends with it.

    Raises:
        WorkerError: if no process can be started from here.
    """
    try:
        held = hold()
        held.__enter__()
    except OSError as error:
        with contextlib.suppress(OSError):
            os.getcwd()  # multiprocessing tells it to its workers
            raise WorkerError(
                f"no worker process can be started: {error.strerror or error}. Set TMPDIR to a writable folder "
                "with a short name, and run the same command again"
            ) from error
        raise WorkerError(
            "no worker process can be started: the working directory does not exist any more. Change to one that "
            "exists, and run the same command again"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.push(held)
        yield


def start() -> ForkServerContext:
    """Start the server if it does not run; it loads its 2 s of libraries beside the caller."""
    if multiprocessing.current_process().daemon:
        raise WorkerError(
            "this process is daemonic, like the workers of multiprocessing.Pool, Dask and Celery, and a daemonic "
            "process cannot start workers. Call convert from the main process or from a worker of "
            "concurrent.futures.ProcessPoolExecutor"
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    resource_tracker.ensure_running()  # it would unblock what is blocked now
    with _ctrl_c_blocked():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """What is started meanwhile never sees a Ctrl-C; this process sees it afterwards.

    A terminal sends it to the whole group, and the server ignores it only once it has loaded all libraries: before
    that it would end with a traceback of its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _runs() -> bool:
    return _SERVER._forkserver_pid is not None
