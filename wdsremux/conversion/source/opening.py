"""SOURCE -> Source: find the split, choose the columns, survey the fragments."""

from __future__ import annotations

import importlib
import tarfile
from dataclasses import replace
from functools import partial
from typing import Any

import datasets
import pyarrow as pa
from datasets import IterableDataset
from datasets.data_files import DataFilesList
from datasets.packaged_modules.arrow.arrow import Arrow
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from wdsremux.conversion.source import Source, columns, images, listing, local, parquet, patience, remote
from wdsremux.conversion.source.builder import TRANSPORT, Opened, Survey, card_license, open_builder
from wdsremux.conversion.source.columns import Columns
from wdsremux.conversion.source.files import Files
from wdsremux.errors import SourceError

PATIENCE_S = 600.0
KINDS = {  #: the builders of `datasets` that give images, and the module that knows their fragments
    Parquet: "parquet",
    Arrow: "arrow",
    ImageFolder: "images",
    WebDataset: "tars",
}
FAULTS = (*TRANSPORT, pa.ArrowException)
FINAL = (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, FileNotFoundError)
# Its 20 tries, with 23 s of tries of the Hub's client in each, would outlast any --patience. Workers import this, too.
datasets.config.STREAMING_READ_MAX_RETRIES = 1


def open_source(
    source: str,
    split: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    pinned: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    keep: tuple[str, ...] = (),
    columns_made: bool = False,
    patience_s: float = PATIENCE_S,
) -> Source:
    """Find a split of a source, its columns and fragments. Reads footers, headers and listings, never remote images.

    Args:
        source: a Hub id; a folder laid out as on the Hub, or of `save_to_disk`; or a glob of parquet, Arrow, image or
            tar files.
        split: its name.
        config: of a data set that has several.
        revision: of a Hub id: branch, tag or commit; None: the main branch. It is resolved to a commit once.
        pinned: the commit of an earlier run, taken where `revision` is None.
        image_column: None: the only one of that kind.
        label_column: None: the only ClassLabel, else a column named "label", "labels" or "cls", else no label.
        keep: further columns to read.
        columns_made: whether the recipe may make some of those.
        patience_s: how long faults of the network are met with another try.

    Raises:
        SourceError: one sentence saying what is missing or ambiguous.
    """
    local.check_cache()
    faults = patience.Faults(FAULTS, FINAL, patience_s)
    opened = None if config or revision else listing.find(source, split)
    opened = _once(opened or open_builder(source, split, config, revision, pinned, faults), split)
    if not opened.remote:
        faults = patience.Faults(FAULTS)
    kind = _kind(opened, source)
    module: Any = importlib.import_module(f"wdsremux.conversion.source.{kind}")
    with local.without_torch():
        stream = patience.call(lambda: _stream(opened, split, source, kind, faults), faults, source)
        features = stream.features
        chosen = columns.choose(features, source, image_column, label_column, keep, columns_made)
        stream = patience.call(lambda: _narrowed(opened, split, stream, chosen), faults, source)
    found: Survey = module.survey(opened, stream, faults)
    if all(fragment.rows == 0 for fragment in found.fragments):
        raise SourceError(f"{source} has no rows in its split {split!r}")
    chosen, classes = columns.with_classes(chosen, features, found.reader)
    return Source(
        description=_description(opened, kind, config, split, found),
        fragments=found.fragments,
        columns=chosen,
        classes=classes,
        reader=found.reader,
        files=Files(opened.root, opened.remote, partial(remote.content, faults=faults)),
        faults=faults,
        stamp=None if opened.remote else local.stamp(opened.files),
    )


def _kind(opened: Opened, source: str) -> str:
    """Which of `KINDS` it is.

    Raises:
        SourceError: if it is none.
    """
    kind = next((name for class_, name in KINDS.items() if isinstance(opened.builder, class_)), None)
    if kind is None:
        raise SourceError(
            f"{source} holds no parquet, Arrow, image or WebDataset tar files but what `datasets` reads as "
            f"{type(opened.builder).__module__.rpartition('.')[2]}. Convert it to one of those first"
        )
    return kind


def _once(opened: Opened, split: str) -> Opened:
    """Each file once: `datasets` lists train/train_0/1.jpg twice, by the pattern for either folder."""
    data_files = opened.builder.config.data_files
    found = list(dict.fromkeys(data_files[split]))
    if len(found) == len(opened.files):
        return opened
    data_files[split] = DataFilesList(found, data_files[split].origin_metadata)
    return replace(opened, files=tuple(map(str, found)))


def _stream(opened: Opened, split: str, source: str, kind: str, faults: patience.Faults) -> IterableDataset:
    """The split as `datasets` streams it, with all columns.

    Raises:
        SourceError: if it cannot make columns of the files.
    """
    try:
        return images.stream(opened, split) if kind == "images" else opened.builder.as_streaming_dataset(split=split)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        EOFError,
        OverflowError,
        RecursionError,
        tarfile.TarError,
    ) as error:
        if opened.remote and kind == "parquet":
            parquet.check_footer(opened.files[0], faults)  # so that damage is told at once
        if isinstance(error, OSError):
            raise
        reason = " ".join(str(error).split())
        if opened.remote and isinstance(error, pa.ArrowException | EOFError | tarfile.TarError):
            raise OSError(reason) from error  # a body cut short, perhaps: the caller has patience
        if "at least one table" in reason:  # of the first tar's samples
            reason = "it holds no sample. Remove it, or fetch it again"
        raise SourceError(
            f"{source} cannot be read as {kind}, by its first file {opened.names[0]}: {reason}"
        ) from error
    except FAULTS:
        raise
    except Exception as error:  # `datasets` decodes the first samples; its decoders raise what content provokes
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise SourceError(
            f"{source} cannot be read as {kind}, by its first file {opened.names[0]}: {reason}"
        ) from error


def _narrowed(opened: Opened, split: str, stream: IterableDataset, chosen: Columns) -> IterableDataset:
    """The stream of only the columns that are read, images undecoded."""
    if isinstance(opened.builder, Parquet):  # the others are then not even fetched
        opened.builder.config.columns = chosen.names
        stream = opened.builder.as_streaming_dataset(split=split)
    return stream.select_columns(chosen.names).cast_column(chosen.image, datasets.Image(decode=False))


def _description(opened: Opened, kind: str, config: str | None, split: str, found: Survey) -> dict[str, Any]:
    """What the manifest says of the source."""
    info = opened.builder.info
    return {
        "kind": kind,
        "name": opened.name,
        "config": opened.builder.config.name if opened.remote else config,
        "split": split,
        "files": len(opened.files),
        "revision": opened.revision or found.revision,
        "license": opened.license or info.license or (None if opened.remote else card_license(opened.root)),
        "citation": info.citation or None,
    }
