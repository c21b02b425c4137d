"""index.json: the manifest of a split, written last. What it does not name is not part of the split.

JSON, one key a line, in a fixed order; the last line holds `sha256`, of all bytes of the file before that line, so that
an edited or torn manifest is noticed. No date, host, worker count or absolute path stands in it: two conversions of the
same source are compared by comparing files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wdsremux.errors import FormatError, VersionError

NAME = "index.json"
REJECTS = "rejects.jsonl"  #: one JSON object a line: fragment, row, part, where, column, reason
FORMAT = "wdsremux"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar of a split."""

    url: str  #: file name beside the manifest
    nsamples: int
    size_bytes: int
    sha256: str
    idx_sha256: str  #: of DALI's index beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All there is to know of a converted split but its samples. Plain values throughout."""

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

    def dumps(self) -> bytes:
        """The file's content."""
        values: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        values |= {field.name: getattr(self, field.name) for field in fields(self)}
        values["shards"] = [
            {field.name: getattr(shard, field.name) for field in fields(shard)} for shard in self.shards
        ]
        body = "{\n" + "".join(f"{_json(name)}: {_json(value)},\n" for name, value in values.items())
        return f'{body}"sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'.encode()


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
        raise FormatError(f"{where} is not JSON: {error}. Convert again to rebuild it") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise FormatError(f"{where} is not a wdsremux manifest: its format is not {FORMAT!r}")
    if values.get("version") != VERSION:
        raise VersionError(f"{where} has version {values.get('version')!r}; this wdsremux reads version {VERSION}")
    body = content[: content.rfind(b'"sha256"')]
    if values.get("sha256") != hashlib.sha256(body).hexdigest() or not content.endswith(b"\n}\n"):
        raise FormatError(f"{where} was changed after it was written: its SHA-256 differs. Convert again to rebuild it")
    try:
        shards = [Shard(**shard) for shard in values["shards"]]
        return Manifest(**{f.name: values[f.name] for f in fields(Manifest) if f.name != "shards"}, shards=shards)
    except (KeyError, TypeError) as error:
        raise FormatError(f"{where} lacks or adds a key: {error}") from error


def read(folder: Path) -> Manifest:
    """The manifest of the split in `folder`.

    Raises:
        FormatError: if the folder holds no finished split, or the manifest is damaged.
    """
    path = folder / NAME
    try:
        return loads(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise FormatError(
            f"{folder} holds no finished split: {NAME} is missing. Run `wdsremux convert` to make or finish it"
        ) from error


def _json(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(_json(item) for item in value) + "\n]"  # one shard a line: diffs stay readable
    return json.dumps(value, ensure_ascii=True)
