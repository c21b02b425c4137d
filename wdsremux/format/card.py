"""What stands beside the splits of a set: the dataset card, and timm's list of shards.

OUT/README.md and, for tars, OUT/_info.json are made anew from all manifests present, under OUT's lock, so that splits
converted side by side both stand in them. The card's YAML is what `datasets` looks for: `configs` and `dataset_info`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wdsremux import files
from wdsremux.errors import OutputError
from wdsremux.format import class_list, containers, manifest
from wdsremux.format.containers import LABEL, Card
from wdsremux.format.manifest import Manifest

CARD = "README.md"
TIMM = "_info.json"  #: where timm's reader of webdataset shards looks for splits, file names and lengths
NAMES = (CARD, TIMM)
_LOCK = ".lock"
_MARK = "<!-- Made by wdsremux, and made anew by each conversion into this folder. -->"
_SAYS_SO = re.compile(r"^Converted by wdsremux \S+ from `", re.MULTILINE)
_TIMM_KEYS = {"name", "num_samples", "filenames", "shard_lengths"}
_LOCK_TIMEOUT_S = 60.0  #: the card takes milliseconds; longer means a stuck process


def check_ours(out: Path) -> None:
    """See that what is made anew in OUT is ours to replace.

    Raises:
        OutputError: naming the file that is not.
    """
    for name, is_ours in ((CARD, _is_card), (TIMM, _is_timm), (_LOCK, _is_lock)):
        path = out / name
        try:
            ours = not os.path.lexists(path) or (path.is_file() and is_ours(path))
        except OSError as error:
            raise OutputError(f"{path} cannot be read: {error.strerror}. Choose another output folder") from error
        if not ours:
            raise OutputError(
                f"{path} was not written by wdsremux and would be replaced. Move it away, or choose another output "
                "folder"
            )


def _is_card(path: Path) -> bool:
    """Whether a dataset card has our mark; those of 0.1.0 have only the sentence."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return _MARK in text or _SAYS_SO.search(text) is not None


def _is_timm(path: Path) -> bool:
    """Whether it is a list of shards as we write it for timm."""
    try:
        found = json.loads(path.read_bytes())
        if found.get("made_by") == "wdsremux":
            return True
        entries = list(found["splits"].values())
        return set(found) == {"splits"} and all(set(entry) == _TIMM_KEYS for entry in entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _is_lock(path: Path) -> bool:
    return path.stat().st_size == 0


def held(out: Path) -> contextlib.AbstractContextManager[None]:
    """Hold OUT's lock, under which splits that are converted side by side find each other."""
    return files.locked(
        out / _LOCK,
        f"{out / _LOCK} is locked by another process. Wait for it to finish, and run the same command again",
        _LOCK_TIMEOUT_S,
    )


def write(out: Path) -> None:
    """Make OUT/README.md and OUT/_info.json from all manifests present."""
    with held(out):
        check_ours(out)  # it may have come meanwhile
        splits = manifest.read_all(out)
        with files.atomic(out / CARD) as file:
            file.write(_card(splits).encode())
        if not _about(splits).timm:
            (out / TIMM).unlink(missing_ok=True)  # of an earlier conversion into this folder
            return
        with files.atomic(out / TIMM) as file:
            listed = {split.split: _timm(split) for split in splits}
            file.write(json.dumps({"splits": listed, "made_by": "wdsremux"}, indent=1).encode())


def _card(splits: list[Manifest]) -> str:
    source, recipe = splits[0].source, splits[0].recipe["name"]
    suffix = containers.CONTAINERS[splits[0].container].suffix
    widest = sorted(splits, key=_ncolumns, reverse=True)  # `datasets` has the first one's columns in all of them
    data_files = "\n".join(f"  - split: {s.split}\n    path: {s.split}/{s.split}-*{suffix}" for s in widest)
    license_ = f"license: {json.dumps(source['license'])}\n" if source.get("license") else ""
    citation = f"\n## Citation\n\n```\n{source['citation'].strip()}\n```\n" if source.get("citation") else ""
    rows = "\n".join(
        f"| {s.split} | {s.nsamples:,} | {len(s.shards)} | {sum(x.size_bytes for x in s.shards) / 1e6:,.1f} MB |"
        for s in splits
    )
    about = _about(splits)
    return f"""---
{license_}{_features(splits, about.features)}configs:
- config_name: default
  data_files:
{data_files}
---

{_MARK}

# {source["name"]}, as {about.shards}

Converted by wdsremux {splits[0].environment["wdsremux"]} from `{source["name"]}` with the recipe `{recipe}`.

| split | samples | shards | size |
|---|---|---|---|
{rows}

Each sample is {about.sample}.{_class_names(splits)}

```python
import datasets, wdsremux

loader = wdsremux.DataLoader("this/folder", batch_size=256, split="{splits[0].split}")
rows = datasets.load_dataset("this/folder", split="{splits[0].split}")
```

`wdsremux preview this/folder` shows what it contains; `wdsremux plan` estimates what other recipes would give.
{citation}"""


def _ncolumns(split: Manifest) -> int:
    """How many columns it has beside the image."""
    return class_list.is_labelled(split) + len(split.options.get("keep") or ())


def _about(splits: Sequence[Manifest]) -> Card:
    """What the container says of the samples of a set."""
    keep = splits[0].options.get("keep") or ()
    form = containers.container(splits[0].container)
    return form.card(any(map(class_list.is_labelled, splits)), keep)


def _features(splits: Sequence[Manifest], columns: Sequence[tuple[str, str]]) -> str:
    """The columns for `datasets`, where the shards do not tell them: it would otherwise guess them from five samples,
    and know no class names.

    As `DatasetInfo` writes them into a card's YAML.
    """
    if not columns:
        return ""
    names = class_list.agreed(splits)
    lines = ["dataset_info:", "  features:"]
    for name, dtype in columns:
        lines.append(f"  - name: {name}")
        if dtype == LABEL and names:
            lines += ["    dtype:", "      class_label:", "        names:"]
            lines += [f"          '{number}': {json.dumps(each)}" for number, each in enumerate(names)]
        else:
            lines.append(f"    dtype: {'int64' if dtype == LABEL else dtype}")
    return "\n".join(lines) + "\n"


def _class_names(splits: Sequence[Manifest]) -> str:
    """What the card says of labels."""
    names = class_list.agreed(splits)
    if names:
        return f" Labels are the numbers of {len(names):,} classes, the same in every split; `index.json` names them."
    return "" if any(map(class_list.is_labelled, splits)) else " There are no labels."


def _timm(split: Manifest) -> dict[str, Any]:
    return {
        "name": split.split,
        "num_samples": split.nsamples,
        "filenames": [f"{split.split}/{shard.url}" for shard in split.shards],
        "shard_lengths": [shard.nsamples for shard in split.shards],
    }
