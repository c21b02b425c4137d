"""The recipe that a name or a function means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wdsremux.conversion.recipes.base import Recipe, Settings
from wdsremux.conversion.recipes.names import BUILT_IN, USERS
from wdsremux.errors import OptionError


def check_name(recipe: object) -> None:
    """Refuse what cannot name a recipe, without a look at any file.

    Raises:
        OptionError: if it is neither a built-in recipe nor FILE.py:FUNC nor pkg.mod:FUNC.
    """
    if callable(recipe):
        return
    if not isinstance(recipe, str) or not (BUILT_IN.fullmatch(recipe) or USERS.fullmatch(recipe)):
        raise OptionError(
            f"Invalid recipe (got {recipe!r}). Supported: resize:N, square:N (N in pixels), copy, "
            "FILE.py:FUNC, package.module:FUNC and, from Python, a function"
        )


def make_recipe(recipe: str | Callable[..., Any], settings: Settings) -> Recipe:
    """The recipe that a name or a function means.

    Args:
        recipe: `resize:N` (short side N pixels, the picture kept whole), `square:N` (the largest square from the
            middle, N x N pixels), `copy` (the source's own bytes, where every decoder takes them), `FILE.py:FUNC`,
            `package.module:FUNC`, or a function that maps a batch of rows to a batch of rows.
        settings: what it is made with.

    Raises:
        OptionError: if there is no such recipe, or its identity cannot be told.
        RecipeError: if the user's file or function cannot be loaded.
    """
    check_name(recipe)
    if isinstance(recipe, str) and BUILT_IN.fullmatch(recipe):
        from wdsremux.conversion.recipes import builtin

        return builtin.make(recipe, settings)
    from wdsremux.conversion.recipes import user  # which loads torch, and that a process that only plans does without

    return user.make(recipe, settings)
