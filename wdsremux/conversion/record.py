"""A finished task, as it stands in the journal: task-000000.json; its rows of the sample table are task-000000.npy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wdsremux.format.manifest import Shard, is_shard
from wdsremux.format.rejects import RejectLine


@dataclass(frozen=True, slots=True)
class Record:
    """What the manifest will say of a task."""

    task: int
    rows: int  #: read from the source
    ndropped: int
    shards: list[Shard]
    rejects: list[RejectLine]

    def dumps(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def rejected(self) -> bytes:
        """Its lines of rejects.jsonl."""
        return b"".join(line.dumps() for line in self.rejects)

    @staticmethod
    def loads(content: bytes) -> Record:
        """What `dumps` made; what a damaged file raises is not foreseen here."""
        values = json.loads(content)
        shards = [Shard(**shard) for shard in values["shards"]]
        rejects = [RejectLine(**line) for line in values["rejects"]]
        return Record(**(values | {"shards": shards, "rejects": rejects}))

    def sound(self, task: int, split: str, container: str) -> bool:
        """Whether it may be that of a task: whoever puts records together relies on that."""
        return (
            self.task == task
            and all(map(is_count, (self.task, self.rows, self.ndropped)))
            and all(is_shard(shard, split, container) for shard in self.shards)
            and all(line.sound for line in self.rejects)
        )


def is_count(value: Any) -> bool:
    """Whether a value of a file that may be damaged can count something."""
    return type(value) is int and 0 <= value < 2**63


def journal_names(work: Path, task: int) -> tuple[Path, Path]:
    """(table rows, record) of a task in the journal; the record is written last."""
    return work / f"task-{task:06d}.npy", work / f"task-{task:06d}.json"
