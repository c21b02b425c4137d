"""Is a converted split still what its manifest says? Every file is read once, and every damaged one named.

The manifest is believed if its own SHA-256 holds, and a file if the manifest's does. A file that differs is looked
into with the help of those that do not: the walk over a tar or a sample's CRC-32 tells where the damage begins, a
digest that another file should have tells that they were swapped. Whatever a file holds, the answer is a damage, never
a traceback.
"""

from __future__ import annotations

import bisect
import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from wdsremux import machine
from wdsremux.errors import FormatError
from wdsremux.format import absence, containers, keys, manifest, samples, underway
from wdsremux.format.manifest import Manifest
from wdsremux.format.plain import MEND
from wdsremux.inspection import shard_check
from wdsremux.inspection.reading import DIFFERS, Known, digest, readable, size_of
from wdsremux.inspection.records import Places, check_rejects, open_table, read_manifest

_WAITING = 4  #: threads beyond one per core, which wait for the disk
_MOST_THREADS = 32  #: walking over a tar holds the interpreter for a tenth of the time that its pictures take
_AHEAD = 4 * _MOST_THREADS  #: shards handed to the threads before the first of them is done
_STRAY = "is not part of the split. Move it away or delete it"


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged, missing, or unexpected file of a split.

    `str(damage)` is one line that names the file, what is wrong with it, and what to do.

    Attributes:
        split: Name of the split.
        file: Name of the file in the folder of the split.
        what: What is wrong with the file, and what to do.
    """

    split: str
    file: str  #: its name in the split's folder
    what: str  #: what is wrong with it, and what to do

    def __str__(self) -> str:
        text = f"{self.split}/{self.file}: {self.what}"
        return text if text.isprintable() else ascii(text)[1:-1]  # a stray file can have any name


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at, and what was found."""

    damages: list[Damage]  #: one per file at most, in the order of splits and manifest; empty if all is well
    splits: int
    shards: int  #: that the manifests name
    files: int  #: likewise, shards and their indexes among them
    size_bytes: int  #: of those files that are there


def verify(
    out: Path, split: str | None = None, decode: bool = False, tell: Callable[[int, int], None] | None = None
) -> list[Damage]:
    """The damages that `check` finds."""
    return check(out, split, decode, tell).damages


def check(
    out: Path, split: str | None = None, decode: bool = False, tell: Callable[[int, int], None] | None = None
) -> Checked:
    """Check every file of the finished splits in OUT against their manifests: presence, bytes, counts, and that shards,
    indexes, sample table and rejects agree.

    Args:
        out: the folder of a conversion.
        split: the one to check; all if None.
        decode: decode every picture too.
        tell: called in this thread after each shard with (bytes done, bytes in all).

    Raises:
        FormatError: if there is no finished split, or not the one asked for.
    """
    folders = _folders(Path(out), split)
    manifests: dict[Path, Manifest | Damage] = {folder: _manifest(folder) for folder in folders}
    sound = {folder: found for folder, found in manifests.items() if isinstance(found, Manifest)}
    known = Known.of(sound.values())
    missing = _missing(sound, known)
    count = _Count(sum(shard.size_bytes for found in sound.values() for shard in found.shards), tell)
    pool = ThreadPoolExecutor(threads(), thread_name_prefix="wdsremux-verify")
    try:
        damages: list[Damage] = []
        for folder, found in manifests.items():
            if isinstance(found, Damage):
                damages.append(found)
            else:
                damages += _Split(folder, found, known, missing, decode).check(pool, count)
    finally:
        pool.shutdown(cancel_futures=True)
    names = [(folder, name) for folder, found in sound.items() for name in _names(found)]
    shards = sum(len(found.shards) for found in sound.values())
    return Checked(damages, len(manifests), shards, len(names), sum(map(_size, names)))


def threads() -> int:
    """One for each core, and some that wait for the disk. Hashing and decoding both leave the interpreter free."""
    return min(_MOST_THREADS, math.ceil(machine.cores()) + _WAITING)


def _mapped(
    pool: ThreadPoolExecutor,
    check: Callable[[shard_check.Expected], list[shard_check.Finding]],
    jobs: Iterator[shard_check.Expected],
) -> Iterator[list[shard_check.Finding]]:
    """`pool.map`, but for its taking all jobs at once: those of a million shards take a gigabyte."""
    waiting: deque[Future[list[shard_check.Finding]]] = deque()
    for job in jobs:
        waiting.append(pool.submit(check, job))
        if len(waiting) >= _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _size(named: tuple[Path, str]) -> int:
    try:
        return named[0].joinpath(named[1]).stat().st_size
    except OSError:  # missing, which is a damage of its own
        return 0


