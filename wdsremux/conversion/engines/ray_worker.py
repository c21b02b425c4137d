"""What runs on the nodes of a Ray cluster.

Nothing is imported here that reads environment variables or the import path, before those of the process that maps
stand: on its own machine a worker inherits them, on others it does not.
"""

from __future__ import annotations

import functools
import os
import pickle
import queue
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wdsremux.conversion.bake import Bakery
    from wdsremux.conversion.engines.attempts import Message
    from wdsremux.conversion.portions import Step
    from wdsremux.conversion.row_stream import RowStream

_VARIABLES = ("HF_", "HUGGINGFACE_", "DATASETS_")  #: what names the Hub, its cache and its token begins so


@dataclass(frozen=True, slots=True)
class Cargo:
    """What a worker needs beside its step. Lies once in Ray's object store."""

    bakery: bytes  #: pickled, so that it is opened only where what it needs can be found
    environment: Mapping[str, Any]  #: that the worker must have
    import_path: tuple[str, ...]
    variables: Mapping[str, str]  #: of the process that maps


def pack(bakery: Bakery) -> Cargo:
    """What a bakery needs to be opened elsewhere."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    return Cargo(pickle.dumps(bakery), bakery.environment, tuple(sys.path), variables)


def look(cargo: Cargo, token: Path) -> tuple[str | None, str]:
    """What is seen from this node.

    Args:
        cargo: what tasks will get.
        token: a file that was just written into OUT.

    Returns:
        The file's content, None if it cannot be read; and how the environment differs, empty if it does not.
    """
    _adopt_paths(cargo)
    try:
        content = token.read_text()
    except OSError:
        content = None
    return content, _difference(cargo)


def bake(step: Step, cargo: Cargo) -> Iterator[Message]:
    """One attempt at a step: its progress, and last what ended it."""
    _adopt_paths(cargo)
    if changed := _difference(cargo):  # a node that came after the others were looked at
        from wdsremux.errors import WorkerError

        yield WorkerError(differs(socket.gethostname(), changed))
        return
    told: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_carry_out, args=(step, cargo, told), name="wdsremux-task", daemon=True).start()
    while _goes_on(message := told.get()):
        yield message
    yield message


def differs(node: str, changed: str) -> str:
    """The sentence about a node with another environment."""
    return (
        f"Ray node {node} would not write the same bytes as this process: {changed}. "
        "Install the same packages there as on this machine, or use nodes of one kind"
    )


def _goes_on(message: Message) -> bool:
    from wdsremux.conversion.events import Progress

    return isinstance(message, Progress)


def _carry_out(step: Step, cargo: Cargo, told: queue.SimpleQueue[Message]) -> None:
    """Runs in a thread: what is baked reports by calls, and Ray wants a generator."""
    import torch

    from wdsremux.conversion.engines.attempts import carry_out

    torch.set_num_threads(1)  # Ray shares the cores out among its workers
    carry_out(step, cargo.bakery, told.put, _stream(cargo.bakery))


@functools.lru_cache(maxsize=1)  # of one run: the next one that this process works for may read another source
def _stream(bakery: bytes) -> RowStream:
    from wdsremux.conversion.row_stream import RowStream

    return RowStream()


def _adopt_paths(cargo: Cargo) -> None:
    """Find here what the process that maps finds. Only adds, because the user's own Ray tasks may share this worker."""
    os.environ.update(cargo.variables)
    sys.path.extend(path for path in cargo.import_path if path not in sys.path)


def _difference(cargo: Cargo) -> str:
    from wdsremux.conversion import environment

    return environment.difference(dict(cargo.environment), _environment())


@functools.cache
def _environment() -> dict[str, Any]:
    from wdsremux.conversion import environment

    return environment.describe()
