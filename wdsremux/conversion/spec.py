"""What the user asks of a conversion: one frozen object, checked once, passed whole."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Unpack

from wdsremux import arguments, machine
from wdsremux.codec import Encoding
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.engines import ENGINES
from wdsremux.conversion.plan import Plan
from wdsremux.conversion.recipes.base import ROWS_A_BATCH, Settings
from wdsremux.conversion.recipes.making import check_name
from wdsremux.conversion.recipes.names import COPY, SIZED
from wdsremux.conversion.source.columns import Columns
from wdsremux.conversion.source.selection import Selection
from wdsremux.errors import OptionError, SourceError
from wdsremux.format.containers import CONTAINERS, DEFAULT, container

MAX_REJECTS = "1%"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  #: pathlib makes s3:/bucket of s3://bucket
_PERCENTAGE = re.compile(r"(\d+(?:\.\d+)?)%")
_SHARE = re.compile(r"0?\.\d+|\d(?:\.\d+)?e-\d+")  #: below 1, also as Python writes very small ones
LEAST_OF_SHARE = 10  #: rejects that any share but none allows: 1% of a small source would be no row at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The options of `wdsremux convert`, under the names they have there.

    Raises:
        OptionError: when made with a value that no source could make right.
    """

    selection: Selection  #: what of a source is converted; its fields are options of their own
    out: Path
    recipe: str | Callable[..., Any] = "resize:256"
    recipe_version: str | None = None  #: stands in for the source text of a user's recipe
    batch_size: int = ROWS_A_BATCH  #: rows that a user's recipe gets at once
    encoding: Encoding = field(default_factory=Encoding)  #: its fields are options of their own
    fast: bool = False  #: quicker, and 0.2 to 2 dB worse; of resize:N and square:N
    container: str = DEFAULT  #: what samples are written to: a name in the table of `format.containers`
    samples_per_shard: int | None = None
    samples_per_task: int | None = None
    shuffle: bool = True
    seed: int = 0
    workers: int = 1
    engine: str = "local"
    max_rejects: str = MAX_REJECTS  #: a number, or a share of the planned rows: 0.01 or 1%
    limit: int | None = None
    strict: bool = False  #: refuse to go on in another environment
    overwrite: bool = False

    def __post_init__(self) -> None:
        arguments.one_of("engine", self.engine, ENGINES)
        arguments.one_of("container", self.container, CONTAINERS)
        if taken := sorted(container(self.container).RESERVED.intersection(self.selection.keep)):
            raise OptionError(
                f"Invalid keep (got {taken[0]!r}). Supported with {self.container}: names other than "
                f"{' and '.join(sorted(container(self.container).RESERVED))}, which are columns of every shard"
            )
        for name in ("samples_per_shard", "samples_per_task", "limit"):
            if getattr(self, name) is not None:
                self._hold(name, arguments.integer(name, getattr(self, name)))
        for name in ("workers", "batch_size"):
            self._hold(name, arguments.integer(name, getattr(self, name)))
        self._hold("seed", arguments.integer("seed", self.seed, least=None))
        for name in ("fast", "shuffle", "strict", "overwrite"):
            self._hold(name, arguments.flag(name, getattr(self, name)))
        if self.recipe_version is not None:
            arguments.text("recipe_version", self.recipe_version)
        self.rejects_allowed(0)
        check_name(self.recipe)
        if self.fast and not (isinstance(self.recipe, str) and SIZED.fullmatch(self.recipe)):
            raise OptionError("Invalid fast (got True). Supported: only with the recipes resize:N and square:N")
        if self.encoding.restart_rows and self.recipe == COPY:
            raise OptionError(
                "Invalid restart_rows (got True). Supported: with any recipe except copy, which keeps JPEGs unchanged"
            )

    def _hold(self, name: str, value: object) -> None:
        """Put a plain value in the place of one that is like it."""
        object.__setattr__(self, name, value)

    @property
    def folder(self) -> Path:
        """OUT/SPLIT."""
        return self.out / self.selection.split

    def rejects_allowed(self, rows: int) -> int:
        """How many rejects are allowed of so many planned rows."""
        if re.fullmatch(r"[0-9]+", self.max_rejects):
            return int(self.max_rejects)
        share = _share(self.max_rejects)
        if share is None:
            supported = "an integer, a share such as 0.01, or a percentage such as 1%"
            arguments.refuse("max_rejects", self.max_rejects, supported)
        return max(LEAST_OF_SHARE, int(rows * share)) if share else 0

    def shaping(self, columns: Columns, plan: Plan) -> dict[str, Any]:
        """The options that shape bytes, beside recipe and seed: what the manifest says and a resume must repeat."""
        # Not named where they are not asked for: sets made before they were known can go on.
        later = ({"fast": True} if self.fast else {}) | self.encoding.more
        later |= {"container": self.container} if self.container != DEFAULT else {}
        return later | {
            "image_column": columns.image,
            "label_column": columns.label,
            "keep": list(self.selection.keep),
            **self.encoding.always,
            "samples_per_shard": plan.samples_per_shard,
            "samples_per_task": plan.samples_per_task,
            "shuffle": self.shuffle,
            "limit": self.limit,
        }

    @property
    def settings(self) -> Settings:
        """What the recipe is made with."""
        return Settings(
            encoding=self.encoding,
            fast=self.fast,
            seed=self.seed,
            batch_size=self.batch_size,
            version=self.recipe_version,
            keep=self.selection.keep,
        )


