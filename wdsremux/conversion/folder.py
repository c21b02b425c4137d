"""OUT/SPLIT: made, locked for one conversion at a time, and never mixed with files of others."""

from __future__ import annotations

import contextlib
import os
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
        if work.is_symlink():  # what is in there is cleared away
            raise OutputError(f"{work} is a link to another folder, which is not to be written to. Remove it")
        files.make_folder(work)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to: {error.strerror}. Choose another OUT") from error
    busy = f"another process is converting into {folder}. Wait for it, or choose another OUT"
    with files.locked(work / _LOCK, busy):
        if overwrite:
            _empty(folder, work)
        for partial in folder.glob(f".*{files.PARTIAL}"):  # of a run that was killed
            partial.unlink()
        yield work


def _empty(folder: Path, work: Path) -> None:
    """Remove an earlier conversion: its manifest first, its plan last, and the rest between.

    Killed in between, it is one that was begun with its own options. (Records of tasks without their plan would pass
    for those of another conversion.)
    """
    plan = work / journal.PLAN
    (folder / manifest.NAME).unlink(missing_ok=True)
    files.sync_folder(folder)
    for path in [*folder.iterdir(), *work.iterdir()]:
        if path not in (work, work / _LOCK, plan):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    files.sync_folder(folder)
    files.sync_folder(work)
    plan.unlink(missing_ok=True)


def sealed(folder: Path) -> bool:
    """Whether it is there and nothing can be written in it: on a read-only disk, or without the right to."""
    return folder.is_dir() and not all(
        os.access(path, os.W_OK) for path in (folder, folder / journal.FOLDER) if path.exists()
    )


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
