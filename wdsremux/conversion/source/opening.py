"""SOURCE -> Source: find the split, survey its files, choose the columns, settle the labels."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from wdsremux.conversion import datasets_quirks
from wdsremux.conversion.source import columns, hub_files, numbering, retry
from wdsremux.conversion.source.base import Opened, Survey
from wdsremux.conversion.source.file_kinds import KINDS, source_kind
from wdsremux.conversion.source.finding import builder, given, listing
from wdsremux.conversion.source.image_files import Files
from wdsremux.conversion.source.labels import Labels
from wdsremux.conversion.source.rows import Finding, Source
from wdsremux.conversion.source.selection import Selection, Settled
from wdsremux.conversion.source.stamp import stamp
from wdsremux.errors import SourceError

FAULTS = (*builder.TRANSPORT, pa.ArrowException)
FINAL = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, FileNotFoundError)
_UNREAD = "beside an image (--keep {!r})"
_EXAMPLES = 3  #: names of files that were not taken


def open_source(selection: Selection, settled: Settled, recipe_makes: bool) -> Source:
    """Find a split of a source, its columns and fragments. Reads footers, headers and listings, never remote images.

    Args:
        selection: what to read.
        settled: by an earlier run.
        recipe_makes: whether the recipe may make columns that are to be kept.

    Raises:
        SourceError: one clear error saying what is missing or ambiguous.
    """
    datasets_quirks.check_cache()
    faults = retry.Faults(FAULTS, FINAL, selection.patience)
    opened = replace(_find(selection, settled.commit, faults), label_asked=selection.label_column)
    if not opened.remote:
        faults = retry.Faults(FAULTS)
    found = _survey(opened, faults)
    if all(fragment.rows == 0 for fragment in found.fragments):
        raise SourceError(f"{selection.source} has no rows in its split {selection.split!r}. Choose another --split")
    chosen, warnings = columns.choose(found, selection, recipe_makes)
    listed = selection.classes or (settled.classes if found.partial else None)
    return Source(
        description=_description(opened, selection.config, found.revision(chosen.names)),
        fragments=found.fragments,
        columns=chosen,
        labels=_labels(chosen.label, opened, found, listed, faults),
        reader=found.reader,
        files=Files(opened.root, opened.remote, partial(hub_files.content, faults=faults)),
        faults=faults,
        local_files=() if opened.remote else opened.files,
        stamp=None if opened.remote else stamp(opened.files),
        notes=_notes(opened, found, chosen.names),
        warnings=(*found.warnings, *warnings),
        finding=_finding(opened, found, chosen, selection),
    )


def _finding(opened: Opened, found: Survey, chosen: columns.Columns, selection: Selection) -> Finding:
    return Finding(
        splits=tuple(split for split, files in opened.splits.items() if files),
        splits_how=opened.how,
        image_how=columns.image_how(found.columns, chosen, selection),
        label_how=columns.label_how(found.columns, chosen, selection),
        by_row=KINDS[opened.kind].by_row,
    )


def _find(selection: Selection, pinned: str | None, faults: retry.Faults) -> Opened:
    """The files of the split, wherever they are."""
    source, path = selection.source, Path(selection.source)
    if given.is_pattern(source) or path.is_file():
        _check_here(selection)
        return given.of_files(source, selection.split)
    if not path.is_dir():
        return builder.of_hub(selection, pinned, faults)
    _check_here(selection)
    folder = path.resolve()
    if not _encodable(folder.name):
        raise SourceError(f"{source} has a name that is not UTF-8. Rename it")
    folder, name = listing.snapshot(source, folder)
    opened = given.saved_to_disk(folder, selection.split)
    if opened is None and selection.config is None:
        opened = listing.find(source, folder, selection.split)
    return opened or builder.of_card(selection, folder, name)


def _check_here(selection: Selection) -> None:
    if selection.revision is not None:
        raise SourceError(
            f"{selection.source} is on this machine and has no --revision {selection.revision!r}. Omit it"
        )


def _encodable(name: str) -> bool:
    """Whether a name is UTF-8, as the dataset card needs it; a folder on a disk may have any bytes."""
    return name == name.encode(errors="replace").decode()


def _survey(opened: Opened, faults: retry.Faults) -> Survey:
    """A look at all files of the split, by the module of their kind."""
    with datasets_quirks.without_torch(), datasets_quirks.one_try():
        return source_kind(opened.kind).survey(opened, faults)


def _labels(
    name: str | None, opened: Opened, found: Survey, listed: tuple[str, ...] | None, faults: retry.Faults
) -> Labels | None:
    if name is None:
        return None

    @functools.cache
    def others() -> Sequence[Survey]:
        return [_survey(opened.at(split), faults) for split in opened.splits if split != opened.split]

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
        parts.append(f"{count:,} in other splits ({', '.join(others)})")
    unread = {_UNREAD.format(column): names for column, names in found.unread.items() if column not in used}
    for reason, names in listing.joined(opened.untaken, unread, found.untaken).items():
        if not names:
            continue
        shown = ", ".join(os.path.normpath(name) for name in names[:_EXAMPLES])
        parts.append(f"{len(names):,} {reason} ({shown}{', …' if len(names) > _EXAMPLES else ''})")
    return (f"files of {opened.name} that are not converted: {'; '.join(parts)}",) if parts else ()
