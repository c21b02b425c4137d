"""Stacks of transforms that people have already: each becomes a recipe with three lines, as the README says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import SCRIPTS, jpeg
from tests.support.rows import rows
from wdsremux.conversion.recipes.base import Sample, Settings
from wdsremux.conversion.recipes.making import make_recipe

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network for its latest version at import

STACKS = {
    "torchvision": """
from torchvision.transforms import v2
stack = v2.Compose([v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.ColorJitter(0.2, 0.2)])

def bake(batch):
    images = [stack(image) for image in batch["img"]]
    return {"img": images}
""",
    "torchvision on tensors": """
import torch, wdsremux
from torchvision.transforms import v2
stack = v2.Compose([v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])

@wdsremux.recipe(images="tensor")
def bake(batch):
    return {"img": [stack(image) for image in batch["img"]]}
""",
    "pillow": """
import random
from PIL import ImageEnhance, ImageOps
def stack(image):
    image = ImageOps.fit(image, (32, 32))
    image = ImageOps.mirror(image) if random.random() < 0.5 else image
    return ImageEnhance.Brightness(image).enhance(random.uniform(0.8, 1.2))

def bake(batch):
    images = [stack(image) for image in batch["img"]]
    return {"img": images}
""",
    "albumentations": """
import albumentations as A, numpy as np
stack = A.Compose([A.RandomCrop(32, 32), A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(p=1)])

def seeded(image, rng):
    stack.set_random_seed(int(rng.integers(2**32)))
    return stack(image=np.asarray(image))["image"]

def bake(batch):
    return {"img": [seeded(image, rng) for image, rng in zip(batch["img"], batch["__rng__"])]}
""",
}
PICTURES = [
    jpeg(np.random.default_rng(i).integers(0, 256, (12, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1)) for i in range(6)
]


def bake(recipe: str | Callable[..., Any], **settings: Any) -> list[Sample]:
    items = make_recipe(recipe, Settings(**settings)).bake(rows(PICTURES))
    samples = [item for item in items if isinstance(item, Sample)]
    assert len(samples) == len(PICTURES)
    return samples


@pytest.mark.filterwarnings("ignore")  # of the libraries' own
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_becomes_a_recipe(tmp_path: Path, name: str) -> None:
    """The same pictures at each run, others for every row with another seed, and a hash without a version."""
    pytest.importorskip(name.split()[0].replace("pillow", "PIL"))
    path = tmp_path / "recipe.py"
    path.write_text(STACKS[name])
    first, again, other = (bake(f"{path}:bake", seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert all(one.image.data != two.image.data for one, two in zip(first, other, strict=True))
    assert {(sample.image.width, sample.image.height) for sample in first} == {(32, 32)}


def test_the_forum_recipe(tmp_path: Path) -> None:
    """Its pictures are square, and drawn by row: in any batch, with any seed of the process."""
    text = (SCRIPTS / "forum_recipe.py").read_text()
    path = tmp_path / "recipe.py"
    path.write_text(text.replace('"image"', '"img"'))
    samples = bake(f"{path}:bake")
    assert {(sample.image.width, sample.image.height) for sample in samples} == {(256, 256)}
    made = make_recipe(f"{path}:bake", Settings())
    later = made.bake(rows(PICTURES[3:], first=3))
    assert later == samples[3:]
    assert not {sample.image.data for sample in samples} & {
        sample.image.data for sample in bake(f"{path}:bake", seed=1)
    }
