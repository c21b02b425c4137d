"""A finished split of which files are missing: made again, and put in place only if they are what its manifest says.

A missing shard is baked again with the rest of its task. A missing index is read from its shard, a missing sample table
from all shards; a missing list of rejects takes the journal, or a second look at every row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from wdsremux import codec, files
from wdsremux.conversion import presence
from wdsremux.conversion.plan import Plan, Task
from wdsremux.conversion.record import Record
from wdsremux.errors import OutputError
from wdsremux.format import containers, contents, manifest, samples
from wdsremux.format.manifest import Manifest


def tasks(plan: Plan, done: Manifest, lacking: Collection[str], recorded: Callable[[Task], bool]) -> list[Task]:
    """The tasks to bake again."""
    numbers = {containers.shard_number(shard.url) for shard in done.shards if shard.url in lacking}
    rejects = manifest.REJECTS in lacking and done.nrejects > 0
    return [task for task in plan.tasks if numbers.intersection(task.shards) or (rejects and not recorded(task))]


def rebuild(folder: Path, done: Manifest, lacking: Collection[str], records: Callable[[], Iterable[Record]]) -> None:
    """Make the missing files that are no shards, once all shards stand.

    Raises:
        FormatError: if a shard that they are read from is damaged.
        OutputError: if one comes out otherwise than the manifest says.
    """
    container = containers.container(done.container)
    for shard in done.shards:
        for name, sha256 in shard.files[1:]:
            if name in lacking and not presence.is_file(folder / name, sha256):
                _place(folder / name, sha256, [contents.index_of(folder / shard.url, container)])
    if manifest.REJECTS in lacking:
        lines = (record.rejected() for record in records()) if done.nrejects else ()
        _place(folder / manifest.REJECTS, done.files[manifest.REJECTS]["sha256"], lines)
    if samples.NAME in lacking:
        shards = enumerate(done.shards)
        tables = (contents.table_of(folder / shard.url, container, number, _sides) for number, shard in shards)
        with files.atomic(folder / samples.NAME) as file:
            samples.write(file, tables, done.nsamples)
            file.flush()
            _check(folder / samples.NAME, files.sha256(Path(file.name)), done.files[samples.NAME]["sha256"])


def _sides(jpeg: bytes) -> tuple[int, int]:
    head = codec.header(jpeg)
    return head.width, head.height


def _place(path: Path, sha256: str, pieces: Iterable[bytes]) -> None:
    digest = hashlib.sha256()
    with files.atomic(path) as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        _check(path, digest.hexdigest(), sha256)


def _check(path: Path, got: str, wanted: str) -> None:
    if got != wanted:
        raise OutputError(
            f"{path} was rebuilt, but differs from what {manifest.NAME} records: the files that it is built from "
            "were changed. Run `wdsremux verify`, delete the files it lists, and run the same command again"
        )
