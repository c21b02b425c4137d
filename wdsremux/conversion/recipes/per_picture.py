"""A transform of torchvision as a recipe: applied to each picture, with the random stream of its row.

Called with a batch, it would take the dict for one sample, and draw once for all pictures of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from wdsremux.conversion.recipes import functions, lookup
from wdsremux.conversion.recipes.batch import RowBatch, seed_globals
from wdsremux.conversion.recipes.lookup import MAIN, Found

_LIBRARY = "torchvision.transforms."  #: both generations: v2 lies within it
_BOOKKEEPING = vars(torch.nn.Module()).keys() - {"training", "_parameters", "_buffers", "_modules"}  #: such as hooks


def is_transform(value: object) -> bool:
    """Whether it is a transform of a picture: torchvision's own, a subclass of one, or a Sequential of such.

    Told by the names of its classes, so that nothing has to be imported: whoever made one has torchvision loaded.
    """
    if isinstance(value, torch.nn.Sequential):
        return len(value) > 0 and all(map(is_transform, value))
    return callable(value) and any(kind.__module__.startswith(_LIBRARY) for kind in type(value).__mro__)


def apply(transform: Callable[[Any], Any], batch: RowBatch, seed: int) -> dict[str, list[Any]]:
    """The batch with each picture transformed.

    What is drawn depends on the seed and on the row alone, not on the rows around it.

    Args:
        transform: called with one picture; it draws from the global generators, as all of torchvision's do.
        batch: of rows.
        seed: of the conversion.
    """
    rows, made = batch.rows, []
    for place, picture in zip(batch.places, batch.columns[rows.image_column], strict=True):
        seed_globals(seed, rows.fragment, rows.first + place)
        made.append(transform(picture))
    return batch.columns | {rows.image_column: made}


def parameters(transform: object) -> dict[str, Any]:
    """All that a transform is made with: its repr leaves some out, such as the dtype of ToDtype."""
    return {name: value for name, value in functions.state(transform).items() if name not in _BOOKKEEPING}


def with_inner_homes(found: Found) -> Found:
    """A transform with the modules that code of the user's inside it comes from, such as the function of a Lambda."""
    inner = {name for name in _homes(found.function) if name == MAIN or not _is_installed(name)}
    folder = lookup.script_folder() if found.folder is None and MAIN in inner else found.folder
    return replace(found, homes=found.homes | inner, folder=folder)


def _is_installed(name: str) -> bool:
    """Whether a module is; one that is not loaded any more was read from the recipe's own file."""
    return name in sys.modules and lookup.installed(sys.modules[name])


def _homes(transform: object) -> set[str]:
    """The names of the modules of everything callable within a transform."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting = [transform]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif callable(value):
            found.add(lookup.home(value))
            if is_transform(value):
                waiting.append(parameters(value))
    return found
