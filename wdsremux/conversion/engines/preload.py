"""What the fork server loads: the libraries that workers bake with, so that all of them share one copy.

The garbage collector rests meanwhile, which is a tenth quicker. Then all that was loaded is taken out of its sight: a
full collection in a worker writes to the header of every object it visits, and so would copy 54 MB of the shared pages.

Arrow takes its memory from the C heap, unless the user said otherwise: its own allocator keeps 20 MB a worker of what
parquet needed for large photographs, beside what the heap keeps of the decoded ones.
"""

from __future__ import annotations

import gc
import importlib
import os

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # read once, when pyarrow is loaded
gc.disable()
for _name in (
    "torch",
    "webdataset",
    "wdsremux.conversion.engines.local_worker",
    "wdsremux.conversion.source.opening",
    "wdsremux.conversion.recipes.builtin",
):
    importlib.import_module(_name)
gc.freeze()
gc.enable()
