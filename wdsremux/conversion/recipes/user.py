"""A recipe of the user's: a function of a batch of rows, in the shape of `Dataset.map(batched=True)`.

    rows ── batch.make_batch ──> dict[str, list] ── the function ──> dict[str, list] ── result.read ──> samples, rejects

`lookup` finds the function, `fingerprint` names what it does, `shipping` brings it to the workers. A transform of
torchvision is one, too, called by `per_picture`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wdsremux.conversion.recipes import lookup, per_picture, shipping
from wdsremux.conversion.recipes import result as results
from wdsremux.conversion.recipes.base import Reject, Sample, Settings
from wdsremux.conversion.recipes.batch import make_batch, seed_globals
from wdsremux.conversion.recipes.decorator import images_asked
from wdsremux.conversion.recipes.fingerprint import fingerprint
from wdsremux.conversion.source import Rows
from wdsremux.errors import RecipeError


@dataclass(frozen=True, slots=True)
class UserRecipe:
    """A function of the user's, and what it is called with. Any number of samples a row, out of a whole batch."""

    name: str
    sha256: str
    images: str  #: a member of `decorator.IMAGES`
    settings: Settings
    folder: str | None  #: where its imports at a call may lie
    per_picture: bool  #: whether it is no function of a batch but a transform of a picture
    payload: bytes = field(repr=False)  #: the function, pickled

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": self.sha256, "batch_size": self.batch_size, "images": self.images}

    @property
    def batch_size(self) -> int:
        return self.settings.batch_size

    def bake(self, rows: Rows) -> list[Sample | Reject]:
        """
        Raises:
            RecipeError: if the function cannot be loaded here, raised, or returned what is no batch.
        """
        batch = make_batch(rows, self.images, self.settings.seed)
        if not batch.places:
            return list(batch.rejects)
        function = shipping.loads(self.payload, self.name, self.folder)
        seed_globals(self.settings.seed, rows.fragment, rows.first)
        place = f"rows {rows.first} to {rows.first + len(rows) - 1} of fragment {rows.fragment}"
        try:
            with lookup.importable(self.folder):
                if self.per_picture:
                    returned = per_picture.apply(function, batch, self.settings.seed)
                else:
                    returned = function(batch.columns)
        except (Exception, SystemExit) as error:  # whatever the user's code raises
            raise lookup.failure(f"recipe {self.name} failed on {place}", error) from error
        try:
            return results.read(returned, batch, self.settings)
        except RecipeError as error:
            raise RecipeError(f"recipe {self.name}, given {place}, returned {error}") from None


def make(recipe: str | Callable[..., Any], settings: Settings) -> UserRecipe:
    """The recipe of a name or a function.

    Raises:
        OptionError: if it is neither, or nothing stable tells what it does.
        RecipeError: if it cannot be loaded, or not be sent to workers.
    """
    found = lookup.find(recipe)
    if is_transform := per_picture.is_transform(found.function):
        found = per_picture.with_inner_homes(found)
    payload = shipping.dumps(found)
    return UserRecipe(
        name=found.name,
        sha256=fingerprint(found, settings.version),
        images=images_asked(found.function),
        settings=settings,
        folder=found.folder,
        per_picture=is_transform,
        payload=payload,
    )
