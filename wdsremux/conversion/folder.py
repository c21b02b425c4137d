"""OUT/SPLIT: made, locked for one conversion at a time, and never mixed with files of others."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from wdsremux import files
from wdsremux.conversion import journal
from wdsremux.errors import FormatError, OutputError, VersionError
from wdsremux.format import manifest
from wdsremux.format.manifest import Manifest

_LOCK = "lock"
_OURS = re.compile(
    r"\.wdsremux|index\.json|samples\.npy|rejects\.jsonl|.*-\d{6,}\.(?:tar|idx)|\..*" + re.escape(files.PARTIAL)
)


@contextlib.contextmanager
def held(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Make and lock the folder, and empty it if that is asked for; gives the folder of plan and journal in it.

    Raises:
        OutputError: if it cannot be made, holds files of others, or another process is converting into it.
    """
    try:
        foreign = sorted(p.name for p in folder.iterdir() if not _OURS.fullmatch(p.name)) if folder.exists() else []
        if foreign:
            raise OutputError(
                f"{folder} holds files that are not of a conversion, such as {foreign[0]}. Choose another OUT"
            )
        work = folder / journal.FOLDER
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to: {error.strerror}. Choose another OUT") from error
    busy = f"another process is converting into {folder}. Wait for it, or choose another OUT"
    with files.locked(work / _LOCK, busy):
        if overwrite:
            _empty(folder, work)
        yield work


def _empty(folder: Path, work: Path) -> None:
    """Remove an earlier conversion, its manifest first: a split without one is never taken for a finished one."""
    (folder / manifest.NAME).unlink(missing_ok=True)
    (work / journal.PLAN).unlink(missing_ok=True)
    files.sync_folder(folder)
    for path in [*folder.iterdir(), *work.iterdir()]:
        if path not in (work, work / _LOCK):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def finished(folder: Path) -> Manifest | None:
    """The manifest of a finished split; None if there is none, or it was edited or torn: it is made anew.

    Raises:
        VersionError: if it is of a version that this wdsremux does not know.
    """
    if not (folder / manifest.NAME).exists():
        return None
    try:
        return manifest.read(folder)
    except VersionError:
        raise
    except FormatError:
        return None
