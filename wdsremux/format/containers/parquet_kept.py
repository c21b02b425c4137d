"""Kept columns taken out of Parquet shards, as the JSON of a tar has them.

A row group is read at once, and some are remembered: the samples of a batch come from many.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from wdsremux import fine_times
from wdsremux.errors import FormatError, one_line, printable
from wdsremux.format import kept_json
from wdsremux.format.containers import parquet_layout, parquet_schema
from wdsremux.format.containers.base import KeptReader, Located

_HELD_BYTES = 64 * 2**20  #: of row groups that are remembered, but for the last
_HELD_FILES = 64  #: shards whose metadata is remembered: a window
_PATH = f"{parquet_schema.IMAGE}.path"


@dataclass(slots=True)
class _Shard:
    """A shard whose metadata was read."""

    file: pq.ParquetFile
    ends: list[int]  #: of its row groups, in rows


@dataclass(slots=True)
class _ParquetKept:
    opened: Callable[[int], BinaryIO]
    names: Sequence[str]
    shards: OrderedDict[int, _Shard] = field(default_factory=OrderedDict)  #: least recently used first
    groups: OrderedDict[tuple[int, int], pa.Table] = field(default_factory=OrderedDict)  #: likewise
    nbytes: int = 0

    def values(self, shard: int, sample: Located) -> dict[str, Any]:
        try:
            about = self._shard(shard)
            group = bisect.bisect_right(about.ends, sample.number)
            first = about.ends[group - 1] if group else 0
            row = self._group(shard, group).slice(sample.number - first, 1)
            [image] = row.column(parquet_schema.IMAGE).to_pylist()
            if image["path"] != f"{sample.key}.jpg":
                raise ValueError(f"found {image['path']!r:.80} instead")
            columns = [fine_times.as_text(row.column(name)) for name in self.names]
            [values] = kept_json.rows(pa.table(columns, list(self.names)))
        except FormatError:  # of whoever reads the shard, which says what is wrong with it
            raise
        except parquet_layout.DAMAGE as error:
            what = printable(one_line(error, 200))
            raise ValueError(f"has no valid kept columns of {sample.key}: {what}") from error
        found: dict[str, Any] = json.loads(kept_json.dumps(values))
        return found

    def _shard(self, number: int) -> _Shard:
        if number not in self.shards:
            file = pq.ParquetFile(self.opened(number), pre_buffer=False)
            rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self.shards[number] = _Shard(file, list(itertools.accumulate(rows)))
            if len(self.shards) > _HELD_FILES:
                self.shards.popitem(last=False)
        self.shards.move_to_end(number)
        return self.shards[number]

    def _group(self, shard: int, group: int) -> pa.Table:
        place = (shard, group)
        if place not in self.groups:
            columns = [_PATH, *self.names]
            self.groups[place] = table = self._shard(shard).file.read_row_group(group, columns, use_threads=False)
            self.nbytes += table.nbytes
            while self.nbytes > _HELD_BYTES and len(self.groups) > 1:
                self.nbytes -= self.groups.popitem(last=False)[1].nbytes
        self.groups.move_to_end(place)
        return self.groups[place]


def kept_reader(opened: Callable[[int], BinaryIO], names: Sequence[str]) -> KeptReader:
    """See `Container.kept_reader`."""
    return _ParquetKept(opened, names)
