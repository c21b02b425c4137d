"""What of a source is converted: one frozen value, checked once, passed whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wdsremux import arguments
from wdsremux.errors import OptionError

PATIENCE_S = 600.0
_SPLIT = re.compile(r"\w+(\.\w+)*")  # what `datasets` allows as a split's name; it stands in file names


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The options that say what to read, under the names they have on the command line.

    Raises:
        OptionError: when made with a value that no source could make right.
    """

    source: str  #: a Hub id, a folder, a file, or a glob
    split: str = "train"
    config: str | None = None  #: of a data set that has several
    revision: str | None = None  #: of a Hub id: branch, tag or commit; None: the main branch
    image_column: str | None = None  #: None: the only one of that kind
    label_column: str | None = None  #: None: the one that looks like it; "none": no labels
    classes: tuple[str, ...] | None = None  #: names by number, where the source's own are not to hold
    keep: tuple[str, ...] = ()  #: further columns, for the samples' JSON
    patience: float = PATIENCE_S  #: in seconds: how long faults of the network are met with another try

    def __post_init__(self) -> None:
        for name in ("config", "revision", "image_column", "label_column"):
            if getattr(self, name) is not None:
                arguments.text(name, getattr(self, name))
        for column in self.keep:
            arguments.text("keep", column, "column names")
        if not _SPLIT.fullmatch(arguments.text("split", self.split)):
            limit = ". To convert a part of a split, use --limit" if "[" in self.split else ""
            raise OptionError(
                f"Invalid split (got {self.split!r}). Supported: letters, digits, underscores and single dots{limit}"
            )
        object.__setattr__(self, "patience", arguments.number("patience", self.patience, 0, " of seconds"))


@dataclass(frozen=True, slots=True)
class Settled:
    """What an earlier run of the same conversion has settled, and a later one keeps to."""

    commit: str | None = None  #: of the Hub, taken where no revision is asked for
    classes: tuple[str, ...] | None = None  #: the list of OUT, where the source cannot count its own
