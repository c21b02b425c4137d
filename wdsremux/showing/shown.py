"""What `wdsremux preview` shows of a split: some of its images, and counts over all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wdsremux.format import manifest, rejects, samples
from wdsremux.inspection.info import ClassCount, describe
from wdsremux.loading.augment import Augment
from wdsremux.loading.draws import Drawn, draws

EPOCHS = 4  #: in which each sample is shown as it would be trained on


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown."""

    title: str
    names: list[str]  #: the class of each sample shown
    drawn: Drawn
    classes: list[ClassCount]  #: the most frequent first
    longer_sides: NDArray[np.int64]  #: of all images, in pixels
    file_bytes: NDArray[np.int64]  #: of all images
    reasons: list[tuple[str, int]]  #: of rejects, the most frequent first


def gather(out: Path, split: str, count: int, augment: Augment, size: int) -> Shown:
    """Read it.

    Args:
        out: the folder of a converted set.
        split: which split of it.
        count: samples to show, spread over the split; all of a smaller one.
        augment: what is drawn for each.
        size: pixels a side of the augmented images.

    Raises:
        FormatError: if there is no finished split, or a file of it is missing or damaged.
    """
    found = manifest.read(out / split)
    told = describe(out, found)
    table = samples.read(out / split / samples.NAME)
    ids = np.unique(np.linspace(0, found.nsamples - 1, min(count, found.nsamples)).round().astype(np.int64))
    drawn = draws(out / split, ids, augment, size, range(EPOCHS))
    by_label = {each.label: each for each in told.labels}
    sides = np.maximum(table["width"], table["height"]).astype(np.int64)
    recipe = f"{found.recipe['name']}, quality {found.options['quality']}"
    return Shown(
        title=f"{out.name}/{split}: {found.nsamples:,} samples, {recipe}",
        names=[_name(by_label[label]) for label in drawn.labels.tolist()],
        drawn=drawn,
        classes=sorted((each for each in told.labels if each.label >= 0), key=lambda each: -each.samples),
        longer_sides=sides,
        file_bytes=table["size"].astype(np.int64),
        reasons=_reasons(out / split / manifest.REJECTS),
    )


def _name(of: ClassCount) -> str:
    if of.label < 0:
        return "no label"
    return f"class {of.label}" if of.name is None else of.name


def _reasons(path: Path) -> list[tuple[str, int]]:
    """Reasons by their first words: what follows a colon is of one image."""
    counts: Counter[str] = Counter()
    with path.open("rb") as file:
        for line in file:
            said = rejects.loads(line)
            counts["a line that cannot be read" if said is None else said.reason.partition(":")[0]] += 1
    return counts.most_common()
