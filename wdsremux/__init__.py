"""Convert an image data set once into WebDataset shards; train from them with decode and augmentation off the loop.

    wdsremux.convert(source, out)              stream a source into shards
    wdsremux.DataLoader(out, batch_size=256)   in place of torch.utils.data.DataLoader
    wdsremux.manifest(out)                     what a converted split holds
    wdsremux.verify(out)                       whether it still does
    @wdsremux.recipe(images="tensor")          for a recipe of your own that wants tensors

Importing this package is light: torch, DALI and datasets load when first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wdsremux.api import convert, manifest, verify
    from wdsremux.conversion.recipes.decorator import recipe
    from wdsremux.loading.augment import Augment
    from wdsremux.loading.loader import DataLoader

__version__ = "0.2.0"
logging.getLogger("wdsremux").addHandler(logging.NullHandler())  # whoever wants to hear adds another
__all__ = ["Augment", "DataLoader", "__version__", "convert", "manifest", "recipe", "verify"]

_HOMES = {
    "convert": "wdsremux.api",
    "manifest": "wdsremux.api",
    "verify": "wdsremux.api",
    "recipe": "wdsremux.conversion.recipes.decorator",
    "Augment": "wdsremux.loading.augment",
    "DataLoader": "wdsremux.loading.loader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
