"""The containers, one row each, and how the files of a shard are named.

A new container is a row of CONTAINERS and a module that keeps to the Protocol `Container`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast

from wdsremux.format.containers.base import Container

_ROOM = "wdsremux.format.containers"
DEFAULT = "tar"  #: what a manifest does not name


@dataclass(frozen=True, slots=True)
class Names:
    """How one container is called, and its files."""

    module: str  #: a `Container`, imported at use
    suffix: str  #: of a shard
    index_suffix: str | None = None  #: of the file beside each shard, for readers that want one


CONTAINERS = {
    DEFAULT: Names(f"{_ROOM}.tar_shard", ".tar", ".idx"),
    "parquet": Names(f"{_ROOM}.parquet_shard", ".parquet"),
}
_INDEXES = {names.suffix: names.index_suffix for names in CONTAINERS.values()}


def container(name: str) -> Container:
    """What writes and reads the shards of a container, by its name in the table."""
    return cast(Container, importlib.import_module(CONTAINERS[name].module))


def shard_name(name: str, split: str, number: int) -> str:
    """The file name of a shard in the container of that name, such as train-000012.tar."""
    return f"{split}-{number:06d}{CONTAINERS[name].suffix}"


def shard_number(shard: str) -> int:
    """The number in a shard's file name; the inverse of `shard_name`."""
    return int(shard.rpartition("-")[2].partition(".")[0])


def index_name(shard: str) -> str | None:
    """The file name of the index beside a shard; None where its container has none."""
    stem, dot, suffix = shard.rpartition(".")
    index = _INDEXES[dot + suffix]
    return index and stem + index