def _share(text: str) -> Decimal | None:
    """The share that a text means; None if it means none. Not as a float: 29% of 100 rows would be 28."""
    percentage = _PERCENTAGE.fullmatch(text)
    if percentage is None:
        return Decimal(text) if _SHARE.fullmatch(text) else None
    share = Decimal(percentage[1]) / 100
    return share if share <= 1 else None


def make_spec(source: str | os.PathLike[str], out: str | os.PathLike[str], **options: Unpack[ConvertOptions]) -> Spec:
    """A Spec of options as they are given: `workers` None means one for each core that this process may use.

    Raises:
        OptionError: for a wrong value.
        SourceError: if a file with the class list cannot be read.
    """
    source, out = arguments.path("source", source), arguments.path("out", out)
    if _URL.match(out):
        raise OptionError(f"Invalid out (got {out!r}). Supported: a folder on this machine, not an address")
    workers = options.get("workers")
    given: dict[str, Any] = {
        **options,
        "source": source,
        # Absolute, because the workers of a cluster have other working directories.
        "out": Path(out).expanduser().absolute(),
        "keep": _names(options.get("keep")),
        "classes": _class_list(options.get("classes")),
        "max_rejects": str(options.get("max_rejects", MAX_REJECTS)),
        "workers": max(1, int(machine.cores())) if workers is None else workers,
    }
    selection, encoding = _taken(given, Selection), _taken(given, Encoding)
    return Spec(selection=Selection(**selection), encoding=Encoding(**encoding), **given)


def _taken(given: dict[str, Any], part: type[Selection | Encoding]) -> dict[str, Any]:
    """The options that are fields of one part of a Spec, taken out of all that are given."""
    return {field.name: given.pop(field.name) for field in fields(part) if field.name in given}


def _names(keep: str | Sequence[str] | None) -> tuple[str, ...]:
    """The columns to keep, each once: with commas between, or several such texts."""
    listed = [keep] if isinstance(keep, str) else () if keep is None else keep
    if not isinstance(listed, Sequence):
        arguments.refuse("keep", keep, "column names")
    given = [arguments.text("keep", text, "column names") for text in listed]
    return tuple(dict.fromkeys(name for text in given for name in text.split(",") if name))


def _class_list(given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The classes that the user named: with commas between, or a line each in a file.

    Raises:
        OptionError: if it is no list, or has a name twice.
        SourceError: if the file cannot be read.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        names = tuple(given) if isinstance(given, Sequence) else (given,)
        for name in names:
            arguments.text("classes", name, "class names")
    elif os.path.isfile(given):
        try:
            names = tuple(Path(given).read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"the class list {given} cannot be read: {error}. Write one name per line, as UTF-8"
            ) from error
    else:
        names = tuple(given.split(","))
        if len(names) < 2:
            raise OptionError(
                f"Invalid classes (got {given!r}). Supported: an existing file, or at least two names separated by "
                "commas"
            )
    if not names or not all(names) or len(set(names)) < len(names):
        raise OptionError(
            f"Invalid classes (got {reprlib.repr(names)}). Supported: one or more different names, none of them empty"
        )
    return names
