"""A folder on this machine, found in one walk over it: which files are data, of which kind, in which split.

`datasets` looks a folder through some forty times for names of splits: 100,000 files take it a minute. It also takes
names of pictures for names of splits, and passes over what it does not know in silence. It is asked only where a
dataset card says more of the data than names do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wdsremux.conversion.source.base import Opened, Untaken
from wdsremux.conversion.source.file_kinds import (
    DATA,
    IMAGES,
    METADATA,
    OTHERS,
    ZIPS,
    data_kind_of,
    extension_of,
    kind_of,
)
from wdsremux.conversion.source.finding import splits, tree
from wdsremux.errors import SourceError, printable

_SAYS_MORE = re.compile(rb"^(configs|dataset_info):", re.MULTILINE)  #: a dataset card that describes the data


def find(source: str, folder: Path, split: str) -> Opened | None:
    """The split of a folder; None if it holds no data of ours, or its dataset card says where the data is.

    Raises:
        SourceError: if it has no such split, or it cannot be told what its files are.
    """
    folder, name = snapshot(source, folder.resolve())
    if any(_SAYS_MORE.search(_head(folder / card)) for card in tree.CARDS):
        return None
    found = tree.walk(str(folder))
    kinds = _by_kind(found.files)
    data = [kind for kind in DATA if kinds[kind]]
    if len(data) > 1:
        raise _several(source, kinds, data)
    if data:
        opened = _data_files(str(folder), name, split, data[0], kinds)
    elif kinds[IMAGES] or kinds[ZIPS]:
        opened = _pictures(source, str(folder), name, split, kinds)
    else:
        return None
    _check(opened, source)
    return replace(opened, untaken=joined(found.untaken, opened.untaken))


def snapshot(source: str, folder: Path) -> tuple[Path, str]:
    """The folder that holds the files, and its name: of a data set in the Hub's cache, its only snapshot.

    Raises:
        SourceError: if there are several: each holds all of the data.
    """
    commits = folder / "snapshots"
    if not commits.is_dir() or not ((folder / "refs").is_dir() or (folder / "blobs").is_dir()):
        return folder, folder.name
    found = sorted(path for path in commits.iterdir() if path.is_dir())
    if len(found) > 1:
        raise SourceError(
            f"{source} is a folder of the Hub cache with {len(found)} snapshots of one data set: "
            f"{', '.join(path.name for path in found)}. Give one of them, such as {source}/snapshots/{found[0].name}"
        )
    name = folder.name.removeprefix("datasets--").replace("--", "/", 1)
    return (found[0], name) if found else (folder, folder.name)


def joined(*parts: Untaken) -> Untaken:
    """Names of files that are not taken, from several places, by the reason."""
    reasons = dict.fromkeys(reason for part in parts for reason in part)
    return {reason: tuple(sorted(name for part in parts for name in part.get(reason, ()))) for reason in reasons}


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(2**20)


def _by_kind(files: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Files by what their names say they are."""
    kinds: dict[str, list[str]] = {kind: [] for kind in (IMAGES, METADATA, *DATA, ZIPS, OTHERS)}
    for file in files:
        kinds[kind_of(file)].append(file)
    tables = {file: kind for file in kinds[METADATA] if (kind := data_kind_of(file)) is not None}
    if tables:  # they are data like any other, where there are no pictures for them to describe
        above = {folder for file in kinds[IMAGES] + kinds[ZIPS] for folder in _above(splits.parent(file))}
        data = {file: kind for file, kind in tables.items() if splits.parent(file) not in above}
        kinds[METADATA] = [file for file in kinds[METADATA] if file not in data]
        for file, kind in data.items():
            kinds[kind] = sorted([*kinds[kind], file])
    return kinds


def _above(folder: str) -> Iterable[str]:
    """A folder and all above it."""
    while folder:
        yield folder
        folder = splits.parent(folder)
    yield ""


def _several(source: str, kinds: Mapping[str, Sequence[str]], data: Sequence[str]) -> SourceError:
    counts = [f"{len(kinds[kind])} {DATA[kind].files} (such as {printable(kinds[kind][0])})" for kind in data]
    return SourceError(
        f"{source} contains data of several kinds: {' and '.join(counts)}. "
        f"Give the folder of one of them, or a glob such as '{source}/**/*{extension_of(kinds[data[0]][0])}'"
    )


def _data_files(root: str, name: str, split: str, kind: str, kinds: Mapping[str, Sequence[str]]) -> Opened:
    division = splits.by_words(kinds[kind])
    untaken = {
        f"images beside {DATA[kind].files}": kinds[IMAGES],
        f"zip files beside {DATA[kind].files}": kinds[ZIPS],
        tree.OTHER: sorted([*kinds[METADATA], *kinds[OTHERS]]),
        **division.left,
    }
    return Opened(kind, name, root, split, _placed(root, division.splits), division.how, untaken=_named(untaken))


def _pictures(source: str, root: str, name: str, split: str, kinds: Mapping[str, Sequence[str]]) -> Opened:
    """Pictures, with the metadata and zip files of their split: it is divided by folders, whatever lies in them."""
    data = sorted([*kinds[IMAGES], *kinds[ZIPS]])
    folders = splits.split_folders(map(splits.parent, data), source)
    division = splits.by_folders(sorted([*data, *kinds[METADATA]]), folders)
    others = splits.by_folders(kinds[OTHERS], folders)
    found = _placed(root, division.splits)
    beside = _placed(root, others.splits).get(split, ())
    untaken = {**division.left, tree.OTHER: others.left.get(splits.BESIDE, ())}
    by = "folders" if folders else ""
    return Opened(IMAGES, name, root, split, found, division.how, by, beside=beside, untaken=_named(untaken))


def _placed(root: str, found: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {split: tuple(f"{root}/{file}" for file in files) for split, files in found.items()}


def _named(untaken: Untaken) -> Untaken:
    return {reason: tuple(map(tree.decodable, names)) for reason, names in untaken.items() if names}


def _check(opened: Opened, source: str) -> None:
    """
    Raises:
        SourceError: if there is no such split, or a file of it has a name that Arrow cannot hold.
    """
    if opened.split not in opened.splits:
        raise splits.no_such_split(source, opened.split, opened.splits, opened.how)
    if not tree.is_utf8("".join(opened.files)):
        odd = next(name for name in opened.names if not tree.is_utf8(name))
        raise SourceError(f"the name of {printable(odd)} in {source} is not UTF-8. Rename it")
