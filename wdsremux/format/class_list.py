"""The class list of a converted set: which name each label has, the same in all of its splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wdsremux.errors import FormatError
from wdsremux.format import manifest
from wdsremux.format.manifest import Manifest


def is_labelled(split: Manifest) -> bool:
    """Whether samples of a split may have labels."""
    return split.options.get("label_column") is not None


def agreed(splits: Sequence[Manifest]) -> list[str] | None:
    """The names that all splits with labels have; None where there are none, or the splits do not agree."""
    lists = [split.classes for split in splits if is_labelled(split)]
    return lists[0] if lists and all(names == lists[0] for names in lists) else None


def disagreement(splits: Sequence[Manifest]) -> str | None:
    """What to say of splits that number their classes differently, as 0.1.0 left them; None where they agree."""
    labelled = [split for split in splits if is_labelled(split)]
    if all(split.classes == labelled[0].classes for split in labelled):
        return None
    return (
        f"the splits {', '.join(split.split for split in labelled)} number their classes differently, so the same "
        "label means different classes. Convert them again with --overwrite"
    )


def disagreement_with(split: Manifest, out: Path) -> str | None:
    """Likewise, of one split and the others that lie beside it. A manifest that cannot be read says nothing here."""
    found = [split]
    for path in sorted(out.glob(f"*/{manifest.NAME}")):
        if path.parent.name != split.split:
            try:
                found.append(manifest.read(path.parent))
            except FormatError:  # told to whoever opens that split
                continue
    return disagreement(sorted(found, key=lambda each: each.split))
