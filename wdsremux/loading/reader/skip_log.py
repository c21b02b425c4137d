"""What is said of samples that are left out: each fault once in a process, and no more than a few dozen."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("wdsremux")
MOST = 20  #: faults logged one by one; a disk that dies has thousands, each with the same cause


class SkipLog:
    """Warns of faults that were skipped; those said before are not said again."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def warn(self, fault: object) -> None:
        """Say what was wrong with a sample or a shard that is skipped."""
        text = str(fault)
        if text in self._said or len(self._said) > MOST:
            return
        self._said.add(text)
        if len(self._said) <= MOST:
            LOGGER.warning("skipped: %s", text)
        else:
            LOGGER.warning("skipped: more than %d faults. Further ones are counted, but not logged", MOST)


LOG = SkipLog()  #: of this process, as the readers of several loaders may meet the same fault