def _folders(out: Path, split: str | None) -> list[Path]:
    """The folders of finished splits, and of those whose manifest alone is gone."""
    try:
        present = sorted(entry.name for entry in os.scandir(out) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise FormatError(
            f"{out} cannot be read: {error.strerror or error}. Give the output folder of a conversion"
        ) from error
    splits = [name for name in present if _finished(out / name)]
    chosen = [name for name in splits if split in (None, name)]
    if not chosen:
        raise FormatError(absence.of_set(out) if split is None else absence.of_split(out / split))
    return [out / name for name in chosen]


def _finished(folder: Path) -> bool:
    """A table without a manifest counts: it is written after all shards, so the manifest was taken away."""
    try:
        return not {manifest.NAME, samples.NAME}.isdisjoint(os.listdir(folder))
    except OSError:  # cannot be looked into; reading its manifest says why
        return True


def _manifest(folder: Path) -> Manifest | Damage:
    path = folder / manifest.NAME
    try:
        with readable(path):
            os.listdir(folder)  # what may not be listed cannot be checked
        return read_manifest(folder)
    except FormatError as error:
        return Damage(folder.name, path.name, error.what)


def _names(split: Manifest) -> list[str]:
    """All files of a split, in the order of the manifest."""
    shards = [name for shard in split.shards for name, _ in shard.files]
    return [manifest.NAME, *shards, *split.files]


def _missing(manifests: dict[Path, Manifest], known: Known) -> set[str]:
    """The SHA-256 of every file that is not in its place."""
    absent = {
        (split.split, name)
        for folder, split in manifests.items()
        for name in set(_names(split)).difference(os.listdir(folder))
    }
    return {sha256 for sha256, place in known.places.items() if place in absent}


@dataclass(slots=True)
class _Count:
    """Bytes of shards looked at."""

    total: int
    tell: Callable[[int, int], None] | None
    done: int = 0

    def add(self, size_bytes: int) -> None:
        self.done += size_bytes
        if self.tell is not None:
            self.tell(self.done, self.total)


@dataclass(slots=True)
class _Split:
    """One split being checked."""

    folder: Path
    manifest: Manifest
    known: Known
    missing: set[str]  #: SHA-256 of files that may lie somewhere under another name
    decode: bool
    found: dict[str, str] = field(default_factory=dict)  #: file -> what; the first that is found stands

    def check(self, pool: ThreadPoolExecutor, count: _Count) -> list[Damage]:
        sound = {name for name in self.manifest.files if self._matches(name)}
        trusted = samples.NAME in sound
        table = self._table(trusted)
        jobs = self._expected(table, trusted)
        for shard, findings in zip(self.manifest.shards, _mapped(pool, self._shard, jobs), strict=True):
            for file, what in findings:
                self.found.setdefault(file, what)
            count.add(shard.size_bytes)
        sure = table is not None and trusted and samples.NAME not in self.found
        self._rejects(self._places(table) if table is not None and sure else None)
        for name in self.manifest.files.keys() - sound:
            self.found.setdefault(name, f"{DIFFERS}. {MEND}")
        strays = self._strays(pool)
        order = [*_names(self.manifest), *strays]
        return [Damage(self.folder.name, name, self.found[name]) for name in order if name in self.found]

    def _matches(self, name: str) -> bool:
        """Whether a file beside the shards has its SHA-256; says what can be said of it by that alone."""
        try:
            sha256 = digest(self.folder / name)
        except FormatError as error:
            self.found[name] = error.what
            return False
        if sha256 == self.manifest.files[name]["sha256"]:
            return True
        if swapped := self.known.swapped(sha256, self.folder.name):
            self.found[name] = swapped
        return False

    def _table(self, trusted: bool) -> samples.Table | None:
        if samples.NAME in self.found:
            return None
        path = self.folder / samples.NAME
        try:
            return open_table(path, self.manifest.nsamples)
        except FormatError as error:
            self.found[samples.NAME] = error.what
            return None

    def _expected(self, table: samples.Table | None, trusted: bool) -> Iterator[shard_check.Expected]:
        first, container = 0, containers.container(self.manifest.container)
        for number, shard in enumerate(self.manifest.shards):
            rows = None if table is None else table[first : first + shard.nsamples]
            yield shard_check.Expected(self.folder, container, shard, number, first, rows, trusted)
            first += shard.nsamples

    def _shard(self, expected: shard_check.Expected) -> list[shard_check.Finding]:
        return shard_check.check(expected, self.known, self.decode)

    def _places(self, table: samples.Table) -> Places:
        """The samples' places, each of which must be the only one; and their labels must be among the classes."""
        largest, classes = int(table["label"].max(initial=-1)), self.manifest.classes
        if classes is not None and largest >= len(classes):
            self.found[samples.NAME] = f"has label {largest}, but the number of classes is {len(classes)}. {MEND}"
        places = Places.of(table)
        if repeated := places.repeated():
            key = keys.key(*(int(table[repeated[0]][name]) for name in ("fragment", "row", "part")))
            ends = list(itertools.accumulate(shard.nsamples for shard in self.manifest.shards))
            first, second = (self.manifest.shards[bisect.bisect_right(ends, i)].url for i in repeated)
            self.found.setdefault(second, f"has sample {key}, which is also in {first}. {MEND}")
        return places

    def _rejects(self, places: Places | None) -> None:
        path = self.folder / manifest.REJECTS
        if path.name not in self.found:
            try:
                check_rejects(path, self.manifest.nrejects, places)
            except FormatError as error:
                self.found[path.name] = error.what

    def _strays(self, pool: ThreadPoolExecutor) -> list[str]:
        """Find what lies in the folder and is not of the split; tell a missing file by its content."""
        strays = sorted(set(os.listdir(self.folder)).difference(_names(self.manifest), [underway.WORK]))
        self.found |= zip(strays, pool.map(self._stray, strays), strict=True)
        return strays

    def _stray(self, name: str) -> str:
        path = self.folder / name
        try:
            size_of(path)
            sha256 = digest(path) if self.missing else ""
        except FormatError:  # a folder, a pipe: stray all the same
            return _STRAY
        if sha256 in self.missing:
            return f"is {self.known.name(sha256, self.folder.name)} under another name. Give it its original name"
        return _STRAY
