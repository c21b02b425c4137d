"""A finished split that is asked for again is told so at once, by a note of what was asked when it was finished.

    OUT/SPLIT/.wdsremux/asked.json   {"question": SHA-256, "manifest": SHA-256, "bytes_source": N,
                                      "cards": [NAME, …], "names": SHA-256}

The question is every option and, of every entry of the source's folder, its name, size and times. Where it is another,
or there is no note, the source is opened and compared, which takes the second or more that `datasets` takes to load.
Light to import.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from wdsremux import files
from wdsremux.conversion import presence
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.events import Event, Finished
from wdsremux.conversion.recipes.names import BUILT_IN
from wdsremux.errors import FormatError
from wdsremux.format import card, manifest
from wdsremux.format.underway import ASKED, WORK

LOGGER = logging.getLogger("wdsremux")
_CARDS, _DATA_FILES = ("README.md", ".huggingface.yaml"), b"data_files"  #: as `datasets` looks for them
_ENTRIES = 5_000  #: of a source's folder, at most: a look at each takes 10 us or more
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError)  #: what comes of reading a note that is none


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for, of a source that can be told by a look at its folder."""

    folder: Path  #: OUT/SPLIT
    sha256: str  #: of all that decides the answer

    @property
    def note(self) -> Path:
        return self.folder / WORK / ASKED


def question(source: str | os.PathLike[str], out: str | os.PathLike[str], options: ConvertOptions) -> Question | None:
    """The question; None where the answer depends on more: on the Hub, a recipe's code, a list of classes in a file.

    Options are not checked: whoever opens the source does.
    """
    try:
        place, split = os.path.realpath(source), options.get("split", "train")
        recipe, named = options.get("recipe", ""), options.get("classes")
        given = json.dumps([version("wdsremux"), str(out), place, options], sort_keys=True)
        folder = Path(out).expanduser().absolute() / split
        if options.get("overwrite") or not isinstance(recipe, str) or not BUILT_IN.fullmatch(recipe):
            return None
        if not os.path.isdir(place) or (isinstance(named, str) and os.path.exists(named)) or _points_elsewhere(place):
            return None
        digest = hashlib.sha256(given.encode())
        for number, entry in enumerate(_entries(place)):
            if number == _ENTRIES:
                return None
            digest.update(entry.encode("utf-8", "surrogateescape"))
    except (OSError, TypeError, ValueError):
        return None
    return Question(folder, digest.hexdigest())


def answer(asked: Question | None) -> Finished | None:
    """That the split is finished, if it was asked for in just this way before, and all of its files are there.

    Raises:
        FormatError: if something that is no file stands under the name of one.
        OutputError: if the dataset card was replaced by somebody else's.
        VersionError: if the split is of a version of the format that this wdsremux does not know.
    """
    if asked is None or not all(os.access(path, os.W_OK) for path in (asked.folder, asked.note)):
        return None
    try:
        note = json.loads(asked.note.read_bytes())
        known = note["question"] == asked.sha256 and note["manifest"] == _manifest_sha256(asked)
        known = known and all((asked.folder.parent / name).exists() for name in note["cards"])
        known = known and note["names"] == _names(asked)  # else there are files of others, or of a run that was killed
        size = None if note["bytes_source"] is None else int(note["bytes_source"])
    except _DAMAGE:
        return None
    if not known:
        return None
    try:
        done = manifest.read(asked.folder)
    except FormatError:
        return None
    if presence.missing(asked.folder, done):
        return None
    card.check_ours(asked.folder.parent)
    return Finished(done, True, size, asked.folder)


def noting(asked: Question | None, tell: Callable[[Event], None]) -> Callable[[Event], None]:
    """Write the note when the end is told. It was asked before the source was read: what changed since is noticed."""

    def told(event: Event) -> None:
        if isinstance(event, Finished) and asked is not None and os.access(asked.note.parent, os.W_OK):
            try:
                _note(asked, event)
            except OSError as error:  # a full disk: the set is whole, and is only asked for more slowly
                LOGGER.info("%s cannot be written: %s", asked.note, error.strerror)
        tell(event)

    return told


def _note(asked: Question, finished: Finished) -> None:
    said = {
        "question": asked.sha256,
        "manifest": _manifest_sha256(asked),
        "bytes_source": finished.bytes_source,
        "cards": [name for name in card.NAMES if (asked.folder.parent / name).exists()],
        "names": _names(asked),
    }
    with files.atomic(asked.note) as file:
        file.write(json.dumps(said).encode())


def _points_elsewhere(folder: str) -> bool:
    """Whether a dataset card says where the data is: that may be in another folder, or on a server."""
    cards = [Path(folder, name) for name in _CARDS]
    return any(_DATA_FILES in path.read_bytes() for path in cards if path.exists())


def _manifest_sha256(asked: Question) -> str:
    return files.sha256(asked.folder / manifest.NAME)


def _names(asked: Question) -> str:
    """SHA-256 of the names of all that is in OUT/SPLIT and in its folder of plan and journal, but for the note."""
    listed = [sorted(set(os.listdir(folder)) - {ASKED}) for folder in (asked.folder, asked.note.parent)]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _entries(folder: str) -> Iterator[str]:
    """Name, size and times of all that is in a folder, each followed by a line's end, in the order of their names.

    Raises:
        ValueError: at a link to a folder, which may lead anywhere.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        found = entry.stat()
        if stat.S_ISDIR(found.st_mode):
            if entry.is_symlink():
                raise ValueError(f"{entry.path} is a link to a folder")
            yield f"{entry.path}\0\n"
            yield from _entries(entry.path)
        else:
            yield f"{entry.path}\0{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}\n"
