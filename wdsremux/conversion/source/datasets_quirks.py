"""Every switch of the `datasets` library that is flipped here, and flipped back: it belongs to the caller, too."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

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


@contextlib.contextmanager
def one_try() -> Iterator[None]:
    """Streams try once: 20 tries, with 23 s of tries of the Hub's client in each, would outlast any --patience."""
    known = datasets.config.STREAMING_READ_MAX_RETRIES
    datasets.config.STREAMING_READ_MAX_RETRIES = 1
    try:
        yield
    finally:
        datasets.config.STREAMING_READ_MAX_RETRIES = known
