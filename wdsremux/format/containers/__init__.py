"""What samples lie in on disk: a plug for each container, and a table of their names."""

from wdsremux.format.containers.base import (
    LABEL,
    Card,
    Container,
    KeptReader,
    Located,
    Member,
    SampleColumns,
    ShardFile,
    StoredSample,
)
from wdsremux.format.containers.table import CONTAINERS, DEFAULT, Names, container, index_name, shard_name, shard_number

__all__ = [
    "CONTAINERS",
    "DEFAULT",
    "LABEL",
    "Card",
    "Container",
    "KeptReader",
    "Located",
    "Member",
    "Names",
    "SampleColumns",
    "ShardFile",
    "StoredSample",
    "container",
    "index_name",
    "shard_name",
    "shard_number",
]
