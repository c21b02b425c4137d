"""Convert an image data set once into WebDataset shards, and train without a CPU bottleneck.

    wdsremux.convert(source, out)              convert a source into shards
    wdsremux.DataLoader(out, batch_size=256)   use in place of torch.utils.data.DataLoader
    wdsremux.manifest(out)                     read what a converted split contains
    wdsremux.verify(out)                       check that its files are undamaged
    wdsremux.plan(source)                      estimate what a conversion would cost, before it is begun
    wdsremux.preview(out)                      show what a converted split contains, in one image
    @wdsremux.recipe(images="tensor")          decorate a recipe of your own that needs tensors

Results: Manifest, Damage, Forecast, Preview, Stats.
Events: Planned, Progress, Noted, Warned, Finished (an Event is any of them).
Errors: WdsremuxError is the base class of all errors.

The import is fast: torch, DALI and datasets are loaded when they are first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wdsremux.api import convert, manifest, preview, verify
    from wdsremux.conversion.events import Event, Finished, Noted, Planned, Progress, Warned
    from wdsremux.conversion.recipes.decorator import recipe
    from wdsremux.errors import ConversionWarning, WdsremuxError
    from wdsremux.forecast.report import Forecast
    from wdsremux.format.manifest import Manifest
    from wdsremux.inspection.verify import Damage
    from wdsremux.loading.augment import Augment
    from wdsremux.loading.loader import DataLoader
    from wdsremux.loading.stats import Stats
    from wdsremux.planning import plan
    from wdsremux.showing.png import Preview

__version__ = "0.2.0"
logging.getLogger("wdsremux").addHandler(logging.NullHandler())  # whoever wants to hear adds another
__all__ = [
    "Augment",
    "ConversionWarning",
    "Damage",
    "DataLoader",
    "Event",
    "Finished",
    "Forecast",
    "Manifest",
    "Noted",
    "Planned",
    "Preview",
    "Progress",
    "Stats",
    "Warned",
    "WdsremuxError",
    "__version__",
    "convert",
    "manifest",
    "plan",
    "preview",
    "recipe",
    "verify",
]

_EVENTS = ("Event", "Finished", "Noted", "Planned", "Progress", "Warned")
_HOMES = {
    "convert": "wdsremux.api",
    "manifest": "wdsremux.api",
    "plan": "wdsremux.planning",
    "preview": "wdsremux.api",
    "verify": "wdsremux.api",
    "recipe": "wdsremux.conversion.recipes.decorator",
    **dict.fromkeys(_EVENTS, "wdsremux.conversion.events"),
    "Augment": "wdsremux.loading.augment",
    "DataLoader": "wdsremux.loading.loader",
    "Stats": "wdsremux.loading.stats",
    "Manifest": "wdsremux.format.manifest",
    "Forecast": "wdsremux.forecast.report",
    "Damage": "wdsremux.inspection.verify",
    "Preview": "wdsremux.showing.png",
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
