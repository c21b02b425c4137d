"""What a conversion finds in OUT/SPLIT when it begins: asked once, a value."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wdsremux.conversion import folder, presence
from wdsremux.format.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Unfinished:
    """There is no manifest. What an earlier run has left, if there was one, its journal tells."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A finished split of which files are missing or damaged."""

    done: Manifest
    lacking: frozenset[str]  #: names of files


@dataclass(frozen=True, slots=True)
class Whole:
    """A finished split."""

    done: Manifest


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """A finished split where nothing can be written, nor locked."""

    done: Manifest


Situation = Unfinished | Incomplete | Whole | ReadOnly


@contextlib.contextmanager
def held(split: Path, overwrite: bool) -> Iterator[Situation]:
    """Lock OUT/SPLIT, and find out how it stands there.

    Args:
        split: OUT/SPLIT.
        overwrite: whether what is there is to be removed first.

    Raises:
        OutputError: if it cannot be made, holds files of others, or another process is converting into it.
        VersionError: if it is of a version of the format that this wdsremux does not know.
        FormatError: if something that is no file stands under the name of one.
    """
    if not overwrite and folder.sealed(split):
        match _found(split):
            case Whole(done):
                yield ReadOnly(done)
                return
    with folder.held(split, overwrite):
        yield _found(split)


def _found(split: Path) -> Situation:
    done = folder.finished(split)
    if done is None:
        return Unfinished()
    lacking = presence.missing(split, done)
    return Incomplete(done, frozenset(lacking)) if lacking else Whole(done)
