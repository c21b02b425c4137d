"""What a source takes of this machine: the cache folder of `datasets`, memory, and when files were last written to."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator

import datasets

from wdsremux.errors import SourceError


def check_cache() -> None:
    """See that `datasets` can have its cache folder, which it makes even where it has nothing to put there.

    Raises:
        SourceError: if it cannot.
    """
    cache = datasets.config.HF_DATASETS_CACHE
    try:
        os.makedirs(cache, exist_ok=True)
        if not os.access(cache, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise SourceError(
            f"{cache}, where `datasets` keeps its cache, cannot be written to: {error.strerror}. "
            "Set HF_HOME to a folder that can be"
        ) from error


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """Streams of `datasets` are made without loading torch, which would take a second and 280 MB to know their columns.

    It makes them children of torch's class, for those who hand them to its loader. Where torch is loaded already they
    become that as ever.
    """
    known = datasets.config.TORCH_AVAILABLE
    datasets.config.TORCH_AVAILABLE = known and "torch" in sys.modules
    try:
        yield
    finally:
        datasets.config.TORCH_AVAILABLE = known


def stamp(files: Iterable[str]) -> str:
    """SHA-256 over the times at which files were last written to: it tells a change that leaves their sizes alone."""
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(os.stat(file).st_mtime_ns.to_bytes(16, "little", signed=True))
        except OSError:  # it is gone, and reading it will tell; or it lies inside a zip
            digest.update(b"-")
    return digest.hexdigest()
