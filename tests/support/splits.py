"""Small splits written by their contract alone, with tarfile, json and pyarrow, to be damaged; a conversion takes
longer.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import jpeg
from tests.support.reading import RECORD, sha256
from wdsremux.format import manifest

Content = dict[str, bytes]  #: of a sample's files, by extension


def header(name: str, size: int, **fields: Any) -> bytes:
    """A member's header with a checksum that holds, whatever it says."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.USTAR_FORMAT if size < 8**11 else tarfile.GNU_FORMAT)


def tar(samples: Iterable[tuple[str, Content]]) -> bytes:
    """A tar as a conversion writes it."""
    parts = []
    for key, content in samples:
        for extension, data in sorted(content.items()):
            parts += [header(f"{key}.{extension}", len(data)), data, bytes(-len(data) % 512)]
    body = b"".join(parts) + bytes(1024)
    return body + bytes(-len(body) % 10_240)


def index(tar_: bytes) -> bytes:
    """DALI's index of a tar."""
    lines: dict[str, list[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(tar_)) as file:
        for member in file:
            key, _, extension = member.name.partition(".")
            lines.setdefault(key, []).append(f"{extension} {member.offset_data} {member.size} {member.name}")
    return "".join(f"{line}\n" for line in [f"v1.2 {len(lines)}", *map(" ".join, lines.values())]).encode()


def parquet(samples: Sequence[tuple[str, Content]], labelled: bool = True, rows_a_group: int = 3) -> bytes:
    """The same samples as a Parquet file; row groups are small, so that a shard has several."""
    stored = [{"bytes": content["jpg"], "path": f"{key}.jpg"} for key, content in samples]
    columns = {"image": pa.array(stored, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    if labelled:
        labels = [int(content["cls"]) if "cls" in content else None for _, content in samples]
        columns["label"] = pa.array(labels, pa.int64())
    kept = [json.loads(content["json"]) for _, content in samples if "json" in content]
    columns |= {name: pa.array([values[name] for values in kept]) for name in (kept[0] if kept else ())}
    others = ["image.path", *list(columns)[1:]]
    file = io.BytesIO()
    pq.write_table(
        pa.table(columns),
        file,
        row_group_size=rows_a_group,
        compression=dict.fromkeys(others, "zstd"),
        use_dictionary=others,
        write_statistics=others,
    )
    return file.getvalue()


@functools.cache
def picture(number: int) -> bytes:
    """A JPEG of a few hundred bytes, another one for each number, whose CRC no bit flip leaves alone."""
    pixels = np.random.default_rng(number).integers(0, 256, (8 + number % 5, 8, 3), np.uint8)
    return jpeg(pixels, quality=50)


def write_split(
    out: Path,
    split: str = "train",
    *,
    shards: Sequence[int] = (3, 2),
    numbers: Sequence[int] | None = None,
    labelled: bool = True,
    kept: bool = False,
    parts: int = 1,
    rejects: int = 2,
    classes: int | None = None,
    container: str = "tar",
) -> Path:
    """Write a split.

    Args:
        out: the folder that gets the split's folder.
        split: its name.
        shards: samples of each shard.
        numbers: of each shard; None for 0, 1, …
        labelled: whether samples have labels; sample 1 has none in any case.
        kept: whether samples have a kept column, `place`.
        parts: samples made of one row.
        rejects: lines of rejects.jsonl, of a fragment of their own.
        classes: how many, or None.
        container: of the shards.
    """
    folder = out / split
    folder.mkdir(parents=True)
    rows, described, sample = [], [], 0
    for place, count in enumerate(shards):
        chosen = []
        for _ in range(count):
            key = (sample // 4, sample % 4 // parts, sample % parts)
            label = sample * 7 % (classes or 10**6) if labelled and sample != 1 else -1
            content = {"jpg": picture(sample)}
            content |= {"cls": b"%d" % label} if label >= 0 else {}
            content |= {"json": json.dumps({"place": sample}).encode()} if kept else {}
            chosen.append((f"{key[0]:06d}-{key[1]:06d}" + (f"-{key[2]}" if key[2] else ""), content))
            rows.append((place, label, sample, *key))
            sample += 1
        path = folder / f"{split}-{(numbers or range(len(shards)))[place]:06d}.{container}"
        path.write_bytes(tar(chosen) if container == "tar" else parquet(chosen, labelled))
        if container == "tar":
            path.with_suffix(".idx").write_bytes(index(path.read_bytes()))
        described.append(manifest.Shard(path.name, count, 0, ""))
    np.save(folder / "samples.npy", _table(folder, described, rows))
    line = {"fragment": 10**6, "where": "a.jpg", "column": "image", "reason": "empty: 0 bytes"}
    lines = [json.dumps(line | {"row": row, "part": None if row % 2 else 0}) for row in range(rejects)]
    (folder / "rejects.jsonl").write_text("".join(f"{text}\n" for text in lines))
    seal(
        manifest.Manifest(
            split=split,
            nsamples=sample,
            nrejects=rejects,
            ndropped=0,
            classes=[f"class {i}" for i in range(classes)] if classes else None,
            source={"kind": "parquet", "name": "pictures", "revision": "1"},
            recipe={"name": "copy"},
            options={},
            container=container,
            seed=0,
            environment={"wdsremux": "1.0"},
            shards=described,
            files={"rejects.jsonl": {"sha256": ""}, "samples.npy": {"sha256": ""}},
        ),
        folder,
    )
    return folder


def _table(folder: Path, shards: list[manifest.Shard], rows: Sequence[tuple[int, ...]]) -> np.ndarray[Any, Any]:
    records, contents = [], [(folder / shard.url).read_bytes() for shard in shards]
    for place, label, number, *key in rows:
        data = picture(number)
        offset = contents[place].index(data)  # no two are the same
        records.append((place, offset, len(data), label, zlib.crc32(data), 8, 8 + number % 5, *key))
    return np.array(records, RECORD)


def seal(about: manifest.Manifest, folder: Path) -> None:
    """Write a manifest that holds true of the files' sizes and digests, whatever they contain."""
    shards = [
        dataclasses.replace(
            shard,
            size_bytes=(folder / shard.url).stat().st_size,
            sha256=sha256(folder / shard.url),
            idx_sha256=sha256((folder / shard.url).with_suffix(".idx")) if about.container == "tar" else None,
        )
        for shard in about.shards
    ]
    described = {name: {"sha256": sha256(folder / name)} for name in about.files}
    (folder / "index.json").write_bytes(dataclasses.replace(about, shards=shards, files=described).dumps())


def reseal(folder: Path, **changes: Any) -> None:
    """Make the manifest agree with whatever lies in the folder now; `changes` are made to it on the way."""
    seal(dataclasses.replace(manifest.read(folder), **changes), folder)
