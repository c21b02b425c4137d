"""The functions behind the public names: what the command line does, for scripts and notebooks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdsremux.errors import WorkerError
from wdsremux.format import manifest as manifests
from wdsremux.format.manifest import Manifest

if TYPE_CHECKING:
    from wdsremux.conversion.events import Event
    from wdsremux.conversion.verification import Damage


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    tell: Callable[[Event], None] | None = None,
    **options: Any,
) -> Manifest:
    """Convert one split of a source, or finish what an earlier run began.

    Args:
        source: a Hub id; a folder of parquet, Arrow (`save_to_disk` too), image or WebDataset tar files; or a glob.
        out: the folder that gets a folder for the split.
        tell: called with every event (`wdsremux.conversion.events.Event`): progress, warnings, the end. None: draws a
            progress bar on a terminal or in a notebook, and says nothing elsewhere.
        **options: those of `wdsremux convert`, with underscores; see `wdsremux.conversion.spec.Spec`. `recipe` may also
            be a function that maps a batch of rows to a batch of rows, `keep` a list, `max_rejects` a number.

    Returns:
        The manifest of the finished split.

    Raises:
        WdsremuxError: one sentence saying what, where and what to do. What is finished stays; the same call goes on.
    """
    if options.get("engine", "local") == "local":
        _start_server()
    from wdsremux.conversion.job import convert_split
    from wdsremux.conversion.spec import make_spec

    spec = make_spec(source, out, **options)
    if tell is not None:
        return convert_split(spec, tell)
    from wdsremux.display import Display

    with Display(f"{source} ({spec.split})") as display:
        return convert_split(spec, display.tell if display.drawn else _ignore)


def manifest(out: str | os.PathLike[str], split: str = "train") -> Manifest:
    """The manifest of a converted split.

    Raises:
        FormatError: if there is no finished split, or its manifest is damaged.
    """
    return manifests.read(Path(out) / split)


def verify(out: str | os.PathLike[str], split: str | None = None, *, decode: bool = False) -> list[Damage]:
    """Check every file of a converted set against its manifest.

    Args:
        out: the converted set.
        split: None: all of them.
        decode: whether to decode every image, too.

    Returns:
        A damage for each file that is damaged, missing, extra, swapped or renamed; none for a sound set.

    Raises:
        FormatError: if there is no finished split.
    """
    from wdsremux.conversion import verification

    return verification.verify(Path(out), split, decode)


def _start_server() -> None:
    """Let the libraries be loaded beside what follows.

    Raises:
        WorkerError: if no process can be started from here.
    """
    from wdsremux.conversion.engines import server

    try:
        server.start()
    except OSError as error:
        with contextlib.suppress(OSError):
            os.getcwd()  # multiprocessing tells it to its workers
            raise WorkerError(
                f"no worker process can be started: {error.strerror or error}. Set TMPDIR to a folder that can be "
                "written to and has a short name, and run the same command again"
            ) from error
        raise WorkerError(
            "no worker process can be started: the working directory is gone. Change to one that is there, "
            "and run the same command again"
        ) from error


def _ignore(event: Event) -> None:
    """Where nobody looks, nothing is said."""
