"""Names of folders and files -> splits.

    pictures        a folder is a split by its whole name, where all folders beside it are splits too; names of
                    pictures never decide: test_1.jpg may be anything
    data files      a word of a file's or folder's name decides, as in `datasets`

Capitals make no difference: ImageNet's copies say Train and TRAIN as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from wdsremux.errors import SourceError, printable

SPLITS = {  #: by the names that `datasets` takes for them
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
NONE_NAMED = "no split is named"
BESIDE = "outside the folders of splits"
UNNAMED = "without a split name, although other files have one"
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_WORD = re.compile(rf"(?:^|(?<=[-._ 0-9]))(?:{'|'.join(_SPLIT_OF)})(?=[-._ 0-9]|$)", re.IGNORECASE)
_SHARD = re.compile(r"data/(?P<split>[^/]+)-[0-9]{5}-of-[0-9]{5}[^/]*\.[^/]*")  #: as push_to_hub names its files
_SPLIT = re.compile(r"\w+(\.\w+)*")  #: what `datasets` takes for a split's name
_SHOWN = 5  #: names of folders in an error

_Node: TypeAlias = "dict[str, _Node]"  #: folders that hold pictures at any depth, by name


@dataclass(frozen=True, slots=True)
class Division:
    """Files by their splits."""

    splits: Mapping[str, tuple[str, ...]]
    how: str
    left: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: what is in no split, by the reason


def no_such_split(source: str, split: str, splits: Iterable[str], how: str) -> SourceError:
    """The error for a split that a source has not."""
    told = f" ({how})" if how == NONE_NAMED else f" (from {how})"
    return SourceError(f"{source} has no split {split!r}. Its splits{told}: {', '.join(sorted(splits)) or 'none'}")


def is_split(name: str) -> bool:
    """Whether a folder of that name may be a split."""
    return name.lower() in _SPLIT_OF


def split_folders(folders: Iterable[str], source: str) -> Mapping[str, str]:
    """Which folders of pictures are splits: {"data/Train": "train"}; empty if none is.

    They may lie at any depth: below folders that stand alone (ILSVRC/Data/CLS-LOC/train), or below each class
    (cat/train, cat/test, dog/train). Of two that lie in each other the outer one counts.

    Args:
        folders: those that hold pictures, relative to the source: "" or "train/cat".
        source: named in errors.

    Raises:
        SourceError: if some folders are splits and it cannot be told what those beside them are.
    """
    tree: _Node = {}
    for folder in set(folders):
        node = tree
        for part in filter(None, folder.split("/")):
            node = node.setdefault(part, {})
    try:
        return _below(tree, "", source)
    except RecursionError as error:
        raise SourceError(f"{source} has thousands of nested folders. Give one of the inner folders") from error


def _below(node: _Node, place: str, source: str) -> dict[str, str]:
    named = {name: split for name in node if (split := _SPLIT_OF.get(name.lower()))}
    if len(named) == len(node):
        return {place + name: split for name, split in named.items()}
    if len(set(named.values())) > 1:
        others = _listed([place + name for name in sorted(node.keys() - named.keys())])
        raise _doubt(source, sorted(place + name for name in named), f"beside other folders with images ({others})")
    inner = {name: _below(child, f"{place}{name}/", source) for name, child in node.items()}
    found = {folder: split for below in inner.values() for folder, split in below.items()}
    without = sorted(name for name, below in inner.items() if not below)
    if without and set(found.values()) - {"train"}:
        others = _listed([place + name for name in without])
        raise _doubt(source, sorted(found), f"in some folders but not in others ({others})")
    return {} if without else found  # where only some classes have a folder train, all is train just the same


def _doubt(source: str, folders: Sequence[str], others: str) -> SourceError:
    return SourceError(
        f"{source} has folders named like splits ({_listed(folders)}) {others}, so the split of each image is "
        f"unclear. Give one folder, such as {printable(f'{source}/{folders[0]}')}, or a glob"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return printable(", ".join(names[:_SHOWN])) + more


def by_folders(files: Sequence[str], folders: Mapping[str, str]) -> Division:
    """Divide files by the folders that are splits, as `split_folders` found them."""
    if not folders:
        return Division({"train": tuple(files)}, NONE_NAMED)
    cut = {folder: _split_of(folder, folders) for folder in set(map(parent, files))}
    division = _divided(files, lambda file: cut[parent(file)], BESIDE)
    names = {folder.rpartition("/")[2]: split for folder, split in folders.items()}
    order = list(SPLITS)
    shown = sorted(names, key=lambda name: (order.index(names[name]), name))
    return Division(division.splits, f"the folder{'s' if len(shown) > 1 else ''} {_and(shown)}", division.left)


def _split_of(folder: str, folders: Mapping[str, str]) -> str | None:
    while folder:
        if folder in folders:
            return folders[folder]
        folder = parent(folder)
    return None


def parent(file: str) -> str:
    return file.rpartition("/")[0]


def _and(names: Sequence[str]) -> str:
    return printable(" and ".join(filter(None, [", ".join(names[:-1]), names[-1]])))


def _divided(files: Sequence[str], split_of: Callable[[str], str | None], reason: str) -> Division:
    found: dict[str, list[str]] = {}
    left = []
    for file in files:
        split = split_of(file)
        if split is None:
            left.append(file)
        else:
            found.setdefault(split, []).append(file)
    order = [*(split for split in SPLITS if split in found), *sorted(found.keys() - SPLITS.keys())]
    return Division({split: tuple(found[split]) for split in order}, "", {reason: tuple(left)} if left else {})


def by_words(files: Sequence[str]) -> Division:
    """Divide data files by words of their names, each file once: `datasets` lists train/train_0/1.parquet twice.

    Like `datasets`, the first of these that names any split: shards (data/SPLIT-00000-of-00001.parquet, of any name),
    folders, files. A name with words of two splits names none.

    Raises:
        SourceError: if a shard's name holds what cannot be the name of a split.
    """
    rules: tuple[tuple[Callable[[str], str | None], str], ...] = (
        (_of_shard, "the names of shards"),
        (_of_folders, "words in folder names"),
        (_of_file, "words in file names"),
    )
    for split_of, how in rules:
        division = _divided(files, split_of, UNNAMED)
        if division.splits:
            return Division(division.splits, how, division.left)
    return Division({"train": tuple(files)}, NONE_NAMED)


def _of_shard(file: str) -> str | None:
    match = _SHARD.fullmatch(file)
    if match is None:
        return None
    split = match["split"]
    if not _SPLIT.fullmatch(split):
        raise SourceError(
            f"{printable(file)} is named like a shard of a split {printable(split)!r}, but split names consist of "
            "letters, digits and underscores. Rename it, or give a glob"
        )
    return split.lower() if split.lower() in _SPLIT_OF else split


def _of_folders(file: str) -> str | None:
    """By the outermost folder whose name has the word of a split."""
    return next((split for part in file.split("/")[:-1] if (split := _of_word(part))), None)


def _of_file(file: str) -> str | None:
    return _of_word(file.rpartition("/")[2])


def _of_word(name: str) -> str | None:
    found = {_SPLIT_OF[word.lower()] for word in _WORD.findall(name)}
    return found.pop() if len(found) == 1 else None


def without_split(folder: str, split: str, whole: bool) -> str:
    """A folder without the outermost part that names its split: cat/train/left -> cat/left.

    Args:
        folder: relative to the source.
        split: that its files are in.
        whole: whether only a whole name counts; else a word of it, as in `datasets`.
    """
    parts = folder.split("/")
    of = (lambda part: _SPLIT_OF.get(part.lower())) if whole else _of_word
    place = next((place for place, part in enumerate(parts) if split in (of(part), part)), None)
    return folder if place is None else "/".join(parts[:place] + parts[place + 1 :])
