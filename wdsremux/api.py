"""The functions behind the public names: what the command line does, for scripts and notebooks."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdsremux import arguments
from wdsremux.conversion import asked
from wdsremux.conversion.convert_options import ConvertOptions
from wdsremux.conversion.datasets_quirks import quiet
from wdsremux.errors import ConversionWarning
from wdsremux.format import manifest as manifests
from wdsremux.format.manifest import Manifest
from wdsremux.python_names import errors_in_python, in_python

if TYPE_CHECKING:
    from wdsremux.conversion.events import Event
    from wdsremux.inspection.verify import Damage
    from wdsremux.loading.augment import Augment
    from wdsremux.showing.png import Preview

_PACKAGE = os.path.dirname(__file__) + os.sep


@arguments.names_checked
def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    classes: str | Sequence[str] | None = None,
    keep: str | Sequence[str] | None = None,
    recipe: str | Callable[..., Any] = "resize:256",
    recipe_version: str | None = None,
    batch_size: int = 64,
    quality: int = 90,
    subsampling: str = "420",
    restart_rows: bool = False,
    fast: bool = False,
    container: str = "tar",
    samples_per_shard: int | None = None,
    samples_per_task: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    workers: int | None = None,
    engine: str = "local",
    max_rejects: str | int | float = "1%",
    limit: int | None = None,
    patience: float = 600.0,
    strict: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    tell: Callable[[Event], None] | None = None,
) -> Manifest:
    """Convert one split of a source, or resume a conversion that was stopped.

    Args:
        source: a Hub id; a folder of parquet, Arrow (also from `save_to_disk`), image or WebDataset tar files; one such
            file; or a glob.
        out: the folder to write to; each split gets a folder of its own in it.
        config: name of the dataset configuration, if the source has several.
        split: name of the split to convert.
        revision: branch, tag or commit of a Hub id. By default the newest commit.
        image_column: name of the column with the images, if there are several.
        label_column: name of the column with the labels, if it is not detected. "none" converts without labels.
        classes: class names in the order of their labels: a list, one string with commas, or the path of a file with
            one name per line. By default the source's own.
        keep: columns to keep beside each image, as JSON in tars and as columns of their own types in Parquet: a list,
            or one string with commas.
        recipe: how each image is processed: "resize:N" (short side of N pixels), "square:N" (the largest central
            square), "copy" (the source's bytes), "FILE.py:FUNC", "package.module:FUNC", a function that maps a batch of
            rows to a batch of rows, or a torchvision transform, which is applied to each image.
        recipe_version: version of your own recipe. Runs are then compared by it, not by the source code of the recipe.
        batch_size: number of rows passed to your own recipe at once.
        quality: JPEG quality of the converted images, from 1 to 100.
        subsampling: chroma subsampling of the converted images, "420" or "444".
        restart_rows: end each row of JPEG blocks with a restart marker, so that a loader on a CPU can decode only the
            rows of a crop.
        fast: resize about 17 % faster, at a cost of 0.2 to 2 dB in image quality. For resize:N and square:N.
        container: what the samples are written to: "tar" (WebDataset shards) or "parquet". All splits in one folder
            have the same.
        samples_per_shard: number of samples in each shard. By default 2,000, and fewer for a small source.
        samples_per_task: number of rows that are shuffled together. By default 8,192.
        shuffle: whether to shuffle the rows of the source; False keeps their order.
        seed: seed of the shuffle and of random transforms in your own recipe.
        workers: number of worker processes. By default one per CPU core.
        engine: engine that runs the tasks: "local" (processes on this machine) or "ray" (a Ray cluster).
        max_rejects: how many rows may fail before the run stops: an integer, a share such as 0.01, or a percentage such
            as "1%". A share allows at least 10; 0 and "0%" allow none.
        limit: convert only this many rows, taken evenly from the whole source.
        patience: seconds for which network errors are retried.
        strict: refuse to resume if library versions or files of the source have changed meanwhile.
        overwrite: start again from scratch, in place of an earlier conversion.
        progress: whether to show progress: a progress bar on a terminal or in a notebook, plain lines elsewhere. By
            default it is shown on a terminal and in a notebook, unless `tell` is given.
        tell: called with every event (`wdsremux.Event`), such as progress, warnings and the end. Without it, warnings
            are issued with Python's `warnings`. In both cases the logger "wdsremux" receives warnings, and lines of
            progress at the level INFO.

    Returns:
        The manifest of the finished split.

    Raises:
        WdsremuxError: says what is wrong, where, and what to do. Finished work is kept; the same call resumes.
        KeyboardInterrupt: after Ctrl-C; its message says how many rows are kept.
    """
    from wdsremux.display import Display, stopped_text

    if progress is not None:
        arguments.flag("progress", progress)
    if tell is not None:
        arguments.function("tell", tell)
    options = ConvertOptions(
        config=config,
        split=split,
        revision=revision,
        image_column=image_column,
        label_column=label_column,
        classes=classes,
        keep=keep,
        recipe=recipe,
        recipe_version=recipe_version,
        batch_size=batch_size,
        quality=quality,
        subsampling=subsampling,
        restart_rows=restart_rows,
        fast=fast,
        container=container,
        samples_per_shard=samples_per_shard,
        samples_per_task=samples_per_task,
        shuffle=shuffle,
        seed=seed,
        workers=workers,
        engine=engine,
        max_rejects=max_rejects,
        limit=limit,
        patience=patience,
        strict=strict,
        overwrite=overwrite,
    )
    shows = False if tell is not None and progress is None else progress
    try:
        with (
            errors_in_python(),
            Display(f"{source} ({split})", show=shows, warn=_warn if tell is None else _ignore) as display,
        ):

            def told(event: Event) -> None:
                display.tell(event)
                if tell is not None:
                    tell(event)

            return run(source, out, _in_python(told), options)
    except KeyboardInterrupt:
        text = stopped_text(Path(out).expanduser() / split, overwrite=overwrite)
        raise KeyboardInterrupt(text) from None


def run(
    source: str | os.PathLike[str], out: str | os.PathLike[str], tell: Callable[[Event], None], options: ConvertOptions
) -> Manifest:
    """`convert` with nothing drawn, logged or warned of but what `tell` makes of the events."""
    question = asked.question(source, out, options)
    if (finished := asked.answer(question)) is not None:
        tell(finished)
        return finished.manifest
    from wdsremux.conversion.engines import forkserver

    local = options.get("engine", "local") == "local"
    with quiet(), forkserver.beside() if local else contextlib.nullcontext():
        from wdsremux.conversion.job import convert_split
        from wdsremux.conversion.spec import make_spec

        return convert_split(make_spec(source, out, **options), asked.noting(question, tell))


@arguments.names_checked
def manifest(out: str | os.PathLike[str], split: str = "train") -> Manifest:
    """Read the manifest of a converted split.

    Args:
        out: the folder of a converted set.
        split: name of the split.

    Raises:
        OptionError: if an argument is not valid.
        FormatError: if there is no finished split, or its manifest is damaged.
    """
    return manifests.read(_place(out) / arguments.text("split", split))


@arguments.names_checked
def verify(
    out: str | os.PathLike[str],
    split: str | None = None,
    *,
    decode: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> list[Damage]:
    """Check every file of a converted set against its manifest.

    Args:
        out: the folder of a converted set.
        split: name of the split to check; None checks all splits.
        decode: whether to decode every image as well.
        tell: called after each shard with the number of bytes checked so far and the total number of bytes.

    Returns:
        A `Damage` for each file that is damaged, missing, extra, swapped or renamed; an empty list if there is none.

    Raises:
        OptionError: if an argument is not valid.
        FormatError: if there is no finished split.
    """
    from wdsremux.inspection import verify as inspection

    place, decodes = _place(out), arguments.flag("decode", decode)
    if split is not None:
        arguments.text("split", split, "a string or None")
    if tell is not None:
        arguments.function("tell", tell)
    with errors_in_python():
        return inspection.verify(place, split, decodes, tell)


@arguments.names_checked
def preview(
    out: str | os.PathLike[str],
    split: str = "train",
    *,
    n: int = 12,
    augment: Augment | str | None = "train",
    size: int = 224,
) -> Preview:
    """Show what a converted split contains, in one image.

    Some samples, spread over the split, are shown as they are stored, and as a loader gives them in its first four
    epochs. Below are the number of samples per class, the sizes of all images, and why rows were rejected.

    Args:
        out: the folder of a converted set.
        split: name of the split to show.
        n: number of samples to show.
        augment: as for `DataLoader`.
        size: as for `DataLoader`: width and height of the augmented images, in pixels.

    Returns:
        A `Preview`, which notebooks display. Its `save` writes it to a PNG file.

    Raises:
        OptionError: if an argument is not valid.
        FormatError: if there is no finished split, or a file of it is missing or damaged.
        ImageError: if an image cannot be decoded.
        BackendError: if matplotlib is not installed.
    """
    from wdsremux.loading.augment import make_augment
    from wdsremux.showing import figure

    place, name = _place(out), arguments.text("split", split)
    count, side = arguments.integer("n", n), arguments.integer("size", size, unit=" (pixels)")
    return figure.preview(place, name, count, make_augment(augment), side)


def _place(out: str | os.PathLike[str]) -> Path:
    return Path(arguments.path("out", out)).expanduser()


def _in_python(tell: Callable[[Event], None]) -> Callable[[Event], None]:
    """Have what is told name arguments of a call instead of options of the command line."""
    from wdsremux.conversion.events import Noted, Warned

    def told(event: Event) -> None:
        tell(dataclasses.replace(event, text=in_python(event.text)) if isinstance(event, Noted | Warned) else event)

    return told


def _warn(text: str) -> None:
    """To `warnings`, in the name of the line outside of this package that is at work."""
    level, frame = 1, sys._getframe(0)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(text, ConversionWarning, stacklevel=level)


def _ignore(text: str) -> None:
    """The caller hears of it by an event."""
