"""A Hub id, or a folder of which a card says where the files are -> files by split, as `datasets` finds them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from datasets import DatasetBuilder, get_dataset_config_names, load_dataset_builder
from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
from huggingface_hub import DatasetCard, HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Opened, Untaken
from wdsremux.conversion.source.file_kinds import KINDS
from wdsremux.conversion.source.finding.splits import no_such_split
from wdsremux.conversion.source.selection import Selection
from wdsremux.errors import SourceError, one_line

# What a request raises: OSError, and the base of whatever HTTP library the Hub's client is built on.
TRANSPORT: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
_PASSING = (408, 429, 500, 502, 503, 504)  #: HTTP statuses that another try may cure
_ANSWER_S = 30.0  #: within which the Hub must answer at first
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ODD = re.compile(r"[*?\[\]{}\n]|::")  #: what `datasets` does not take as it stands in a path
_GIVE = "Give a data set or a folder of parquet, Arrow, image or WebDataset tar files"
_CARDS = {".gitattributes", "README.md", ".huggingface.yaml", "dataset_info.json", "dataset_infos.json", "config.json"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where `datasets` is to look, and what was found there."""

    name: str  #: of the folder, or the Hub id
    root: str  #: what file names are relative to: a folder, or hf://datasets/ORG/NAME@SHA
    files: list[str]  #: all that are there
    revision: str | None = None  #: the commit on the Hub; None of a folder
    license: Any = None  #: as the Hub says it

    @property
    def address(self) -> str:
        """What `datasets` calls it."""
        return self.name if self.revision else self.root


def of_hub(selection: Selection, pinned: str | None, faults: retry.Faults) -> Opened:
    """The files of a split of a data set on the Hub.

    Args:
        selection: what to read.
        pinned: the commit of an earlier run, taken where no revision is asked for.
        faults: which faults of the network to wait out.

    Raises:
        SourceError: one clear error saying what is missing, or what there is instead.
    """
    source = selection.source
    if not _HUB_ID.fullmatch(source):
        raise SourceError(
            f"{source} does not exist. Give a folder, a file, a glob, or a Hub id such as uoft-cs/cifar10"
        )
    if pinned and not _COMMIT.fullmatch(pinned):
        pinned = None  # an earlier run read a folder of that name
    info = retry.call(lambda: _info(source, selection.revision or pinned), faults, source)
    root = f"hf://datasets/{info.id}@{info.sha}"
    there = [f"{root}/{sibling.rfilename}" for sibling in info.siblings or ()]
    place = _Place(info.id, root, there, info.sha, (info.card_data or {}).get("license"))
    return retry.call(lambda: _of_builder(selection, place), faults, source)


def of_card(selection: Selection, folder: Path, name: str) -> Opened:
    """The files of a split of a folder on this machine, where its dataset card says they are.

    Raises:
        SourceError: likewise.
    """
    return _of_builder(selection, _Place(name, str(folder), _files_below(str(folder))))


def _info(source: str, revision: str | None) -> Any:
    """What the Hub says of a data set: its id and the commit that the revision is now.

    Raises:
        SourceError: if it cannot be had. Where the Hub is out of reach, at once: this may be a mistyped folder.
        HfHubHTTPError: if the Hub is busy.
    """
    try:
        info = HfApi().dataset_info(source, revision=revision, timeout=_ANSWER_S)
        if info.gated:
            HfApi().auth_check(source, repo_type="dataset")
        return info
    except TRANSPORT as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in _PASSING:
            raise  # the caller has patience
        raise SourceError(f"{source} {_refusal(error, revision)}") from error
    except HFValidationError as error:
        raise SourceError(
            f"{source} is not a folder on this machine, and not a valid Hub id: {one_line(error)}"
        ) from error


