"""Preloaded last by the fork server: takes what it has loaded out of the garbage collector's sight.

A full collection in a worker writes to the header of every object it visits, and so would copy 54 MB of the pages that
the worker shares with the server.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
