"""What the user asks of a conversion: one frozen object, checked once, passed whole."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from wdsremux.codec import SUBSAMPLINGS
from wdsremux.conversion.engines import ENGINES
from wdsremux.conversion.recipe import make_recipe
from wdsremux.errors import OptionError

_SPLIT = re.compile(r"\w+(\.\w+)*")  # what `datasets` allows as a split's name; it stands in file names
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The options of `wdsremux convert`, under the names they have there.

    Raises:
        OptionError: when made with a value that no source could make right.
    """

    source: str
    out: Path
    split: str = "train"
    image_column: str | None = None
    label_column: str | None = None
    recipe: str = "resize:256"
    quality: int = 90
    subsampling: str = "420"
    samples_per_shard: int | None = None
    samples_per_task: int | None = None
    seed: int = 0
    workers: int = 1
    engine: str = "local"
    max_rejects: str = "1%"  #: a share of the planned rows, or a number

    def __post_init__(self) -> None:
        if not _SPLIT.fullmatch(self.split):
            raise OptionError(f"Invalid split (got {self.split!r}). Letters, digits, underscores and single dots only")
        if not 1 <= self.quality <= 100:
            raise OptionError(f"Invalid quality (got {self.quality}). Supported: 1 to 100")
        if self.subsampling not in SUBSAMPLINGS:
            raise OptionError(f"Invalid subsampling (got {self.subsampling!r}). Supported: {', '.join(SUBSAMPLINGS)}")
        if self.engine not in ENGINES:
            raise OptionError(f"Invalid engine (got {self.engine!r}). Supported: {', '.join(ENGINES)}")
        for name in ("samples_per_shard", "samples_per_task", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"Invalid {name} (got {value}). Supported: 1 or more")
        self.rejects_allowed(0)
        make_recipe(self.recipe, self.quality, self.subsampling)

    @property
    def folder(self) -> Path:
        """OUT/SPLIT."""
        return self.out / self.split

    def rejects_allowed(self, rows: int) -> int:
        """How many rejects are allowed of so many planned rows."""
        share = _SHARE.fullmatch(self.max_rejects)
        if share is not None and float(share[1]) <= 100:
            return int(rows * float(share[1]) / 100)
        if self.max_rejects.isdecimal():
            return int(self.max_rejects)
        raise OptionError(f"Invalid max_rejects (got {self.max_rejects!r}). Supported: a number, or a share such as 1%")

    def shaping(self, samples_per_shard: int, samples_per_task: int) -> dict[str, Any]:
        """The options that shape bytes, beside recipe and seed: what the manifest says and a resume must repeat."""
        return {
            "image_column": self.image_column,
            "label_column": self.label_column,
            "quality": self.quality,
            "subsampling": self.subsampling,
            "samples_per_shard": samples_per_shard,
            "samples_per_task": samples_per_task,
        }


def make_spec(source: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> Spec:
    """A Spec of loose arguments; `workers` None means one for each core that this process may use.

    Raises:
        OptionError: for an option that does not exist, or a wrong value.
    """
    known = {field.name for field in fields(Spec)}
    for name in options:
        if name not in known:
            raise OptionError(f"Invalid option {name!r}. Supported: {', '.join(sorted(known - {'source', 'out'}))}")
    if options.get("workers") is None:
        options["workers"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Spec(source=os.fspath(source), out=Path(out), **options)
