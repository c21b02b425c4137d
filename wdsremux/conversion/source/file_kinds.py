"""The kinds of source, one row each, and what a file's name says that it is.

A new kind is a row of KINDS and a module under kinds/ that keeps to the Protocol `SourceKind`.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import cast

from datasets import DatasetBuilder
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from wdsremux.conversion.source.base import SourceKind

_ROOM = "wdsremux.conversion.source.kinds"
METADATA_NAMES = frozenset(ImageFolder.METADATA_FILENAMES)
IMAGES, METADATA, ZIPS, OTHERS = "images", "metadata", "zips", "others"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source."""

    name: str  #: as the manifest says it
    module: str  #: a `SourceKind`, imported at use
    files: str  #: what its files are called
    extensions: tuple[str, ...]  #: of its files, in lower case
    packaged: str  #: the module of `datasets` that reads such files
    are_images: bool = False  #: whether a file is one image; else it holds many
    by_row: bool = False  #: whether a row is read without those before it in its fragment

    def built(self, builder: DatasetBuilder) -> bool:
        """Whether it is what a builder of `datasets` reads."""
        module = f"datasets.packaged_modules.{self.packaged}.{self.packaged}"
        return any(class_.__module__ == module for class_ in type(builder).__mro__)


_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
KINDS = {
    kind.name: kind
    for kind in (
        Kind("parquet", f"{_ROOM}.parquet", "parquet files", (".parquet",), "parquet"),
        Kind("arrow", f"{_ROOM}.arrow", "Arrow files", (".arrow",), "arrow", by_row=True),
        Kind("tars", f"{_ROOM}.tars", "tars", _TARS, "webdataset"),
        Kind(
            IMAGES,
            f"{_ROOM}.images",
            "images",
            tuple(ImageFolder.EXTENSIONS),
            "imagefolder",
            are_images=True,
            by_row=True,
        ),
    )
}
DATA = {kind.name: kind for kind in KINDS.values() if not kind.are_images}  #: those of one file for many images
_EXTENSIONS = frozenset(KINDS[IMAGES].extensions)


def source_kind(name: str) -> SourceKind:
    """What reads a kind of source, by its name in the table."""
    return cast(SourceKind, importlib.import_module(KINDS[name].module))


def is_image(file: str) -> bool:
    """Whether `datasets` would take it for one."""
    return os.path.splitext(file)[1].lower() in _EXTENSIONS


def kind_of(file: str) -> str:
    """The name of a kind; or "metadata", "zips" (both of images) or "others"."""
    name = file.rpartition("/")[2]
    if is_image(name):
        return IMAGES
    if name in METADATA_NAMES:
        return METADATA
    return data_kind_of(name) or (ZIPS if os.path.splitext(name)[1].lower() == ".zip" else OTHERS)


def data_kind_of(name: str) -> str | None:
    """The name of the kind of which one file holds many images, by a file's extension; None if of none."""
    lower = name.lstrip(".").lower()
    return next((kind.name for kind in DATA.values() if lower.endswith(kind.extensions)), None)


def owner(file: str) -> Kind | None:
    """The kind of which a file is part: of images, what describes or packs them is, too. None if of none."""
    kind = kind_of(file)
    return KINDS.get(IMAGES if kind in (METADATA, ZIPS) else kind)


def extension_of(file: str) -> str:
    """All of it: ".tar.gz", where it is known."""
    known = sorted((ending for kind in DATA.values() for ending in kind.extensions), key=len)
    return next((ending for ending in reversed(known) if file.endswith(ending)), os.path.splitext(file)[1])
