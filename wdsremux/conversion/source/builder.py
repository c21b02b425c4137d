"""SOURCE -> a builder of `datasets`: a Hub id, a folder laid out as on the Hub, `save_to_disk`, or a glob."""

from __future__ import annotations

import glob
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import get_dataset_config_names, load_dataset_builder
from datasets.data_files import DataFilesList
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

from wdsremux.conversion.source import files, patience
from wdsremux.errors import SourceError

if TYPE_CHECKING:
    from wdsremux.conversion.source import Fragment, Reader

# What a request raises: OSError, and the base of whatever HTTP library the Hub's client is built on.
TRANSPORT: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
_PASSING = (408, 429, 500, 502, 503, 504)  #: HTTP statuses that another try may cure
_ANSWER_S = 30.0  #: within which the Hub must answer at first
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ODD = re.compile(r"[*?\[\]{}\n]|::")  #: what `datasets` does not take as it stands in a path
_STATE, _SPLITS = "state.json", "dataset_dict.json"  #: what save_to_disk leaves in a folder
_KINDS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}  #: of a glob's files; images otherwise


@dataclass(frozen=True, slots=True)
class Opened:
    """A split that `datasets` knows how to build."""

    builder: Any  #: datasets.DatasetBuilder
    name: str  #: of the folder, or the Hub id
    root: str  #: what file names are relative to
    files: tuple[str, ...]  #: in the order in which `datasets` reads them
    revision: str | None = None  #: the commit on the Hub
    license: Any = None  #: as the dataset card says it

    @property
    def remote(self) -> bool:
        return self.revision is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The files, relative to the root."""
        return tuple(self.relative(file) for file in self.files)

    def relative(self, file: str) -> str:
        return files.name(file, self.root)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at a whole split found."""

    fragments: tuple[Fragment, ...]
    revision: str  #: SHA-256 over what was looked at: names, sizes, footers or headers
    reader: Reader


def open_builder(
    source: str, split: str, config: str | None, revision: str | None, pinned: str | None, faults: patience.Faults
) -> Opened:
    """Find a split's files. Arguments as those of `open_source`.

    Raises:
        SourceError: one sentence saying what is missing, or what there is instead.
    """
    path = Path(source)
    pattern = glob.has_magic(source) and not path.is_dir()  # a folder may be called photos[1]
    if (pattern or path.exists()) and revision is not None:
        raise SourceError(f"{source} is on this machine, where there is no --revision {revision}. Leave it out")
    if pattern:
        return _of_glob(source, split)
    if path.is_dir():
        folder = path.resolve()
        if not _encodable(folder.name):
            raise SourceError(f"{source} has a name that is not UTF-8. Rename it")
        saved = _saved_to_disk(folder, split, folder.name)
        return saved or _of_builder(source, split, str(folder), folder.name, {"name": config})
    if path.exists():
        raise SourceError(f"{source} is no folder but a file. Give a folder, a glob of files, or a Hub id")
    if not _HUB_ID.fullmatch(source):
        raise SourceError(f"{source} is no folder. Give a folder, a glob of files, or a Hub id such as uoft-cs/cifar10")
    if pinned and not _COMMIT.fullmatch(pinned):
        pinned = None  # an earlier run read a folder of that name
    return _of_hub(source, split, config, revision or pinned, faults)


def _encodable(name: str) -> bool:
    """Whether a name is UTF-8, as `datasets` and the dataset card need it; a folder on a disk may have any bytes."""
    return name == name.encode(errors="replace").decode()


def _of_hub(source: str, split: str, config: str | None, revision: str | None, faults: patience.Faults) -> Opened:
    info = patience.call(lambda: _info(source, revision), faults, source)
    asked = {"name": config, "revision": info.sha}
    root = f"hf://datasets/{info.id}@{info.sha}"
    license_ = (info.card_data or {}).get("license")
    return patience.call(lambda: _of_builder(source, split, root, info.id, asked, info.sha, license_), faults, source)


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
        raise SourceError(f"{source} is no folder here, and no name on the Hub: {_one_line(error)}") from error


