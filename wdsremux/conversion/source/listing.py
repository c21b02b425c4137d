"""A folder of images on this machine, found in one pass over it.

`datasets` looks a folder through some forty times for names of splits: 100,000 files take it a minute. Plain layouts
are told here; where names leave a doubt, it is left to `datasets`.

    FOLDER/cat/1.jpg  FOLDER/1.jpg  FOLDER/metadata.csv          one split, "train"
    FOLDER/train/cat/1.jpg  FOLDER/test/1.jpg  FOLDER/val/…      a folder a split
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from datasets.data_files import DataFilesDict, DataFilesList
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from wdsremux.conversion.source.builder import Opened
from wdsremux.errors import SourceError

_SPLITS = {  #: by the names that `datasets` takes for them
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {name: split for split, names in _SPLITS.items() for name in names}
_DOUBT = re.compile(rf"(?:^|[-._ 0-9/])(?:{'|'.join(_SPLIT_OF)})(?:[-._ 0-9/]|$)")  #: a word of a path that is one
_SAYS_MORE = re.compile(rb"^(configs|dataset_info):", re.MULTILINE)  #: a dataset card that describes the data
_CARDS = ("README.md", ".huggingface.yaml")
_IGNORED = {"config.json", "dataset_info.json", "dataset_infos.json", *_CARDS}
EXTENSIONS = frozenset(ImageFolder.EXTENSIONS)


def find(source: str, split: str) -> Opened | None:
    """The images of a folder; None where it is none, or takes a closer look.

    Raises:
        SourceError: if it has no such split.
    """
    folder = Path(source)
    if not folder.is_dir() or any(_SAYS_MORE.search(_head(folder / card)) for card in _CARDS):
        return None
    root = str(folder.resolve())
    splits = _splits(root, sorted(_files(root)))
    if splits is None:
        return None
    if split not in splits:
        raise SourceError(f"{source} has no split {split!r}. Its splits: {', '.join(splits)}")
    builder = ImageFolder(data_files=DataFilesDict({name: DataFilesList(found, []) for name, found in splits.items()}))
    return Opened(builder, os.path.basename(root), root, tuple(splits[split]))


def is_image(file: str) -> bool:
    """Whether `datasets` would take it for one, by its name."""
    return os.path.splitext(file)[1].lower() in EXTENSIONS


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(2**20)


def _files(folder: str) -> Iterator[str]:
    """All files at any depth, but for hidden ones and those in folders named __…__, which `datasets` leaves out too."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("__"):
                    yield from _files(entry.path)
            elif entry.is_file() and entry.name not in _IGNORED:
                yield entry.path


def _splits(root: str, files: list[str]) -> dict[str, list[str]] | None:
    """Images and their metadata, by split; None if most files are something else, or in doubt."""
    chosen = [file for file in files if is_image(file) or os.path.basename(file) in ImageFolder.METADATA_FILENAMES]
    images = sum(map(is_image, chosen))
    others = len(files) - len(chosen)
    if images == 0 or images <= others or any(file.endswith(".zip") for file in files):
        return None
    names = [file[len(root) + 1 :] for file in chosen]
    if not any(map(_DOUBT.search, names)):
        return {"train": chosen}
    splits: dict[str, list[str]] = {split: [] for split in _SPLITS}
    folders: dict[str, str] = {}
    for file, name in zip(chosen, names, strict=True):
        folder, _, rest = name.partition("/")
        split = _SPLIT_OF.get(folder)
        if split is None or folders.setdefault(split, folder) != folder or _DOUBT.search(os.path.dirname(rest)):
            return None
        splits[split].append(file)
    return {split: found for split, found in splits.items() if found}
