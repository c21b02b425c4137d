"""The samples of a tar: from front to end, by offsets, or out of a stream, which cannot go back."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from wdsremux.conversion.source.base import Fault
from wdsremux.conversion.source.finding.splits import is_split
from wdsremux.conversion.source.kinds.class_folders import class_names
from wdsremux.conversion.source.kinds.tars import tar_fields
from wdsremux.conversion.source.kinds.tars.tar_fields import Value
from wdsremux.conversion.source.kinds.tars.tar_files import finish
from wdsremux.conversion.source.kinds.tars.tar_members import (
    TarIndex,
    TarMember,
    content_of,
    folder_of,
    members,
    no_content,
)
from wdsremux.errors import SourceError, printable

KEY, URL = "__key__", "__url__"  #: columns that `datasets` adds: the key of a sample, and the tar it lies in
FOLDER_LABEL = "label"  #: column with the class that a sample's folder stands for


@dataclass(frozen=True, slots=True)
class TarLayout:
    """Which fields make up the columns of a split. It travels to workers."""

    columns: Mapping[str, str]  #: the column of each field that was seen
    features: Mapping[str, Any]  #: of `datasets`, of each column but the computed ones
    classes: Mapping[str, str | None] | None  #: by folder, where folders tell them
    folders: frozenset[str] = frozenset()  #: in which the images of streams lie, as far as they were seen
    partial: bool = False  #: whether there are streams, of which only the first samples were seen
    first_dot: bool = False  #: whether keys of streams end at the first dot whatever follows
    strict: bool = False  #: whether a label that was not seen is an error: nobody said which label to take

    @property
    def computed(self) -> Collection[str]:
        """Columns that are no fields."""
        return (KEY, URL) if self.classes is None else (KEY, URL, FOLDER_LABEL)

    def column(self, field: str) -> str:
        """The column of a field, also of one that turns up late in a stream."""
        if (known := self.columns.get(field)) is not None or not tar_fields.is_image(field):
            return known or field
        stem = field.rpartition(".")[0]
        fit = {
            column
            for other, column in self.columns.items()
            if tar_fields.is_image(other) and other.rpartition(".")[0] == stem
        }
        return fit.pop() if len(fit) == 1 else field

    def feature(self, column: str) -> Any:
        return self.features.get(column) or tar_fields.feature(column)

    def text(self, column: str, key: str, tar: str) -> str | None:
        """The value of a computed column."""
        if column in (KEY, URL):
            return tar_fields.utf8(key if column == KEY else tar)
        folder, classes = folder_of(key), self.classes or {}
        if self.partial and folder not in classes:  # one that turned up late, and fits
            classes = class_names([*classes, folder]) or {}
        name = classes.get(folder)
        return None if name is None else tar_fields.utf8(name)


@dataclass(slots=True)
class TarSample:
    """A sample while its members come."""

    key: str
    values: dict[str, Value] = field(default_factory=dict)  #: by column; only of those that are read
    fields: dict[str, str] = field(default_factory=dict)  #: the field that each column has come from, read or not
    fault: Fault | None = None

    def add(self, field: str, column: str, content: Callable[[], bytes] | None, problem: str) -> None:
        """Take a member in, or note what is wrong with the sample.

        Args:
            field: of the member.
            column: that it belongs to.
            content: reads it; None if it has none that can be read, or none that is wanted.
            problem: why it cannot be read; empty if it is not wanted.
        """
        name = f"{self.key}.{field}"
        if (other := self.fields.get(column)) is not None:
            twice = f"{_shown(name)} comes twice in its sample"
            two = f"two images for one column: {_shown(self.key)}.{other} and {_shown(name)}"
            self._fail(column, twice if other == field else two)
            return
        self.fields[column] = field
        if content is not None:
            self.values[column] = Value(field, name, content())
        elif problem:
            self._fail(column, problem)

    def _fail(self, column: str, reason: str) -> None:
        self.fault = self.fault or Fault(column, reason)


def _shown(name: str) -> str:
    return printable(tar_fields.utf8(name))


def samples(
    tar: tarfile.TarFile, name: str, layout: TarLayout, wanted: Collection[str], stream: bool, indexed: bool
) -> Iterator[TarSample]:
    """All samples of a tar, with the values of the columns that are wanted.

    Args:
        tar: open at its beginning.
        name: of it, for errors.
        layout: of the split.
        wanted: columns.
        stream: whether it cannot go back.
        indexed: whether it has to: it is read by offsets.

    Raises:
        SourceError: if a stream holds what cannot be read as one, or what would have changed the columns.
    """
    if indexed:
        yield from _by_offsets(tar, layout, wanted)
        return
    guard = _Guard(name, layout, FOLDER_LABEL in wanted) if stream else None
    sample: TarSample | None = None
    for member in members(tar, first_dot=stream and layout.first_dot):
        if sample is None or member.key != sample.key:
            if sample is not None:
                yield sample
            sample = TarSample(member.key)
        if guard is not None:
            guard.check(member)
        column, info = layout.column(member.field), member.info
        if column not in wanted:
            sample.add(member.field, column, None, "")
        elif info.isreg():
            sample.add(member.field, column, partial(content_of, tar, info), "")
        else:
            sample.add(member.field, column, None, no_content(info, "which a tar read as a stream cannot follow"))
    if sample is not None:
        yield sample
    if stream:
        finish(tar, seekable=False)


def _by_offsets(tar: tarfile.TarFile, layout: TarLayout, wanted: Collection[str]) -> Iterator[TarSample]:
    index = TarIndex(tar)
    for key, places in index.samples.items():
        sample = TarSample(key)
        for place in places:
            column = layout.column(place.field)
            if column not in wanted or place.offset is None:
                sample.add(place.field, column, None, place.problem if column in wanted else "")
            else:
                sample.add(place.field, column, partial(index.content, place.offset), "")
        yield sample


class _Guard:
    """Notices in a stream what the look at its first samples could not tell."""

    def __init__(self, tar: str, layout: TarLayout, by_folder: bool) -> None:
        self._tar, self._layout, self._by_folder = tar, layout, by_folder
        self._key: str | None = None
        self._keys: set[str] = set()
        self._folders: set[str] = set()  #: in which members of this tar lie

    def check(self, member: TarMember) -> None:
        """
        Raises:
            SourceError: if a sample comes again, or a label or a folder turns up that would have been the label.
        """
        if member.key != self._key:
            if member.key in self._keys:
                raise SourceError(
                    f"{self._tar} cannot be read as a stream: the members of sample {_shown(member.key)} are not "
                    "next to each other. Download and unpack it, or pack it again in the order of the names"
                )
            self._key = member.key
            self._keys.add(member.key)
        if self._layout.strict and tar_fields.is_label(member.field):
            raise SourceError(
                f"{self._tar} has a label in {_shown(member.info.name)}, but the first samples have none. "
                f"Use --label-column {_shown(member.field)!r}, or --label-column none"
            )
        if tar_fields.is_image(member.field) and (folder := folder_of(member.key)) not in self._folders:
            self._folders.add(folder)
            check_splits(self._folders, self._tar)
            self._check_folder(folder)

    def _check_folder(self, folder: str) -> None:
        seen = self._layout.folders
        if folder in seen:
            return
        if (known := self._layout.classes) is not None:
            found = class_names([*known, folder]) or {}
            wrong = self._by_folder and any(found.get(each) != known[each] for each in known)
        else:
            wrong = self._layout.strict
        if wrong:
            shown = ", ".join(map(repr, sorted(seen)[:3]))
            raise SourceError(
                f"{self._tar} has images in the folder {folder!r}, but the first samples are in {shown}: a stream does "
                "not show whether folders are classes. Use --label-column none, or download and unpack it"
            )


def check_splits(folders: Iterable[str], tar: str) -> None:
    """
    Raises:
        SourceError: if the topmost folders that tell samples of a tar apart are splits.
    """
    parts = [folder.split("/") if folder else [] for folder in folders]
    for names in itertools.zip_longest(*parts):
        found = set(names)
        if len(found) == 1:
            continue
        named = sorted(name for name in found if name is not None and is_split(name))
        if len(named) == len(found):
            raise SourceError(
                f"{tar} contains several splits, in its folders {', '.join(named)}. Unpack it and convert the "
                "folder of each split"
            )
        return
