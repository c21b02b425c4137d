"""A transform of torchvision as a recipe: each picture by itself, with random numbers of its own, in every run."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torchvision.transforms import v2

import wdsremux
from tests.conftest import WriteSource, jpeg
from tests.support.reading import digests, read_split
from tests.support.rows import as_json, rows
from wdsremux import codec
from wdsremux.conversion.recipes.base import Sample, Settings
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.recipes.per_picture import is_transform
from wdsremux.errors import OutputError, RecipeError

PICTURE = jpeg(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
SAME = [PICTURE] * 6
CROP = v2.RandomCrop(8)


def bake(transform: Callable[..., Any] | str, first: int = 0, **settings: Any) -> list[bytes]:
    """The same picture six times, baked as a worker would."""
    made = pickle.loads(pickle.dumps(make_recipe(transform, Settings(**settings))))
    items = made.bake(rows(SAME, first=first))
    assert all(isinstance(item, Sample) for item in items), items
    return [item.image.data for item in items]


def sha(transform: Callable[..., Any] | str) -> str:
    return str(make_recipe(transform, Settings()).identity["sha256"])


class Darker(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """A transform of the user's own."""

    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return inpt.point(lambda level: level // self.by)


class Doubler(torch.nn.Module):
    """A module that is a function of a batch, as any other recipe."""

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"img": batch["img"]}


TRANSFORMS: dict[str, Callable[[], Any]] = {
    "v2.Compose": lambda: v2.Compose([v2.RandomResizedCrop(16), v2.ColorJitter(0.4), v2.RandomHorizontalFlip()]),
    "to a tensor": lambda: v2.Compose([v2.ToImage(), v2.RandomCrop(8), v2.ToDtype(torch.float32, scale=True)]),
    "one transform": lambda: CROP,
    "a Sequential": lambda: torch.nn.Sequential(v2.RandomCrop(16), v2.RandomCrop(8)),
    "of the first generation": lambda: torchvision.transforms.Compose([torchvision.transforms.RandomCrop(8)]),
    "one of the first generation": lambda: torchvision.transforms.RandomCrop(8),
    "with own code": lambda: v2.Compose([Darker(2), v2.Lambda(lambda picture: picture.rotate(90)), v2.RandomCrop(8)]),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_picture_draws_by_itself(name: str) -> None:
    """Which depends on the seed and on its row: not on the batch that it is in, nor on what was drawn before."""
    transform = TRANSFORMS[name]()
    first = bake(transform)
    assert len(set(first)) > 3
    torch.manual_seed(5)
    assert bake(TRANSFORMS[name]()) == first
    assert bake(transform, first=2)[:4] == first[2:]
    assert bake(transform, seed=1) != first


def test_pictures_are_what_the_transform_returns() -> None:
    (pixels,) = {codec.decode(data).tobytes() for data in bake(v2.Compose([v2.Resize(8), Darker(255)]))}
    assert pixels == bytes(8 * 8 * 3)


def test_labels_and_kept_columns_go_along() -> None:
    made = make_recipe(v2.CenterCrop(8), Settings(keep=("text",)))
    items = made.bake(rows(SAME[:2], [7, None], kept={"text": ["a", "b"]}))
    assert [(item.label, as_json(item)) for item in items if isinstance(item, Sample)] == [
        (7, b'{"text":"a"}'),
        (-1, b'{"text":"b"}'),
    ]


def test_what_is_no_transform_of_a_picture() -> None:
    mixed = torch.nn.Sequential(CROP, torch.nn.ReLU())
    for value in (Doubler(), len, torch.nn.Sequential(), mixed, v2.RandomCrop, v2.InterpolationMode.BILINEAR, "x"):
        assert not is_transform(value)
    (pixels,) = {codec.decode(data).shape for data in bake(Doubler(), version="1")}  # which was given a batch
    assert pixels == (32, 32, 3)


def test_a_picture_out_of_range_is_refused() -> None:
    normalise = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.1] * 3)])
    with pytest.raises(
        RecipeError, match=r"returned for row 0 a float image with values from -\d\S* to \d\S*\. Supported: 0 to 1\."
    ):
        bake(normalise)


