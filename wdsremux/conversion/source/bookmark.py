"""Where the reading of a fragment stopped, kept open: the next rows of it need not be read from its beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wdsremux.conversion.source.base import Piece


class Bookmark:
    """One fragment that is read with pauses, by one thread at a time."""

    def __init__(self) -> None:
        self._fragment: tuple[int, int] | None = None  #: its number, and how many rows are read at a time
        self._pieces: Iterator[Piece] | None = None
        self.at = 0  #: row of the fragment that comes next; once all is read, how many it has

    def pieces(
        self, fragment: tuple[int, int], first: int, begin: Callable[[], Iterator[Piece]]
    ) -> Iterator[tuple[int, Piece]]:
        """Each piece with its first row, from where the last reading of that fragment stopped.

        Args:
            fragment: its number, and how many rows are read at a time.
            first: row that is wanted; pieces before it may come.
            begin: reads the fragment from its beginning, where the last reading was of another or has gone too far.
        """
        pieces = self._pieces
        if pieces is None or fragment != self._fragment or self.at > first:
            pieces, self.at = begin(), 0
        self._fragment, self._pieces = fragment, None  # what an error ends is not read on
        for piece in pieces:
            at, self.at, self._pieces = self.at, self.at + len(piece.table), pieces
            yield at, piece
            self._pieces = None

    def close(self) -> None:
        """Let go of what is open."""
        self._pieces = None
