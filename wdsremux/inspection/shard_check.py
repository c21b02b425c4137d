"""One shard against what is known of it: its file, the index beside it, and its rows of the sample table."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wdsremux.errors import FormatError, ImageError
from wdsremux.format import manifest, samples
from wdsremux.format.containers import Container, Member, StoredSample
from wdsremux.format.manifest import Shard
from wdsremux.format.plain import MEND
from wdsremux.inspection.reading import DIFFERS, Known, digest, hashed, readable, size_of

Finding = tuple[str, str]  #: file, what is wrong with it
NAMED = 8  #: pictures that fail are named, up to so many
_SIDES = ("width", "height")  #: of which a shard tells only when its images are decoded


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a shard before it is read."""

    folder: Path
    container: Container
    shard: Shard
    number: int  #: its place in the manifest's list
    first: int  #: sample id of its first sample
    rows: samples.Table | None  #: of the sample table, if that can be read
    trusted: bool  #: whether the table is what the manifest says


@dataclass(slots=True)
class _Reading:
    """What a shard was found to hold, up to its first damage."""

    size_bytes: int = 0
    sha256: str = ""
    rows: list[tuple[int, ...]] = field(default_factory=list)  #: of the sample table
    keys: list[str] = field(default_factory=list)
    members: list[list[Member]] = field(default_factory=list)
    fault: str = ""  #: the first damage of the container's own form
    refused: list[str] = field(default_factory=list)  #: pictures that cannot be decoded, and why

    @property
    def table(self) -> samples.Table:
        return np.array(self.rows, samples.SAMPLE)


def check(expected: Expected, known: Known, decode: bool) -> list[Finding]:
    """Read a shard once.

    Returns:
        A finding for each of its files (or, in its place, the sample table or the manifest), at most.
    """
    path, found = expected.folder / expected.shard.url, list[Finding]()
    reading = None
    try:
        reading = _read(path, expected, known, decode)
    except FormatError as error:
        found.append((path.name, error.what))
    else:
        found += itertools.islice(_judge(reading, expected, known, decode), 1)
    whole = reading if reading is not None and not any(name == path.name for name, _ in found) else None
    for name, sha256 in expected.shard.files[1:]:
        try:
            _check_index(path.with_name(name), sha256, expected, known, whole)
        except FormatError as error:
            found.append((name, error.what))
    return found


def _read(path: Path, expected: Expected, known: Known, decode: bool) -> _Reading:
    size, wanted = size_of(path), expected.shard.size_bytes
    if size > wanted and size not in known.sizes:  # of no shard at all, and perhaps endless
        raise FormatError(f"has {size:,} bytes, but the manifest says {wanted:,}. {MEND}", path.name)
    reading = _Reading(size)
    with hashed(path) as (file, raw):
        try:
            for sample in expected.container.walk(file, path, size):
                reading.keys.append(sample.key)
                reading.members.append(sample.members)
                sides = _decode(sample, reading.refused) if decode else (0, 0)
                reading.rows.append((expected.number, *sample.record, *sides, *sample.place))
        except FormatError as error:
            reading.fault = error.what
            while file.read(2**20):
                pass
        reading.sha256 = raw.sha256.hexdigest()
    return reading


def _decode(sample: StoredSample, refused: list[str]) -> tuple[int, int]:
    from wdsremux import codec  # loads torch, which nothing else here needs

    try:
        height, width = codec.decode(sample.image).shape[:2]
    except ImageError as error:
        refused.append(f"{sample.key} ({error})")
        return 0, 0
    return width, height


def _judge(reading: _Reading, expected: Expected, known: Known, decode: bool) -> Iterator[Finding]:
    """What is wrong with the shard, or with the table if the shard is sound; the most telling first."""
    url, shard = expected.shard.url, expected.shard
    if reading.sha256 != shard.sha256:
        swapped = known.swapped(reading.sha256, expected.folder.name)
        yield url, swapped or _first_damage(reading, expected) or f"{DIFFERS}. {MEND}"
    elif reading.fault:
        yield url, reading.fault
    elif reading.size_bytes != shard.size_bytes:  # its SHA-256 holds, so it is the manifest that is wrong
        yield (
            manifest.NAME,
            f"says that {url} has {shard.size_bytes:,} bytes, but it has {reading.size_bytes:,}. {MEND}",
        )
    elif len(reading.rows) != shard.nsamples:
        count = f"{len(reading.rows)}, but the manifest says {shard.nsamples}"
        yield url, f"has the wrong number of samples: {count}. {MEND}"
    elif expected.rows is not None and (wrong := _difference(reading.table, expected.rows, _SIDES)) is not None:
        yield samples.NAME, _untrue(wrong, reading, expected)
    elif decode and (failing := [*reading.refused, *_other_sides(reading, expected)]):
        yield url, _failing(failing)


