"""What every recipe must keep to, whether it came with the package or is a user's function."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wdsremux
from tests.support.rows import as_json, picture, rows
from wdsremux import codec
from wdsremux.codec import Encoding
from wdsremux.conversion.recipes.base import Recipe, Reject, Sample, Settings
from wdsremux.conversion.recipes.decorator import IMAGES, images_asked
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.recipes.names import BUILT_IN
from wdsremux.conversion.source import Fault
from wdsremux.format.samples import NO_LABEL

DATA = Path(__file__).parents[1] / "data"
GOLDEN: dict[str, str] = json.loads((DATA / "recipe_hashes.json").read_text())


def halve(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "img": [image.resize((6, 5)) for image in batch["img"]]}


@wdsremux.recipe(images="tensor")
def darken(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "img": [image // 2 for image in batch["img"]]}


#: At least one of each form in which a recipe can be named.
RECIPES: dict[str, str | Callable[..., Any]] = {
    "copy": "copy",
    "resize": "resize:8",
    "square": "square:8",
    "file": f"{DATA / 'golden_recipes.py'}:plain",
    "function": halve,
    "tensors": darken,
}


@pytest.fixture(params=RECIPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(name: str, **settings: Any) -> Recipe:
    return make_recipe(RECIPES[name], Settings(**settings))


def test_the_suite_knows_every_built_in_recipe() -> None:
    """And every form in which a user's recipe can ask for its pictures."""
    known = {recipe.partition(":")[0] for recipe in RECIPES.values() if isinstance(recipe, str)}
    assert set(re.findall(r"[a-z]{4,}", BUILT_IN.pattern)) <= known
    assert {images_asked(recipe) for recipe in RECIPES.values() if callable(recipe)} == set(IMAGES)


def test_every_row_is_a_sample_or_a_reject_in_order(name: str) -> None:
    given = rows([picture(10), b"no image", None, picture(40), picture(50)], [3, 4, 5, None, 7], first=100)
    items = made(name).bake(given)
    assert [(item.row, type(item)) for item in items] == [
        (100, Sample),
        (101, Reject),
        (102, Reject),
        (103, Sample),
        (104, Sample),
    ]
    assert [item.label for item in items if isinstance(item, Sample)] == [3, NO_LABEL, 7]
    for item in items:
        if isinstance(item, Reject):
            assert (item.where, item.column) == (f"{item.row}.jpg", "img")
            assert item.reason == ("no image: null" if item.row == 102 else "not an image of any known format")


def test_a_sample_is_a_jpeg_of_the_size_it_states(name: str) -> None:
    for item in made(name).bake(rows([picture(10), picture(90, height=20)])):
        assert isinstance(item, Sample)
        pixels = codec.decode(item.image.data)
        assert pixels.shape == (item.image.height, item.image.width, 3)
        assert item.part == 0


def test_a_row_at_fault_is_a_reject_with_the_reason_of_its_source(name: str) -> None:
    given = replace(rows([picture(10), picture(20)]), faults={1: Fault("caption", "text that is not UTF-8")})
    _, reject = made(name).bake(given)
    assert isinstance(reject, Reject)
    assert (reject.row, reject.column, reject.reason) == (1, "caption", "text that is not UTF-8")


def test_nothing_but_rows_at_fault(name: str) -> None:
    items = made(name).bake(rows([None, b""]))
    assert all(isinstance(item, Reject) for item in items)
    assert [item.row for item in items] == [0, 1]


def test_columns_that_are_kept_go_along(name: str) -> None:
    given = rows([picture(10), picture(20)], kept={"id": [7, 8], "tags": [["a", None], None]})
    items = made(name, keep=("id", "tags")).bake(given)
    contents = [as_json(item) for item in items if isinstance(item, Sample)]
    assert contents == [b'{"id":7,"tags":["a",null]}', b'{"id":8,"tags":null}']


def test_a_recipe_that_has_travelled_makes_the_same(name: str) -> None:
    given = rows([picture(10 * i) for i in range(5)])
    recipe = made(name)
    travelled: Recipe = pickle.loads(pickle.dumps(recipe))
    assert travelled.bake(given) == recipe.bake(given) == recipe.bake(given)
    assert travelled.identity == recipe.identity
    assert travelled.batch_size == recipe.batch_size > 0


def test_how_its_jpegs_are_encoded_is_not_part_of_its_identity(name: str) -> None:
    """It stands in the options."""
    fine = made(name, encoding=Encoding(quality=50, subsampling="444"))
    assert fine.identity == made(name).identity


def test_encoding_is_used_where_pixels_are_encoded(name: str) -> None:
    noise = codec.encode(np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8), Encoding(quality=95)).data
    best, worst = (
        len(item.image.data)
        for quality in (95, 10)
        for item in made(name, encoding=Encoding(quality=quality)).bake(rows([noise]))
        if isinstance(item, Sample)
    )
    assert worst == best if name == "copy" else worst < best


def test_identities_are_plain_and_tell_recipes_apart() -> None:
    identities = [made(name).identity for name in RECIPES]
    assert json.loads(json.dumps(identities)) == identities
    assert len({identity["sha256"] for identity in identities}) == len(RECIPES)


@pytest.mark.parametrize("named", GOLDEN)
def test_hashes_are_those_of_ever(named: str) -> None:
    """A conversion begun by an earlier version goes on only where they are; golden_recipes.py says what they cover."""
    recipe, _, version = named.partition(" version ")
    given = f"{DATA}/{recipe}" if ".py:" in recipe else recipe
    assert make_recipe(given, Settings(version=version or None)).identity["sha256"] == GOLDEN[named]
