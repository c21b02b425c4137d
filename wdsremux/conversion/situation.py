"""What a conversion finds in OUT/SPLIT when it begins: asked once, a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wdsremux.conversion import folder, repair
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


Situation = Unfinished | Incomplete | Whole


def found(split: Path) -> Situation:
    """How it stands in OUT/SPLIT.

    Raises:
        VersionError: if it is of a version of the format that this wdsremux does not know.
        FormatError: if something that is no file stands under the name of one.
    """
    done = folder.finished(split)
    if done is None:
        return Unfinished()
    lacking = repair.missing(split, done)
    return Incomplete(done, frozenset(lacking)) if lacking else Whole(done)
