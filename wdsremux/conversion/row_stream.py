"""The rows that a worker bakes: those of its step, and, once they are read, the first ones of its next.

    read     step 1 ............|step 2 ..............|step 3 ...
    baked      step 1 ..........written|step 2 .............written|

A server takes tenths of a second to begin an answer. A worker that began to read with its step would wait for that each
time, and so would the network while the last rows are baked and written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from wdsremux.conversion import portions, prefetch
from wdsremux.conversion.plan import Task
from wdsremux.conversion.portions import Portion, Step
from wdsremux.conversion.source import Bookmark, Rows, Source

_AHEAD_BYTES = 8 * 2**20  #: of images that wait to be baked, for each fragment that is read at the same time
_STORED_BYTES = 64 * 2**20  #: of fragments that are read at the same time


def _nothing() -> Step | None:
    return None


class RowStream:
    """What one worker reads in a run."""

    def __init__(self, coming: Callable[[], Step | None] = _nothing) -> None:
        """
        Args:
            coming: gives the worker's next step, None as long as it is not known. Asked only once all of this step is
                read, and only where several fragments are read at the same time.
        """
        self._coming = coming
        self._begun: tuple[Portion, prefetch.Readers] | None = None  #: of the next step
        self._bookmark = Bookmark()  #: portions come in the order of their rows, and a fragment may have many

    def rows(self, portion: Portion, source: Source, batch_rows: int) -> Iterator[Rows]:
        """The rows of a portion, in their order.

        Args:
            portion: which rows.
            source: the same at each call.
            batch_rows: how many are read at a time; likewise.

        Raises:
            SourceError: if they cannot be read, or are not as many as promised.
        """
        readers = self._taken(portion) or self._begin(portion, source, batch_rows)
        for rows in readers.rows():
            yield rows
            if source.at_once > 1 and self._begun is None and readers.through:
                coming = _portion(self._coming())
                if coming is not None:
                    self._begun = coming, self._begin(coming, source, batch_rows)

    def _taken(self, portion: Portion) -> prefetch.Readers | None:
        """The readers that were begun for a portion; those of any other are not wanted any more."""
        (begun, readers), self._begun = self._begun or (None, None), None
        if readers is not None and begun != portion:
            readers.close()
            return None
        return readers

    def _begin(self, portion: Portion, source: Source, batch_rows: int) -> prefetch.Readers:
        if source.at_once == 1 or portion.task.limit is not None:
            readings = [prefetch.Reading(partial(_in_turn, portion, source, batch_rows, self._bookmark), 0)]
        else:
            readings = [
                prefetch.Reading(
                    partial(source.rows, part.fragment, batch_rows, part.stop, part.first),
                    source.fragments[part.fragment].size_bytes,
                )
                for part in portion.stretches
            ]
        return prefetch.begin(readings, source.at_once, source.at_once * _AHEAD_BYTES, _STORED_BYTES)


def _portion(step: Step | None) -> Portion | None:
    """What is read for a step."""
    if isinstance(step, Task):
        return portions.whole(step)
    return step if isinstance(step, Portion) else None


def _in_turn(portion: Portion, source: Source, batch_rows: int, bookmark: Bookmark) -> Iterator[Rows]:
    """The rows of one fragment after the other; where there is a limit, what is left of it depends on those before."""
    count, limit = 0, portion.task.limit
    for part in portion.stretches:
        stop = part.stop if limit is None else limit - count
        for rows in source.rows(part.fragment, batch_rows, stop, part.first, bookmark):
            yield rows
            count += len(rows)
