"""What is known of a split before training that would spoil it, or may: badly mixed shards, samples without a label."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from wdsremux.errors import OptionError
from wdsremux.format.class_list import disagreement_with
from wdsremux.format.samples import NO_LABEL
from wdsremux.loading.order import ALL, Order
from wdsremux.loading.reader import Reader
from wdsremux.loading.reader.split import CHECKED_BYTES, Split

_LOOKS = 64  #: shards of which the source is looked up: one page of the table each


def check_fields(reader: Reader, fields: Collection[str]) -> None:
    """See that the split has what is asked for: the samples' JSON, and the shards that images and JSON lie in.

    Raises:
        OptionError: if it has no JSON.
        FormatError: if a shard is missing.
    """
    if "json" in fields and not reader.has_json:
        raise OptionError(
            f'{reader.folder} has no columns for the field "json". Convert it with keep=[…] (--keep COLUMNS)'
        )
    if not {"image", "json"}.isdisjoint(fields):
        reader.check_present()


def cautions(split: Split, order: Order, out: Path, labels: bool) -> Iterator[str]:
    """A sentence for each thing to know of a split before a training, though it can be read.

    Args:
        split: what is trained on.
        order: how.
        out: the set, whose other splits may number classes otherwise.
        labels: whether labels are asked for.
    """
    found = [mixing_warning(split, order)]
    if labels:
        found += [disagreement_with(split.manifest, out), unlabelled_warning(split)]
    yield from filter(None, found)


def mixing_warning(split: Split, order: Order) -> str | None:
    """A sentence for a set whose order is still that of its source where an epoch is shuffled by windows of shards.

    Sources are often sorted by class, and then a window holds few of them. Cheap whatever the set's size.
    """
    shards = len(order.counts)
    if not order.shuffle or order.window == ALL or int(order.window) >= shards:
        return None
    window = f"a window of {order.window} of its {shards} shards may contain only a few classes"
    if split.manifest.options.get("shuffle") is False:
        return (
            f"{split.folder} was converted without shuffling, so {window}. "
            'Choose window="all", or convert it again with shuffling'
        )
    if _one_fragment(split):
        return (
            f"{split.folder} was converted from one large file, whose order is kept, so {window}. "
            'Choose window="all", or shuffle the source before you convert it'
        )
    return None


def unlabelled_warning(split: Split) -> str | None:
    """A sentence for a set of which some samples have labels, and some have none.

    Looked for in tables that are read as a whole when they are opened, not in larger ones.
    """
    if split.table.nbytes > CHECKED_BYTES:
        return None
    count = int(np.count_nonzero(split.table["label"] == NO_LABEL))
    if not 0 < count < len(split.table):
        return None
    return (
        f"{split.folder} has samples without a label ({count:,} of {len(split.table):,}). Their label is {NO_LABEL}, "
        f"which torch's cross_entropy does not accept. Pass ignore_index={NO_LABEL} to it, or "
        "convert only rows with a label"
    )


def _one_fragment(split: Split) -> bool:
    """Whether all samples come of one fragment; shards of several mix them, so a few samples tell."""
    firsts = split.firsts[:-1]
    looked = split.table["fragment"][firsts[:: -(-len(firsts) // _LOOKS)]]
    return bool(np.all(looked == split.table["fragment"][-1]))
