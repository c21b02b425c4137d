"""A shard as a tar of files: KEY.jpg, KEY.cls, KEY.json, as webdataset, `datasets` and DALI read it.

webdataset's own ShardWriter writes it. Beside it lies DALI's index (`tar_layout`).
"""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wdsremux import files
from wdsremux.format import kept_json
from wdsremux.format.containers.base import LABEL, Card, KeptReader, Located, Member, SampleColumns, ShardFile
from wdsremux.format.containers.table import shard_name
from wdsremux.format.containers.tar_layout import BLOCK_BYTES, Layout
from wdsremux.format.containers.tar_layout import index_text as index_text
from wdsremux.format.containers.tar_walk import walk as walk
from wdsremux.format.samples import NO_LABEL

if TYPE_CHECKING:
    import webdataset

LEAD_BYTES = BLOCK_BYTES  #: the header of KEY.jpg
BESIDE_BYTES = 2_048  #: two headers, a label's block, padding, table row, index line
RESERVED = frozenset[str]()
_JSON_BYTES = 4 * BLOCK_BYTES  #: read at once for a KEY.json: its header and what most hold; longer ones cost a second


def card(labelled: bool, keep: Sequence[str]) -> Card:
    """See `Container.card`."""
    label = ", `KEY.cls` (its label)" if labelled else ""
    kept = f", `KEY.json` ({', '.join(keep)})" if keep else ""
    columns = [("jpg", "image"), *([("cls", LABEL)] if labelled else []), *([("json", "json")] if keep else [])]
    features = [*columns, ("__key__", "string"), ("__url__", "string")]
    return Card("WebDataset shards", f"`KEY.jpg`{label}{kept}", features, timm=True)


def pack(values: Mapping[str, Any], columns: SampleColumns) -> bytes:
    """The content of KEY.json."""
    return kept_json.dumps(values)


@dataclass(slots=True)
class _TarShard:
    writer: webdataset.ShardWriter
    layout: Layout = field(default_factory=Layout)
    offsets: list[int] = field(default_factory=list)
    members: list[list[Member]] = field(default_factory=list)

    @property
    def index(self) -> bytes:
        return index_text(self.members)

    def add(self, key: str, image: bytes, label: int, crc32: int, kept: bytes | None) -> None:
        content = {"jpg": image}
        if label != NO_LABEL:
            content["cls"] = str(label).encode("ascii")
        if kept is not None:
            content["json"] = kept
        self.writer.write({"__key__": key, **content})
        members = self.layout.add(key, {extension: len(data) for extension, data in content.items()})
        self.members.append(members)
        self.offsets.append(next(member.offset for member in members if member.extension == "jpg"))


@contextmanager
def create(folder: Path, split: str, number: int, columns: SampleColumns) -> Iterator[ShardFile]:
    """See `Container.create`.

    A writer a shard, because `post` runs after an exception too: it does no more than close. (ShardWriter does not
    close the opener's file itself.)
    """
    import webdataset  # only here: it loads torch, which a process that bakes nothing does without

    opened: list[BinaryIO] = []

    def open_partial(name: str) -> BinaryIO:
        opened.append(open(folder / name, "wb", buffering=2**20))  # noqa: SIM115  # post closes it
        return opened[-1]

    with webdataset.ShardWriter(
        "%06d".join(shard_name("tar", split, 0).rsplit("000000", 1)),
        start_shard=number,
        maxcount=math.inf,
        maxsize=math.inf,
        opener=open_partial,
        post=lambda _: files.sync_and_close(opened.pop()),
        verbose=0,
        encoder=False,
        mtime=0,
        user="",
        group="",
    ) as writer:
        # What it leaves at pax has the same headers for names such as ours, at a fifth more of their cost.
        writer.tarstream.tarstream.format = tarfile.USTAR_FORMAT
        yield _TarShard(writer)


def is_lead(lead: memoryview, key: str, size: int) -> bool:
    """Whether it is the header of KEY.jpg, by its name."""
    return bytes(lead[:100]).partition(b"\0")[0] == f"{key}.jpg".encode()


@dataclass(frozen=True, slots=True)
class _KeptJson:
    """Reads KEY.json, which follows the image in the tar."""

    opened: Callable[[int], BinaryIO]

    def values(self, shard: int, sample: Located) -> dict[str, Any]:
        start = sample.offset + -(-sample.size // BLOCK_BYTES) * BLOCK_BYTES
        file, name = self.opened(shard), f"{sample.key}.json"
        left = file.seek(0, 2) - start
        file.seek(start)
        head = file.read(max(0, min(_JSON_BYTES, left)))
        try:
            size = _member_size(head, name, left)
            content = head[BLOCK_BYTES : BLOCK_BYTES + size]
            content += file.read(size - len(content))
            values = json.loads(content)
            if not isinstance(values, dict):
                raise ValueError(f"expected a JSON object, got {type(values).__name__}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"has no valid {name} at byte {start}: {error}") from error
        return values


def kept_reader(opened: Callable[[int], BinaryIO], names: Sequence[str]) -> KeptReader:
    """See `Container.kept_reader`."""
    return _KeptJson(opened)


def _member_size(header: bytes, name: str, most: int) -> int:
    """The size in bytes of the tar member that a header announces (POSIX.1-1988, section 10.1.1).

    Raises:
        ValueError: if it is another member, or larger than `most`.
    """
    named = header[:100].partition(b"\0")[0]
    if named != name.encode():
        raise ValueError(f"found {named.decode('ascii', 'replace')!r} instead")
    size = int(header[124:135], 8)
    if BLOCK_BYTES + size > most:
        raise ValueError(f"its {size:,} bytes extend beyond the end of the tar")
    return size
