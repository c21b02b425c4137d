"""What runs in the processes of the local engine: the other end of their pipes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from wdsremux.conversion.engines.attempts import carry_out
from wdsremux.conversion.portions import Step
from wdsremux.conversion.row_stream import RowStream
from wdsremux.errors import WdsremuxError


@dataclass(frozen=True, slots=True)
class AllRead:
    """The worker has read all rows of its step, and could begin to read those of the next one."""


def work(pipe: Connection, cargo: bytes) -> None:
    """A worker's life: do the steps that come through the pipe, until None comes or the parent is gone.

    Args:
        pipe: steps come in; what `carry_out` tells goes out, and `AllRead`, once a step at most.
        cargo: a `Bakery`, pickled.
    """
    import torch

    torch.set_num_threads(1)  # the cores are shared out among the workers already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    steps = _Steps(pipe)
    stream = RowStream(steps.peek)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        while (step := steps.take()) is not None:
            carry_out(step, cargo, pipe.send, stream)


def answer(pipe: Connection, question: Callable[[], Any]) -> None:
    """A worker's life that ends with (answer, the error that it met in its place)."""
    fault = answer = None
    try:
        answer = question()
    except WdsremuxError as error:
        fault = error
    pipe.send((answer, fault))


class _Steps:
    """The steps that come through a worker's pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._next: Step | None = None  #: came while the worker was at another
        self._asked = False

    def take(self) -> Step | None:
        """The next step, once it is there; None if none comes any more."""
        step, self._next, self._asked = self._next, None, False
        return cast("Step | None", self._pipe.recv()) if step is None else step

    def peek(self) -> Step | None:
        """The next step, which is still to be taken; None as long as it is not there. The first call asks for it."""
        if not self._asked:
            self._asked = True
            self._pipe.send(AllRead())
        if self._next is None and self._pipe.poll():
            self._next = self._pipe.recv()
        return self._next


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