def _first_damage(reading: _Reading, expected: Expected) -> str:
    """Where a shard that differs begins to differ; empty if that cannot be told."""
    if expected.rows is not None and expected.trusted:
        wrong = _difference(reading.table, expected.rows, _SIDES)
        if wrong is not None:
            i, column = wrong
            sample = f"sample {reading.keys[i]}, whose image is at byte {reading.rows[i][1]}"
            return f"is damaged in {sample}: its {_word(column)} differs from the sample table. {MEND}"
    return reading.fault or (_failing(reading.refused) if reading.refused else "")


def _difference(found: samples.Table, wanted: samples.Table, but: tuple[str, ...]) -> tuple[int, str] | None:
    """The first sample, and in it the first column, in which two tables differ, as far as both go."""
    count = min(len(found), len(wanted))
    columns = [name for name in samples.SAMPLE.names or () if name not in but]
    unequal = np.stack([found[name][:count] != wanted[name][:count] for name in columns])
    where = np.flatnonzero(unequal.any(axis=0))
    return (int(where[0]), columns[int(unequal[:, where[0]].argmax())]) if len(where) else None


def _word(column: str) -> str:
    """A column of the sample table, for people."""
    return column.replace("crc32", "CRC-32")


def _untrue(wrong: tuple[int, str], reading: _Reading, expected: Expected) -> str:
    i, column = wrong
    rows = expected.rows if expected.rows is not None else reading.table
    says = f"its {_word(column)} is {rows[column][i]}, but {expected.shard.url} has {reading.table[column][i]}"
    record = f"record {expected.first + i} ({reading.keys[i]})"
    return f"{'is wrong in' if expected.trusted else f'{DIFFERS}, first in'} {record}: {says}. {MEND}"


def _other_sides(reading: _Reading, expected: Expected) -> Iterator[str]:
    """Pictures whose size is not the table's."""
    if expected.rows is None or not expected.trusted:
        return
    decoded = reading.table
    for i in np.flatnonzero(
        ((decoded["width"] != expected.rows["width"]) | (decoded["height"] != expected.rows["height"]))
        & (decoded["width"] > 0)
    ).tolist():
        has, says = (f"{row['width']}x{row['height']}" for row in (decoded[i], expected.rows[i]))
        yield f"{reading.keys[i]} ({has} pixels, but {samples.NAME} says {says})"


def _failing(pictures: list[str]) -> str:
    more = f" and {len(pictures) - NAMED} more" if len(pictures) > NAMED else ""
    return f"has images that failed the check: {', '.join(pictures[:NAMED])}{more}. {MEND}"


def _check_index(path: Path, wanted: str, expected: Expected, known: Known, shard: _Reading | None) -> None:
    """An index against the manifest and, if that is sound, its shard.

    Raises:
        FormatError: if it differs.
    """
    sha256 = digest(path)
    text = expected.container.index_text(shard.members) if shard is not None else None
    if sha256 == wanted:
        if text is not None and hashlib.sha256(text).hexdigest() != sha256:
            raise FormatError(f"does not match {expected.shard.url}. {MEND}", path.name)
        return
    if swapped := known.swapped(sha256, expected.folder.name):
        raise FormatError(swapped, path.name)
    line = f", first in line {_first_line(path, text)}" if text is not None else ""
    raise FormatError(f"{DIFFERS}{line}. {MEND}", path.name)


def _first_line(path: Path, text: bytes) -> int:
    with readable(path), open(path, "rb") as file:
        found = file.read(len(text) + 1)
    pairs = itertools.zip_longest(found.split(b"\n"), text.split(b"\n"))
    return next((number for number, (has, should) in enumerate(pairs, 1) if has != should), 1)
