"""What the folders that files lie in say of them: classes, as torchvision's ImageFolder and `datasets` have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def class_names(folders: Iterable[str]) -> Mapping[str, str | None] | None:
    """The class that each folder of pictures stands for; None if they stand for none.

    The class is the folder right under the split: cat/left/1.jpg is a cat, at whatever depth the picture lies. What
    all pictures have above them (photos/images/cat, photos/images/dog) is no class but a place. A single folder tells
    nothing apart, so it is none either. Pictures beside class folders have no class.

    Args:
        folders: those that hold pictures, of all splits, relative to the split: "" or "cat" or "cat/left".

    Returns:
        A name for each folder, None for those that lie above the classes.
    """
    parts = {folder: folder.split("/") if folder else [] for folder in folders}
    depth = 0
    while parts and all(len(names) > depth for names in parts.values()):
        if len({names[depth] for names in parts.values()}) > 1:
            break
        depth += 1
    found = {folder: names[depth] if len(names) > depth else None for folder, names in parts.items()}
    return found if len({name for name in found.values() if name is not None}) > 1 else None
