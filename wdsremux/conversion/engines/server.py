"""The fork server of local workers: a process that has loaded the libraries and is forked for each worker.

This module loads none of them itself, so that the server can begin to load while the caller does.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

_PRELOAD = ["wdsremux.conversion.engines.preload"]


def start() -> ForkServerContext:
    """Start the server if it does not run; it loads its 2 s of libraries beside the caller."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    forkserver.ensure_running()
    return context
