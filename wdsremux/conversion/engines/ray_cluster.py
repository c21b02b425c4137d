"""Joining a Ray cluster, or starting one here; and whether its nodes can bake the same files.

A cluster is joined where the caller is connected to one already, or RAY_ADDRESS names one. Otherwise one is started on
this machine for the run, and ends with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, RayTaskError, TaskUnschedulableError, WorkerCrashedError
from ray.util.client import ray as client
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wdsremux.conversion.engines import ray_worker
from wdsremux.errors import OutputError, WorkerError, first_line

_STORE_BYTES = 80 * 2**20  #: of memory for Ray's objects, near its least: no image ever lies there
_CONNECT_S = 10.0
_HERE = "local"  #: Ray's own word for a cluster on this machine


@contextlib.contextmanager
def joined(workers: int) -> Iterator[bool]:
    """Be connected to a cluster; gives whether it was started here.

    Args:
        workers: cores that a cluster started here offers.

    Raises:
        WorkerError: if there is none at RAY_ADDRESS, or none can be started.
    """
    if client.is_connected() or os.environ.get("RAY_ADDRESS", "").startswith("ray://"):
        raise WorkerError(
            "the ray engine does not work through Ray Client (ray://), which cannot stream progress. "
            "Run the command on a node of the cluster, with RAY_ADDRESS=auto"
        )
    if ray.is_initialized():
        yield False
        return
    with _sigterm_kept():
        try:
            yield _connect(workers) == _HERE
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray sets a handler and leaves it there. (From other threads it cannot, nor could it be set back.)"""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _connect(workers: int) -> str:
    address = os.environ.get("RAY_ADDRESS") or _HERE
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == _HERE:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a conversion calls nobody's home
        options |= {"num_cpus": workers, "num_gpus": 0, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        _check_listening(address)
        ray.init(address, **options)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        where = (
            "cannot be started on this machine" if address == _HERE else f"cannot be reached at RAY_ADDRESS={address}"
        )
        raise WorkerError(
            f"a Ray cluster {where}: {first_line(error)}. Check that the cluster is running, or use another engine"
        ) from error
    return address


def _check_listening(address: str) -> None:
    """Ray 2.60 tries for minutes to reach an address where nobody listens."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()


def check_nodes(cargo: ray.ObjectRef[ray_worker.Cargo], work: Path) -> None:
    """See that every node with a core to offer sees OUT, and bakes as this process would.

    Args:
        cargo: what tasks will get.
        work: a folder in OUT.

    Raises:
        OutputError: naming a node that does not see OUT.
        WorkerError: naming a node with another environment, or without this package.
    """
    content = secrets.token_hex(8)
    token = work / f"seen-{content}"  # a new name: a file system of a network may remember that an old one was missing
    token.write_text(content)
    try:
        look = ray.remote(num_cpus=0, max_retries=0)(ray_worker.look)
        looks = []
        for node in ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                looks.append((name, look.options(scheduling_strategy=there).remote(cargo, token)))
        for name, seen in looks:
            _check(name, seen, content, work)
    finally:
        token.unlink()


def _check(node: str, seen: ray.ObjectRef[Any], content: str, work: Path) -> None:
    try:
        found, changed = ray.get(seen)
    except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
        return  # it went away, and gets no task; should it come back, the task looks again
    except RayTaskError as error:
        cause = error.cause or error
        raise WorkerError(
            f"Ray node {node} cannot convert images: {type(cause).__name__}: {first_line(cause)}. "
            "Install the same packages there as on this machine"
        ) from error
    if found != content:
        raise OutputError(
            f"{work.parent} is not on a file system that Ray node {node} shares with this machine. "
            "Choose an output folder that has the same path on all nodes"
        )
    if changed:
        raise WorkerError(ray_worker.differs(node, changed))
