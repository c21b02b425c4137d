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
from wdsremux.format import containers, manifest, samples
from wdsremux.format.manifest import Manifest

_LOCK = "lock"
_FIXED = (manifest.NAME, manifest.REJECTS, samples.NAME)  #: what every split has beside its shards
_PARTIALS = tuple(f".{name}{files.PARTIAL}" for name in _FIXED)
#: What the names of shards, and of indexes beside them, end with.
_SUFFIXES = "|".join(
    re.escape(suffix)
    for names in containers.CONTAINERS.values()
    for suffix in (names.suffix, names.index_suffix)
    if suffix is not None
)
_MARK = b'{\n"format": "wdsremux"'  #: how a manifest of ours begins, also one that was torn or edited since


@contextlib.contextmanager
def held(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Make and lock the folder, and empty it if that is asked for; gives the folder of plan and journal in it.

    Raises:
        OutputError: if it cannot be made, holds files of others, or another process is converting into it.
    """
    try:
        work = folder / journal.FOLDER
        if foreign := _foreign(folder):
            raise OutputError(
                f"{folder} contains files that wdsremux did not write, such as {foreign[0]}. They are never replaced "
                "or removed. Move them away, or choose another output folder"
            )
        if work.is_symlink():  # what is in there is cleared away
            raise OutputError(
                f"{work} is a link to another folder, and wdsremux does not write through links. Remove it"
            )
        files.make_folder(work)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to: {error.strerror}. Choose another output folder") from error
    busy = f"another process is converting into {folder}. Wait for it to finish, or choose another output folder"
    with files.locked(work / _LOCK, busy):
        if overwrite:
            _empty(folder, work)
        for partial in folder.glob(f".*{files.PARTIAL}"):  # of a run that was killed
            partial.unlink()
        yield work


def _foreign(folder: Path) -> list[str]:
    """The names of what lies in OUT/SPLIT and was not written by us.

    Ours is what our plan or our manifest names. Where one of them is there and cannot be read, it is what is named like
    the files of the split.
    """
    if not folder.exists():
        return []
    work = folder / journal.FOLDER
    present = sorted(path.name for path in folder.iterdir())
    if work.is_dir() and any(work.iterdir()) and not any((work / name).exists() for name in (_LOCK, journal.PLAN)):
        return [journal.FOLDER]
    unknown = [name for name in present if name != work.name]
    try:
        named, planned = _manifest_names(folder), journal.planned_shards(work)
    except (OutputError, FormatError):
        shard = re.compile(rf"{re.escape(folder.name)}-\d{{6,}}(?:{_SUFFIXES})")
        return [name for name in unknown if not shard.fullmatch(name) and name not in (*_FIXED, *_PARTIALS)]
    known = named | ({*_FIXED, *_PARTIALS} if named or planned is not None else set())
    return [name for name in unknown if name not in known and not _is_planned(name, folder.name, planned or [])]


def _is_planned(name: str, split: str, planned: list[range]) -> bool:
    """Whether a file may be a shard of the plan, or the index of one."""
    match = re.fullmatch(rf"{re.escape(split)}-(\d{{6,20}})(?:{_SUFFIXES})", name)
    if match is None or f"{int(match[1]):06d}" != match[1]:
        return False
    return any(int(match[1]) in run for run in planned)


def _manifest_names(folder: Path) -> set[str]:
    """The files that a manifest of ours names; none where there is no such manifest.

    Raises:
        FormatError: if it is ours, and was torn or edited.
    """
    path = folder / manifest.NAME
    if not _is_marked(path):
        return set()
    done = manifest.read(folder)
    shards = {name for shard in done.shards for name, _ in shard.files}
    return shards | {manifest.NAME, *done.files}


def _is_marked(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK


def _empty(folder: Path, work: Path) -> None:
    """Remove an earlier conversion, so that what is left at any moment is still known for ours.

    Its manifest first, its plan last, and the rest between: killed in between, it is one that was begun with its own
    options. (Records of tasks without their plan would pass for those of another conversion.) Without a plan it is the
    manifest that tells what is ours, and goes last.
    """
    plan, done = work / journal.PLAN, folder / manifest.NAME
    last = plan if plan.exists() else done
    if last is plan:
        done.unlink(missing_ok=True)
        files.sync_folder(folder)
    for path in [*folder.iterdir(), *work.iterdir()]:
        if path not in (work, work / _LOCK, last):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    files.sync_folder(folder)
    files.sync_folder(work)
    last.unlink(missing_ok=True)


def check_container(out: Path, split: str, container: str) -> None:
    """See that OUT's other splits, finished or begun, lie in the same container: readers take a set for one.

    Raises:
        OutputError: naming the split that does not.
    """
    for other in sorted(path for path in out.iterdir() if path.is_dir() and path.name != split):
        done, before = finished(other), journal.begun(other / journal.FOLDER)
        has = done.container if done is not None else before.container if before is not None else container
        if has != container:
            raise OutputError(
                f"{other} has {has} shards, but this run asks for {container} shards in the same output folder. Use "
                f"--container {has!r}, or choose another output folder"
            )


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
