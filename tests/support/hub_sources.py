"""Data sets for a Hub of our own, of real photographs, in each form."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import wdsremux

FILES, ROWS_A_GROUP = 3, 20


def write_parquet(folder: Path, photos: pa.Table) -> None:
    (folder / "data").mkdir(parents=True)
    for i in range(FILES):
        part = photos.slice(i * len(photos) // FILES, len(photos) // FILES)
        pq.write_table(part, folder / "data" / f"train-{i:05d}-of-{FILES:05d}.parquet", row_group_size=ROWS_A_GROUP)


def write_tars(folder: Path, photos: pa.Table) -> None:
    """Two of them; one in ten samples has no label."""
    folder.mkdir()
    for number in range(2):
        with tarfile.open(folder / f"train-{number}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(number, len(photos), 2):
                row = photos.slice(i, 1).to_pylist()[0]
                content = {"jpg": row["image"]["bytes"], "json": b'{"i": %d}' % i}
                for extension, data in (content | ({} if i % 20 == 15 else {"cls": b"%d" % row["label"]})).items():
                    info = tarfile.TarInfo(f"{i:06d}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def write_images(folder: Path, photos: pa.Table) -> None:
    for i, row in enumerate(photos.slice(0, 40).to_pylist()):
        path = folder / "train" / f"class {row['label'] + i % 3}" / f"{i} a.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])


def revision(out: Path) -> str:
    return str(wdsremux.manifest(out).source["revision"])
