"""Convert an image data set once into WebDataset shards; train from them with decode and augmentation off the loop.

    wdsremux.convert(source, out)              stream a source into shards
    wdsremux.DataLoader(out, batch_size=256)   in place of torch.utils.data.DataLoader
    wdsremux.manifest(out)                     what a converted split holds
    wdsremux.verify(out)                       whether it still does
    @wdsremux.recipe(images="tensor")          for a recipe of your own that wants tensors

What these give back and tell: Manifest, Damage, Stats; Planned, Progress, Noted, Warned, Finished (an Event is one of
them); WdsremuxError, the base class of all errors.

Importing this package is light: torch, DALI and datasets load when first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wdsremux.api import convert, manifest, verify
    from wdsremux.conversion.events import Event, Finished, Noted, Planned, Progress, Warned
    from wdsremux.conversion.recipes.decorator import recipe
    from wdsremux.errors import ConversionWarning, WdsremuxError
    from wdsremux.format.manifest import Manifest
    from wdsremux.inspection.verify import Damage
    from wdsremux.loading.augment import Augment
    from wdsremux.loading.loader import DataLoader
    from wdsremux.loading.stats import Stats

__version__ = "0.2.0"
logging.getLogger("wdsremux").addHandler(logging.NullHandler())  # whoever wants to hear adds another
__all__ = [
    "Augment",
    "ConversionWarning",
    "Damage",
    "DataLoader",
    "Event",
    "Finished",
    "Manifest",
    "Noted",
    "Planned",
    "Progress",
    "Stats",
    "Warned",
    "WdsremuxError",
    "__version__",
    "convert",
    "manifest",
    "recipe",
    "verify",
]

_EVENTS = ("Event", "Finished", "Noted", "Planned", "Progress", "Warned")
_HOMES = {
    "convert": "wdsremux.api",
    "manifest": "wdsremux.api",
    "verify": "wdsremux.api",
    "recipe": "wdsremux.conversion.recipes.decorator",
    **dict.fromkeys(_EVENTS, "wdsremux.conversion.events"),
    "Augment": "wdsremux.loading.augment",
    "DataLoader": "wdsremux.loading.loader",
    "Stats": "wdsremux.loading.stats",
    "Manifest": "wdsremux.format.manifest",
    "Damage": "wdsremux.inspection.verify",
    "ConversionWarning": "wdsremux.errors",
    "WdsremuxError": "wdsremux.errors",
}

if not TYPE_CHECKING:  # a checker that saw it would take any name for one of this package

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
