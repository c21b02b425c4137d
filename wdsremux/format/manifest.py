"""index.json: the manifest of a split, written last. What it does not name is not part of the split.

JSON, one key a line, in a fixed order; the last line holds `sha256`, of all bytes of the file before that line, so that
an edited or torn manifest is noticed. No date, host, worker count or absolute path stands in it: two conversions of the
same source are compared by comparing files.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wdsremux.errors import FormatError, VersionError, counted, one_line
from wdsremux.format import absence, containers, underway
from wdsremux.format.plain import FREE, MEND, check_plain, open_plain
from wdsremux.html_table import html_table

NAME = underway.MANIFEST
REJECTS = "rejects.jsonl"  #: one JSON object a line: fragment, row, part, where, column, reason
FORMAT = "wdsremux"
VERSION = 1
MOST_BYTES = 2**30  #: no manifest is larger: 4 million shards

_SEALED = re.compile(rb'\n"sha256": "[0-9a-f]{64}"\n}\n\Z')
_SPLIT = re.compile(r"\w+(\.\w+)*")  # what `datasets` allows as a split's name: nothing that leads out of a folder
_LONGEST = 200  #: characters of a split's name; a file's name has 255 bytes at most
_NUMBERED = re.compile(r"-[0-9]{6,10}")
_OTHER = re.compile(r"\w[\w-]*\.(npy|jsonl)")
_REQUIRED = {"samples.npy", REJECTS}
_OPTIONAL = {"container"}  #: keys that are only there where they say something


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of a split."""

    url: str  #: file name beside the manifest
    nsamples: int
    size_bytes: int
    sha256: str
    idx_sha256: str | None = None  #: of the index beside it, where its container has one

    @property
    def files(self) -> list[tuple[str, str]]:
        """(name, SHA-256) of the shard, and of the index beside it."""
        index = containers.index_name(self.url)
        return [(self.url, self.sha256), *([(index, self.idx_sha256)] if index and self.idx_sha256 else [])]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Manifest:
    """The description of a finished split, as read from `index.json`. All values are plain Python values."""

    split: str
    nsamples: int
    nrejects: int  #: rows, or parts of rows, that could not be baked; one line of rejects.jsonl each
    ndropped: int  #: rows of which the recipe made no sample
    classes: list[str] | None  #: names by label; None where labels are plain integers or absent
    source: dict[str, Any]  #: what was converted, with its pinned revision
    recipe: dict[str, Any]  #: name, sha256 and parameters
    options: dict[str, Any]  #: what else shapes bytes
    seed: int
    environment: dict[str, Any]  #: library versions and CPU capability; mixed_environment: true if it changed midway
    shards: list[Shard]  #: in the order of their numbers, those left without a sample left out
    files: dict[str, dict[str, str]]  #: the other files, each with its sha256
    container: str = containers.DEFAULT  #: what the shards are: a name in the table of `format.containers`

    def __repr__(self) -> str:
        return f"wdsremux.Manifest({', '.join(f'{name} {value}' for name, value in self._about().items())})"

    def _repr_html_(self) -> str:
        return html_table("wdsremux.Manifest", self._about())

    def _about(self) -> dict[str, str]:
        """What it says, without what it says of each shard and class."""
        dropped = f", and {self.ndropped:,} dropped by the recipe" if self.ndropped else ""
        size_bytes = sum(shard.size_bytes for shard in self.shards)
        return {
            "split": self.split,
            "samples": f"{self.nsamples:,}",
            "classes": "no names" if self.classes is None else f"{len(self.classes):,}",
            "shards": f"{len(self.shards):,} ({size_bytes / 1e6:,.1f} MB)",
            "rejects": f"{self.nrejects:,}{dropped}",
            "source": reprlib.repr(self.source.get("name")),
            "recipe": reprlib.repr(self.recipe.get("name")),
        }

    def dumps(self) -> bytes:
        """The file's content."""
        values: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        values |= {field.name: getattr(self, field.name) for field in fields(self)}
        if self.container == containers.DEFAULT:  # not named, so that sets made before there were others stay the same
            del values["container"]
        texts = {name: self._shard_lines() if name == "shards" else _json(value) for name, value in values.items()}
        body = b"".join([b"{\n", *(f"{_json(name)}: {text},\n".encode() for name, text in texts.items())])
        return body + f'"sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()

    def _shard_lines(self) -> str:
        """One shard a line: diffs stay readable."""
        names = [field.name for field in fields(Shard)]
        lines = (
            _json({name: value for name in names if (value := getattr(shard, name)) is not None})
            for shard in self.shards
        )
        return "[\n" + ",\n".join(lines) + "\n]" if self.shards else "[]"


