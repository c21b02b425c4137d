"""One task at a time, baked in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.reading import read_tar
from tests.support.sources import open_source
from wdsremux.conversion.bake import Bakery, bake
from wdsremux.conversion.events import Progress
from wdsremux.conversion.plan import Extent, Plan, make_plan
from wdsremux.conversion.recipes.base import Settings
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.record import Record, journal_names
from wdsremux.conversion.row_stream import RowStream
from wdsremux.conversion.source import Source
from wdsremux.format import keys


class Kitchen:
    """A source, its plan, and a folder to bake into; in this process."""

    def __init__(self, source: Path | Source, out: Path, seed: int = 0, **options: Any) -> None:
        opened = open_source(str(source), "train") if isinstance(source, Path) else source
        extents = [Extent(fragment.rows, fragment.size_bytes) for fragment in opened.fragments]
        self.plan: Plan = make_plan(extents, seed, **options)
        self.folder, self.work = out / "train", out / "train" / ".wdsremux"
        self.work.mkdir(parents=True)
        self.bakery = Bakery(
            source=opened.stored(self.work),
            recipe=make_recipe("copy", Settings()),
            folder=self.folder,
            work=self.work,
            split="train",
            seed=seed,
            environment={},
            shuffle=bool(options.get("shuffle", True)),
        )
        self.progress: list[Progress] = []

    def bake(self, number: int = 0) -> Record:
        bake(self.plan.tasks[number], self.bakery, self.progress.append, RowStream())
        return Record.loads(journal_names(self.work, number)[1].read_bytes())

    def rows(self, number: int) -> list[int]:
        """The row numbers in a shard, in its order."""
        return [keys.place(key)[1] for key in read_tar(self.folder / f"train-{number:06d}.tar")]
