"""SOURCE -> Source: find the split, survey its files, choose the columns, settle the labels."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from wdsremux.conversion.source import (
    builder,
    columns,
    datasets_quirks,
    given,
    hub_files,
    listing,
    numbering,
    retry,
    sidefiles,
)
from wdsremux.conversion.source.base import Opened, Survey
from wdsremux.conversion.source.image_files import Files
from wdsremux.conversion.source.labels import Labels
from wdsremux.conversion.source.rows import Source
from wdsremux.conversion.source.stamp import stamp
from wdsremux.errors import SourceError

PATIENCE_S = 600.0
FAULTS = (*builder.TRANSPORT, pa.ArrowException)
FINAL = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, FileNotFoundError)
_EXAMPLES = 3  #: names of files that were not taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a source."""

    source: str  #: a Hub id, a folder, a file, or a glob
    split: str = "train"
    config: str | None = None  #: of a data set that has several
    revision: str | None = None  #: of a Hub id: branch, tag or commit; None: the main branch
    pinned: str | None = None  #: the commit of an earlier run, taken where `revision` is None
    image_column: str | None = None  #: None: the only one of that kind
    label_column: str | None = None  #: None: the one that looks like it; "none": no labels
    classes: tuple[str, ...] | None = None  #: names by number; None: those of the source
    classes_before: tuple[str, ...] | None = None  #: of an earlier run, where the source cannot count its own
    keep: tuple[str, ...] = ()  #: further columns to read
    columns_made: bool = False  #: whether the recipe may make some of those
    patience_s: float = PATIENCE_S  #: how long faults of the network are met with another try


def open_source(source: str, split: str, **options: Any) -> Source:
    """`open_asked` of loose arguments: the fields of `Asked`."""
    return open_asked(Asked(source=source, split=split, **options))


def open_asked(asked: Asked) -> Source:
    """Find a split of a source, its columns and fragments. Reads footers, headers and listings, never remote images.

    Raises:
        SourceError: one clear error saying what is missing or ambiguous.
    """
    datasets_quirks.check_cache()
    faults = retry.Faults(FAULTS, FINAL, asked.patience_s)
    opened = replace(_find(asked, faults), label_asked=asked.label_column)
    if not opened.remote:
        faults = retry.Faults(FAULTS)
    found = _survey(opened, faults)
    if all(fragment.rows == 0 for fragment in found.fragments):
        raise SourceError(f"{asked.source} has no rows in its split {asked.split!r}. Choose another --split")
    chosen, warnings = columns.choose(
        found,
        asked.source,
        asked.image_column,
        asked.label_column,
        asked.keep,
        asked.columns_made,
    )
    return Source(
        description=_description(opened, asked.config, found.revision(chosen.names)),
        fragments=found.fragments,
        columns=chosen,
        labels=_labels(chosen.label, opened, found, asked, faults),
        reader=found.reader,
        files=Files(opened.root, opened.remote, partial(hub_files.content, faults=faults)),
        faults=faults,
        local_files=() if opened.remote else opened.files,
        stamp=None if opened.remote else stamp(opened.files),
        notes=_notes(opened, found, chosen.names),
        warnings=(*found.warnings, *warnings),
    )


def _find(asked: Asked, faults: retry.Faults) -> Opened:
    """The files of the split, wherever they are."""
    source, path = asked.source, Path(asked.source)
    if given.is_pattern(source) or path.is_file():
        _check_here(asked)
        return given.of_files(source, asked.split)
    if not path.is_dir():
        return builder.of_hub(source, asked.split, asked.config, asked.revision, asked.pinned, faults)
    _check_here(asked)
    folder = path.resolve()
    if not _encodable(folder.name):
        raise SourceError(f"{source} has a name that is not UTF-8. Rename it")
    folder, name = listing.snapshot(source, folder)
    opened = given.saved_to_disk(folder, asked.split)
    if opened is None and asked.config is None:
        opened = listing.find(source, folder, asked.split, asked.label_column)
    return opened or builder.of_card(source, folder, name, asked.split, asked.config)


def _check_here(asked: Asked) -> None:
    if asked.revision is not None:
        raise SourceError(
            f"{asked.source} is on this machine, where there is no --revision {asked.revision}. Leave it out"
        )


def _encodable(name: str) -> bool:
    """Whether a name is UTF-8, as the dataset card needs it; a folder on a disk may have any bytes."""
    return name == name.encode(errors="replace").decode()


def _survey(opened: Opened, faults: retry.Faults) -> Survey:
    """A look at all files of the split, by the module of their kind."""
    module: Any = importlib.import_module(f"wdsremux.conversion.source.{opened.kind}")
    with datasets_quirks.without_torch(), datasets_quirks.one_try():
        found: Survey = module.survey(opened, faults)
    return found


def _labels(name: str | None, opened: Opened, found: Survey, asked: Asked, faults: retry.Faults) -> Labels | None:
    if name is None:
        return None

    @functools.cache
    def others() -> Sequence[Survey]:
        return [_survey(opened.at(split), faults) for split in opened.splits if split != opened.split]

    listed = asked.classes or (asked.classes_before if found.partial else None)
    return retry.call(lambda: numbering.settle(name, found, others, listed, opened.remote), faults, opened.name)


def _description(opened: Opened, config: str | None, revision: str) -> dict[str, Any]:
    """What the manifest says of the source."""
    return {
        "kind": opened.kind,
        "name": opened.name,
        "config": opened.config if opened.remote else config,
        "split": opened.split,
        "files": len(opened.files),
        "revision": opened.revision or revision,
        "license": opened.license or (None if opened.remote else builder.card_license(opened.root)),
        "citation": opened.citation,
    }


def _notes(opened: Opened, found: Survey, used: Sequence[str]) -> tuple[str, ...]:
    """One line that counts and names the files that are not taken; none where all are."""
    parts = []
    others = {split: files for split, files in opened.splits.items() if split != opened.split and files}
    if others:
        count = sum(map(len, others.values()))
        parts.append(f"{count:,} of other splits ({', '.join(others)})")
    for reason, names in listing.joined(opened.untaken, found.untaken).items():
        if not names or reason in {sidefiles.reason(name) for name in used}:
            continue
        shown = ", ".join(os.path.normpath(name) for name in names[:_EXAMPLES])
        parts.append(f"{len(names):,} {reason} ({shown}{', …' if len(names) > _EXAMPLES else ''})")
    return (f"files of {opened.name} that are not taken: {'; '.join(parts)}",) if parts else ()