def loads(content: bytes, where: str = NAME) -> Manifest:
    """Read a manifest's content.

    Args:
        content: the bytes of index.json.
        where: named in errors.

    Raises:
        FormatError: if it is no manifest, edited, or torn.
        VersionError: if it is of another version.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"is not JSON: {error}. Convert again to rebuild it", where) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise FormatError(f"is not a wdsremux manifest: its format is not {FORMAT!r}", where)
    if values.get("version") != VERSION:
        version = reprlib.repr(values.get("version"))
        raise VersionError(
            f"has version {version}; this release of wdsremux reads version {VERSION}. Use the release that wrote it",
            where,
        )
    body = content[: content.rfind(b'"sha256"')]
    if values.get("sha256") != hashlib.sha256(body).hexdigest():
        raise FormatError("was modified after it was written: its SHA-256 differs. Convert again to rebuild it", where)
    if not _SEALED.search(content[-256:]):
        raise FormatError("was modified after its last line. Convert again to rebuild it", where)
    try:
        shards = [Shard(**shard) for shard in values["shards"]]
        named = [
            f.name for f in fields(Manifest) if f.name != "shards" and (f.name in values or f.name not in _OPTIONAL)
        ]
        found = Manifest(**{name: values[name] for name in named}, shards=shards)
    except (KeyError, TypeError) as error:
        raise FormatError(f"has a missing or an unknown key: {one_line(error, 200)}", where) from error
    if not _well_formed(found):
        raise FormatError(f"contains values that no conversion writes. {MEND}", where)
    if sum(shard.nsamples for shard in shards) != found.nsamples:
        raise FormatError(
            f"records {counted(found.nsamples, 'sample')}, but its shards do not add up to that number. {MEND}", where
        )
    return found


def _well_formed(read: Any) -> bool:
    """Whether counts are counts, texts are texts, and no name leads out of the split's folder.

    Anyone can make a manifest whose SHA-256 holds; whoever reads it on relies on this.
    """
    counts = [read.nsamples, read.nrejects, read.ndropped]
    return (
        isinstance(read.split, str)
        and len(read.split) <= _LONGEST
        and _SPLIT.fullmatch(read.split) is not None
        and all(map(_is_count, counts))
        and isinstance(read.seed, int)
        and all(isinstance(values, dict) for values in (read.source, read.recipe, read.options, read.environment))
        and _are_texts([read.source.get("name"), read.recipe.get("name"), read.environment.get("wdsremux")])
        and (read.classes is None or (isinstance(read.classes, list) and _are_texts(read.classes)))
        and read.container in containers.CONTAINERS
        and all(is_shard(shard, read.split, read.container) for shard in read.shards)
        and len({shard.url for shard in read.shards}) == len(read.shards)
        and isinstance(read.files, dict)
        and read.files.keys() >= _REQUIRED
        and all(_OTHER.fullmatch(name) for name in read.files)
        and all(isinstance(file, dict) and isinstance(file.get("sha256"), str) for file in read.files.values())
    )


def is_shard(shard: Any, split: str, container: str) -> bool:
    """Whether a `Shard` that was read holds what a conversion writes, under a name that lies in the split's folder."""
    names = containers.CONTAINERS[container]
    return (
        _are_texts([shard.url, shard.sha256])
        and isinstance(shard.idx_sha256, str if names.index_suffix else type(None))
        and _is_count(shard.nsamples)
        and _is_count(shard.size_bytes)
        and shard.nsamples > 0
        and shard.url.startswith(split)
        and shard.url.endswith(names.suffix)
        and _NUMBERED.fullmatch(shard.url[len(split) : -len(names.suffix)]) is not None
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63  # a bool is an int, too


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def read(folder: Path) -> Manifest:
    """The manifest of the split in `folder`.

    Raises:
        FormatError: if the folder holds no finished split, saying what is there instead; or the manifest is damaged.
    """
    path = folder / NAME
    try:
        if (size := check_plain(path)) > MOST_BYTES:
            raise FormatError(f"has {size:,} bytes, which is too large for a manifest. {MEND}", path)
        with open_plain(path) as file:
            return loads(file.read(), str(path))
    except FileNotFoundError as error:
        raise FormatError(absence.of_split(folder)) from error
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}. {FREE}", path) from error


def read_all(out: Path) -> list[Manifest]:
    """The manifests of all finished splits in OUT, by name.

    Raises:
        FormatError: if there is none, saying what is there instead.
    """
    folders = sorted(path.parent for path in out.glob(f"*/{NAME}"))
    if not folders:
        raise FormatError(absence.of_set(out))
    return [read(folder) for folder in folders]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)