# What it is known by


def test_parameters_count() -> None:
    """Those too that no repr shows; and nothing else does."""
    made: list[Callable[[], Any]] = [
        lambda: v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
        lambda: v2.Compose([v2.ToImage(), v2.ToDtype(torch.float64, scale=True)]),
        lambda: v2.Compose([v2.RandomCrop(8)]),
        lambda: v2.Compose([v2.RandomCrop(9)]),
        lambda: v2.Compose([v2.RandomCrop(9), v2.RandomCrop(8)]),
        lambda: torch.nn.Sequential(v2.RandomCrop(9), v2.RandomCrop(8)),
        lambda: v2.RandomApply([v2.GaussianBlur(3)], p=0.5),
        lambda: v2.RandomApply([v2.GaussianBlur(5)], p=0.5),
        lambda: v2.RandAugment(),
        lambda: v2.RandAugment(fill=3),
        lambda: Darker(2),
        lambda: Darker(3),
    ]
    found = [sha(make()) for make in made]
    assert len(set(found)) == len(made)
    assert [sha(make()) for make in made] == found


def test_code_inside_counts(tmp_path: Path) -> None:
    file = tmp_path / "r.py"
    text = "from torchvision.transforms import v2\ndef f(image):\n    return image.rotate(90)\nbake = v2.Lambda(f)\n"
    file.write_text(text)
    first = sha(f"{file}:bake")
    assert sha(f"{file}:bake") == first
    pictures = bake(f"{file}:bake")
    file.write_text(text.replace("90", "180"))
    assert sha(f"{file}:bake") != first
    assert bake(f"{file}:bake") != pictures


def test_code_of_a_module_of_the_users_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is not installed where it is baked, and is no home of the Compose around it."""
    (tmp_path / "turns_of_mine.py").write_text("def turn(image):\n    return image.rotate(90)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import turns_of_mine  # type: ignore[import-not-found]

    made = make_recipe(v2.Compose([v2.Lambda(turns_of_mine.turn)]), Settings())
    monkeypatch.delitem(sys.modules, "turns_of_mine")
    monkeypatch.undo()
    assert len(made.bake(rows(SAME))) == 6


# A conversion


def test_a_conversion_is_taken_up_again(write_source: WriteSource, tmp_path: Path) -> None:
    """The pictures differ, the bytes are the same in a second run and in one that was cut short; others are refused."""
    source = write_source([PICTURE] * 40, range(40), rows_a_group=10)
    sizes: dict[str, Any] = {"samples_per_shard": 10, "samples_per_task": 20}

    def convert(out: str, crop: int = 8, workers: int = 1, batch_size: int = 64) -> dict[str, str]:
        recipe = v2.Compose([v2.RandomCrop(crop), v2.RandomHorizontalFlip()])
        more: dict[str, Any] = {"workers": workers, "batch_size": batch_size}
        wdsremux.convert(source, tmp_path / out, recipe=recipe, **sizes, **more)
        return digests(tmp_path / out)

    whole = convert("out")
    assert len({content["jpg"] for content in read_split(tmp_path / "out" / "train").values()}) > 30
    assert convert("again", workers=2) == whole
    (tmp_path / "again/train/index.json").unlink()
    (tmp_path / "again/train/.wdsremux/task-000001.json").unlink()
    assert convert("again") == whole
    tars = {name: digest for name, digest in whole.items() if name.endswith(".tar")}
    assert tars.items() <= convert("smaller", batch_size=7).items()
    (tmp_path / "again/train/index.json").unlink()
    with pytest.raises(OutputError, match=r"^the code of recipe Compose, .*, changed since the conversion in"):
        convert("again", crop=9)
