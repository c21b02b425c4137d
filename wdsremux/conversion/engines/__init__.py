"""Engines map tasks over processes or machines, and do nothing else.

base.py        what an engine is, and which there are
attempts.py    what they share: what is to be done next, and again if its worker dies; shared_task.py: a task that
               is cut into portions
local.py       processes of this machine; forkserver.py: what they are forked from
ray.py         a Ray cluster; ray_cluster.py: joining or starting one; ray_worker.py: what runs on its nodes
"""

from wdsremux.conversion.engines.base import ENGINES, Done, Engine, make_engine

__all__ = ["ENGINES", "Done", "Engine", "make_engine"]