def _refusal(error: Exception, revision: str | None) -> str:
    """Why the Hub does not tell of a data set, and what to do."""
    if isinstance(error, GatedRepoError):
        return "is gated. Ask for access on its page, then log in (`hf auth login`, or HF_TOKEN)"
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision!r}. Give a branch, a tag or a whole commit"
    if isinstance(error, RepositoryNotFoundError):
        return (
            "is no folder here and no data set on the Hub, or a private one. "
            "Look at its name; for a private one log in (`hf auth login`, or HF_TOKEN)"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return "is no folder here, and the Hub cannot be asked: HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        return f"is no folder here, and the Hub refuses to tell of it: {_one_line(error)}"
    return f"is no folder here, and the Hub cannot be reached: {_one_line(error)}"


def _of_builder(
    source: str,
    split: str,
    root: str,
    name: str,
    asked: dict[str, Any],
    revision: str | None = None,
    license_: Any = None,
) -> Opened:
    found = name if revision else root
    try:
        builder = load_dataset_builder(found, **asked)
    except HfHubHTTPError:
        raise  # the caller has patience
    except (DatasetNotFoundError, DataFilesNotFoundError, ValueError, FileNotFoundError) as error:
        if isinstance(error, ValueError):
            _check_config(source, found, asked["name"], revision)
        odd = "" if revision else _if_odd(root)
        raise SourceError(f"{source} cannot be opened as a data set: {_one_line(error)}{odd}") from error
    except TRANSPORT:
        raise
    except Exception as error:  # whatever a card's YAML, or a script beside the data, provokes in `datasets`
        raise SourceError(f"{source} cannot be opened as a data set: {_one_line(error)}") from error
    return _opened(builder, source, split, root, name, revision, license_)


def _if_odd(root: str) -> str:
    """What else to say of a folder in which nothing is found."""
    return (
        " (it takes some characters of this path for a pattern or an address: rename it)" if _ODD.search(root) else ""
    )


def _check_config(source: str, found: str, config: str | None, revision: str | None) -> None:
    """
    Raises:
        SourceError: if there are several to choose from and none was, or one that does not exist.
    """
    try:
        configs: list[str] = get_dataset_config_names(found, revision=revision)
    except ValueError:  # it is not the config that is wrong; the caller says what is
        return
    listed = ", ".join(configs)
    if config is None and len(configs) > 1:
        raise SourceError(f"{source} has {len(configs)} configs: {listed}. Choose one with --config")
    if config is not None and config not in configs:
        raise SourceError(f"{source} has no config {config!r}. Its configs: {listed}")


def _opened(
    builder: Any,
    source: str,
    split: str,
    root: str,
    name: str,
    revision: str | None = None,
    license_: Any = None,
) -> Opened:
    data_files = builder.config.data_files or {}
    if split not in data_files:
        raise SourceError(f"{source} has no split {split!r}. Its splits: {', '.join(data_files) or 'none'}")
    found = tuple(str(file) for file in data_files[split])
    if not found:
        raise SourceError(f"{source} has no file that `datasets` finds{_if_odd(root)}")
    return Opened(builder, name, root, found, revision, license_ or builder.info.license or None)


def _saved_to_disk(folder: Path, split: str, name: str) -> Opened | None:
    """A folder of `save_to_disk`, of one split or several; None if it is none."""
    if (folder / _SPLITS).is_file():
        splits = json.loads((folder / _SPLITS).read_bytes())["splits"]
        if split not in splits:
            raise SourceError(f"{folder} has no split {split!r}. Its splits: {', '.join(splits)}")
        return _saved_to_disk(folder / split, split, name)
    if not (folder / _STATE).is_file():
        return None
    try:
        state = json.loads((folder / _STATE).read_bytes())
        found = [str(folder / entry["filename"]) for entry in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{folder / _STATE} is not what save_to_disk writes: {_one_line(error)}") from error
    if state.get("_split") not in (None, split):
        raise SourceError(f"{folder} has no split {split!r}. Its splits: {state['_split']}")
    return _opened(_packaged("arrow", split, found), str(folder), split, str(folder), name)


def _of_glob(source: str, split: str) -> Opened:
    found = sorted(path for path in glob.glob(os.path.abspath(source), recursive=True) if os.path.isfile(path))
    if not found:
        raise SourceError(f"no file matches {source}")
    kinds = {_KINDS.get(Path(file).suffix.lower(), "imagefolder") for file in found}
    if len(kinds) > 1:
        raise SourceError(f"{source} matches files of several kinds ({', '.join(sorted(kinds))}). Give a narrower glob")
    root = os.path.commonpath([os.path.dirname(file) for file in found])
    return _opened(_packaged(kinds.pop(), split, found), source, split, root, os.path.basename(root))


def _packaged(kind: str, split: str, found: list[str]) -> Any:
    """A builder of these very files: given as a plain list, they would be taken for patterns, and looked up again."""
    return load_dataset_builder(kind, data_files={split: DataFilesList(found, [])})


def card_license(folder: str) -> Any:
    """What the dataset card of a local folder says; None without one."""
    card = Path(folder) / "README.md"
    return DatasetCard.load(card, ignore_metadata_errors=True).data.get("license") if card.is_file() else None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
