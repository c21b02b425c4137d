"""Sources of which a single task is all, and conversions of them: what several workers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from tests.conftest import WriteSource, tiny_jpeg

ROWS = 600
BROKEN = frozenset({0, 77, 200, 263, 599})  #: rows without a picture
RECIPE = """
import random

def bake(batch):
    images, labels, rows, words = [], [], [], []
    for place, (image, label) in enumerate(zip(batch["image"], batch["label"])):
        for part in range(label % 3):  # rows are dropped, and made several of
            shade = (random.randrange(256), int(batch["__rng__"][place].integers(256)), len(batch["image"]))
            images.append(image.resize((8 + part, 8)))
            images[-1].paste(shade, (0, 0, 4, 4))
            labels.append(label if label % 50 else -7)  # a label that is unknown is a reject
            rows.append(place)
            words.append(f"{label} of {len(batch['image'])}")
    return {"image": images, "label": labels, "__row__": rows, "word": words}
"""


@dataclass(frozen=True)
class Case:
    """A source and the options of its conversion."""

    rows_a_group: int = ROWS
    files: bool = False  #: whether its pictures are files in a folder
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""  #: source text of one of the user's

    def write(self, write_source: WriteSource, folder: Path) -> tuple[Path, dict[str, Any]]:
        """The source, and how it is converted."""
        images = [b"" if i in BROKEN else tiny_jpeg(i) for i in range(ROWS)]
        options = {"recipe": "copy", "max_rejects": 100, "samples_per_shard": 50} | dict(self.options)
        if self.recipe:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "shared_recipe.py").write_text(self.recipe)
            options["recipe"] = f"{folder / 'shared_recipe.py'}:bake"
        if self.files:
            for number, image in enumerate(images):
                path = folder / "pictures" / f"class-{number % 5}" / f"{number:04d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image)
            return folder / "pictures", options
        columns = {"word": (datasets.Value("string"), [f"word {i}" for i in range(ROWS)])}
        return write_source(images, range(ROWS), rows_a_group=self.rows_a_group, columns=columns), options


def case(rows_a_group: int = ROWS, *, files: bool = False, recipe: str = "", **options: Any) -> Case:
    return Case(rows_a_group, files, options, recipe)


CASES: Mapping[str, Case] = {
    "a folder": case(files=True),
    "a folder in its order": case(files=True, shuffle=False),
    "small fragments": case(50, keep="word"),
    "odd fragments": case(37, container="parquet"),
    "one row group": case(container="parquet", keep="word"),
    "blocks": case(samples_per_task=200),
    "blocks in parquet": case(samples_per_task=130, container="parquet", keep="word", shuffle=False),
    "a limit": case(samples_per_task=200, limit=470),
    "a recipe": case(recipe=RECIPE, batch_size=20, keep="word"),
    "a recipe and blocks": case(recipe=RECIPE, batch_size=30, samples_per_task=200, keep="word", container="parquet"),
    "a recipe and fragments": case(75, recipe=RECIPE, batch_size=20),
    "a batch larger than a block": case(recipe=RECIPE, batch_size=150, samples_per_task=100),
}
