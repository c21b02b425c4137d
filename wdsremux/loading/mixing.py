"""Does a window of shards hold a fair sample of the set? What is known of that before training."""

from __future__ import annotations

import numpy as np

from wdsremux.loading.order import ALL, Order
from wdsremux.loading.reader.split import Split

_LOOKS = 64  #: shards of which the source is looked up: one page of the table each


def mixing_warning(split: Split, order: Order) -> str | None:
    """A sentence for a set whose order is still that of its source where an epoch is shuffled by windows of shards.

    Sources are often sorted by class, and then a window holds few of them. Cheap whatever the set's size.
    """
    shards = len(order.counts)
    if not order.shuffle or order.window == ALL or int(order.window) >= shards:
        return None
    where = f"a window of {order.window} of the {shards} shards of {split.folder} may hold few classes"
    if split.manifest.options.get("shuffle") is False:
        return f'{where}: it was converted with --no-shuffle. Choose window="all", or convert it without that'
    if _one_fragment(split):
        return (
            f"{where}: its source was one large file, of which only neighbouring rows share a shard. "
            'Choose window="all", or shuffle the source before it is converted'
        )
    return None


def _one_fragment(split: Split) -> bool:
    """Whether all samples come of one fragment; shards of several mix them, so a few samples tell."""
    firsts = split.firsts[:-1]
    looked = split.table["fragment"][firsts[:: -(-len(firsts) // _LOOKS)]]
    return bool(np.all(looked == split.table["fragment"][-1]))
