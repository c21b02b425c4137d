"""Every switch of `datasets` and of the Hub's client that is flipped here, and flipped back: they belong to the caller.

quiet              neither prints beside our own sentence and bar
without_torch      streams are made without loading torch
one_try            streams try once
tidied             files that streams leave open are closed
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Collection, Iterator
from typing import Any

from wdsremux.errors import SourceError

#: What workers find in their environment, and read when they import either library.
_QUIET = {"DATASETS_VERBOSITY": "critical", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_VERBOSITY": "error"}


def check_cache() -> None:
    """See that `datasets` can have its cache folder, which it makes even where it has nothing to put there.

    Raises:
        SourceError: if it cannot.
    """
    import datasets

    cache = datasets.config.HF_DATASETS_CACHE
    try:
        os.makedirs(cache, exist_ok=True)
        if not os.access(cache, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise SourceError(
            f"{cache}, the cache folder of `datasets`, cannot be written to: {error.strerror}. "
            "Set HF_HOME to a folder that is writable"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let neither library print, here and in workers that begin meanwhile; what the user has set, stays."""
    _load_bars()
    ours = {name: value for name, value in _QUIET.items() if name not in os.environ}
    with _silenced(ours) if "datasets" in sys.modules else _loaded_quiet(ours):
        os.environ.update(ours)
        try:
            yield
        finally:
            for name in ours:
                os.environ.pop(name, None)


def _load_bars() -> None:
    """In a notebook, load the bars of both libraries without the warning that ipywidgets is not there to draw them."""
    if "IPython" in sys.modules and "tqdm.auto" not in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("tqdm.auto")


@contextlib.contextmanager
def _silenced(names: Collection[str]) -> Iterator[None]:
    """Switch over what the libraries have read from these variables when they were loaded."""
    import datasets
    from huggingface_hub import logging as hub_logging

    verbosity, of_hub = datasets.logging.get_verbosity(), hub_logging.get_verbosity()
    bars = datasets.utils.are_progress_bars_disabled()
    if "DATASETS_VERBOSITY" in names:
        datasets.logging.set_verbosity(logging.CRITICAL)
    if "HF_HUB_VERBOSITY" in names:
        hub_logging.set_verbosity(logging.ERROR)
    if "HF_DATASETS_DISABLE_PROGRESS_BARS" in names:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(of_hub)
        if not bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _loaded_quiet(names: Collection[str]) -> Iterator[None]:
    """Switch back what the libraries read from these variables, if they are loaded meanwhile.

    Their progress bars would stay off for good: what was in the environment when `datasets` was loaded has priority
    over its own functions.
    """
    knew_hub = "huggingface_hub" in sys.modules
    try:
        yield
    finally:
        if "datasets" in sys.modules:
            import datasets
            from huggingface_hub import logging as hub_logging

            if "DATASETS_VERBOSITY" in names:
                datasets.logging.set_verbosity(logging.WARNING)
            if "HF_HUB_VERBOSITY" in names and not knew_hub:
                hub_logging.set_verbosity(logging.WARNING)
            if "HF_DATASETS_DISABLE_PROGRESS_BARS" in names:
                read: list[Any] = [datasets.config, sys.modules["datasets.utils.tqdm"]]
                for module in read:
                    module.HF_DATASETS_DISABLE_PROGRESS_BARS = None
                datasets.enable_progress_bars()


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """Streams of `datasets` are made without loading torch, which would take a second and 280 MB to know their columns.

    It makes them children of torch's class, for those who hand them to its loader. Where torch is loaded already they
    become that as ever.
    """
    import datasets

    with _switched("TORCH_AVAILABLE", datasets.config.TORCH_AVAILABLE and "torch" in sys.modules):
        yield


@contextlib.contextmanager
def one_try() -> Iterator[None]:
    """Streams try once: 20 tries, with 23 s of tries of the Hub's client in each, would outlast any --patience."""
    with _switched("STREAMING_READ_MAX_RETRIES", 1):
        yield


@contextlib.contextmanager
def _switched(name: str, value: object) -> Iterator[None]:
    """Another value for a name of `datasets.config`, for a time."""
    import datasets

    known = getattr(datasets.config, name)
    setattr(datasets.config, name, value)
    try:
        yield
    finally:
        setattr(datasets.config, name, known)


@contextlib.contextmanager
def tidied() -> Iterator[None]:
    """Close the metadata and zip files that streams leave open: in reference cycles, and in a cache."""
    from fsspec.implementations.zip import ZipFileSystem

    try:
        yield
    finally:
        ZipFileSystem.clear_instance_cache()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
