"""What a file's name says that it is."""

from __future__ import annotations

import os

from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

EXTENSIONS = frozenset(ImageFolder.EXTENSIONS)  #: of pictures, in lower case
METADATA = frozenset(ImageFolder.METADATA_FILENAMES)
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_OTHERS = {".parquet": "parquet", ".arrow": "arrow", ".zip": "zips"}


def is_image(file: str) -> bool:
    """Whether `datasets` would take it for one."""
    return os.path.splitext(file)[1].lower() in EXTENSIONS


def kind_of(file: str) -> str:
    """One of "images", "metadata", "parquet", "arrow", "tars", "zips" or "others"."""
    name = file.rpartition("/")[2]
    if is_image(name):
        return "images"
    if name in METADATA:
        return "metadata"
    return "tars" if name.lower().endswith(TARS) else _OTHERS.get(os.path.splitext(name)[1].lower(), "others")
