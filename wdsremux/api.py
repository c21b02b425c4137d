"""The functions behind the public names: what the command line does, for scripts and notebooks."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdsremux.errors import ConversionWarning, WorkerError
from wdsremux.format import manifest as manifests
from wdsremux.format.manifest import Manifest

if TYPE_CHECKING:
    from wdsremux.conversion.events import Event
    from wdsremux.conversion.verification import Damage

_PACKAGE = os.path.dirname(__file__) + os.sep


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
            progress bar on a terminal or in a notebook, and gives warnings to `warnings`. The logger "wdsremux" gets
            warnings, and lines of progress at the level INFO, in any case.
        **options: those of `wdsremux convert`, with underscores; see `wdsremux.conversion.spec.Spec`. `recipe` may also
            be a function that maps a batch of rows to a batch of rows, `keep` a list, `max_rejects` a number.

    Returns:
        The manifest of the finished split.

    Raises:
        WdsremuxError: one sentence saying what, where and what to do. What is finished stays; the same call goes on.
    """
    from wdsremux.display import Display

    title = f"{source} ({options.get('split', 'train')})"
    if tell is None:
        with Display(title, always=False, warn=_warn) as display:
            return run(source, out, display.tell, options)
    heard = tell
    with Display(title, always=False, bar=False, warn=_ignore) as display:  # for the log

        def told(event: Event) -> None:
            display.tell(event)
            heard(event)

        return run(source, out, told, options)


def run(
    source: str | os.PathLike[str], out: str | os.PathLike[str], tell: Callable[[Event], None], options: dict[str, Any]
) -> Manifest:
    """`convert` with nothing drawn, logged or warned of but what `tell` makes of the events."""
    local = options.get("engine", "local") == "local"
    with _fork_server() if local else contextlib.nullcontext():
        from wdsremux.conversion.job import convert_split
        from wdsremux.conversion.spec import make_spec

        return convert_split(make_spec(source, out, **options), tell)


def manifest(out: str | os.PathLike[str], split: str = "train") -> Manifest:
    """The manifest of a converted split.

    Raises:
        FormatError: if there is no finished split, or its manifest is damaged.
    """
    return manifests.read(Path(out).expanduser() / split)


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

    return verification.verify(Path(out).expanduser(), split, decode)


@contextlib.contextmanager
def _fork_server() -> Iterator[None]:
    """Let the libraries be loaded beside what follows, in a process that ends with it.

    Raises:
        WorkerError: if no process can be started from here.
    """
    from wdsremux.conversion.engines import server

    try:
        held = server.hold()
        held.__enter__()
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
    with contextlib.ExitStack() as stack:
        stack.push(held)
        yield


def _warn(text: str) -> None:
    """To `warnings`, in the name of the line outside of this package that is at work."""
    level, frame = 1, sys._getframe(0)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(text, ConversionWarning, stacklevel=level)


def _ignore(text: str) -> None:
    """The caller hears of it by an event."""