def _refusal(error: Exception, revision: str | None) -> str:
    """Why the Hub does not tell of a data set, and what to do."""
    if isinstance(error, GatedRepoError):
        return "is gated. Ask for access on its page, then log in (`hf auth login`, or HF_TOKEN)"
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision!r}. Give a branch, a tag or a full commit hash"
    if isinstance(error, RepositoryNotFoundError):
        return (
            "is not a folder on this machine, and not a public data set on the Hub. "
            "Check the name; for a private data set, log in (`hf auth login`, or HF_TOKEN)"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return "is not a folder on this machine, and the Hub is not contacted because HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        return f"is not a folder on this machine, and the Hub refused the request: {one_line(error)}"
    return f"is not a folder on this machine, and the Hub cannot be reached: {one_line(error)}"


def _of_builder(selection: Selection, place: _Place) -> Opened:
    try:
        builder = load_dataset_builder(place.address, name=selection.config, revision=place.revision)
    except HfHubHTTPError:
        raise  # the caller has patience
    except (DatasetNotFoundError, DataFilesNotFoundError, ValueError, FileNotFoundError) as error:
        if isinstance(error, ValueError):
            _check_config(selection, place)
        odd = "" if place.revision else _if_odd(place.root)
        raise SourceError(
            f"{selection.source} cannot be opened as a data set: {one_line(error)}{odd}. {_GIVE}"
        ) from error
    except TRANSPORT:
        raise
    except Exception as error:  # whatever a card's YAML, or a script beside the data, provokes in `datasets`
        raise SourceError(f"{selection.source} cannot be opened as a data set: {one_line(error)}. {_GIVE}") from error
    return _opened(builder, selection, place)


def _if_odd(root: str) -> str:
    """What else to say of a folder in which nothing is found."""
    return " (some characters of this path are read as a pattern or an address: rename it)" if _ODD.search(root) else ""


def _check_config(selection: Selection, place: _Place) -> None:
    """
    Raises:
        SourceError: if there are several to choose from and none was, or one that does not exist.
    """
    source, config = selection.source, selection.config
    try:
        configs: list[str] = get_dataset_config_names(place.address, revision=place.revision)
    except ValueError:  # it is not the config that is wrong; the caller says what is
        return
    listed = ", ".join(configs)
    if config is None and len(configs) > 1:
        raise SourceError(f"{source} has {len(configs)} configs: {listed}. Choose one with --config")
    if config is not None and config not in configs:
        raise SourceError(f"{source} has no config {config!r}. Its configs: {listed}")


def _opened(builder: DatasetBuilder, selection: Selection, place: _Place) -> Opened:
    source, split = selection.source, selection.split
    kind = next((kind.name for kind in KINDS.values() if kind.built(builder)), None)
    if kind is None:
        raise SourceError(
            f"{source} contains no parquet, Arrow, image or WebDataset tar files, only files that `datasets` reads as "
            f"{type(builder).__module__.rpartition('.')[2]}. Convert it to one of those first"
        )
    # Each file once: `datasets` lists train/train_0/1.jpg twice, by the pattern for either folder.
    splits = {
        str(key): tuple(dict.fromkeys(map(str, found))) for key, found in (builder.config.data_files or {}).items()
    }
    how = f"its config {builder.config.name!r}" if place.revision else "its dataset card"
    if split not in splits:
        raise no_such_split(source, split, splits, how)
    if not splits[split]:
        raise SourceError(f"{source} has no files that `datasets` can find{_if_odd(place.root)}")
    return Opened(
        kind=kind,
        name=place.name,
        root=place.root,
        split=split,
        splits=splits,
        how=how,
        split_by="words",
        revision=place.revision,
        config=str(builder.config.name),
        license=place.license or builder.info.license or None,
        citation=builder.info.citation or None,
        features=builder.info.features,
        builder=builder,
        untaken=_untaken(place, {file for files in splits.values() for file in files}),
    )


def _untaken(place: _Place, taken: set[str]) -> Untaken:
    """The files that belong to no split of the config."""
    names = [file.removeprefix(f"{place.root}/") for file in place.files if file not in taken]
    left = sorted(name for name in names if os.path.basename(name) not in _CARDS)
    return {"in no split of this config": left} if left else {}


def _files_below(folder: str) -> list[str]:
    return [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]


def card_license(folder: str) -> Any:
    """What the dataset card of a local folder says; None without one.

    Raises:
        SourceError: if it cannot be read.
    """
    card = Path(folder) / "README.md"
    if not card.is_file():
        return None
    try:
        return DatasetCard.load(card, ignore_metadata_errors=True).data.get("license")
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:  # what is no mapping, or no YAML
        raise SourceError(
            f"the header of {card} cannot be read: {one_line(error)}. Correct it, or remove it"
        ) from error
