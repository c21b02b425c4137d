"""What the fork server loads: the libraries that workers bake with, so that all of them share one copy.

The garbage collector rests meanwhile, which is a tenth quicker. Then all that was loaded is taken out of its sight: a
full collection in a worker writes to the header of every object it visits, and so would copy 54 MB of the shared pages.
"""

from __future__ import annotations

import gc
import importlib

gc.disable()
for _name in (
    "torch",
    "webdataset",
    "wdsremux.conversion.engines.local",
    "wdsremux.conversion.source.opening",
    "wdsremux.conversion.recipes.builtin",
):
    importlib.import_module(_name)
gc.freeze()
gc.enable()
