"""Will the workers' pipes fit in what this process may have open? Said before the first is started."""

from __future__ import annotations

import os
import resource

from wdsremux.errors import ConversionError

_A_WORKER = 3  #: a pipe, and the two by which multiprocessing knows how it ended
_SPARE = 12  #: for files that are open for a moment: a worker being started, the plan, the manifest


def check(workers: int) -> None:
    """See that so many workers can be had.

    Raises:
        ConversionError: if not.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY:
        return
    fitting = (most - _SPARE - len(os.listdir("/dev/fd"))) // _A_WORKER
    if workers > fitting:
        raise ConversionError(
            f"{workers} workers need more files open at once than the {most} that are allowed here. Raise that with "
            f"`ulimit -n`, or take {max(1, fitting)} --workers, and run the same command again"
        )
