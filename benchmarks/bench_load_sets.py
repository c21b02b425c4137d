"""The JPEG files of a converted split in the forms that peers read: byte for byte the same, each made once.

    .venv-peers/bin/python benchmarks/bench_load_sets.py OUT SOURCE FOLDER FORM [FORM ...]

"folder" has a file an image in a folder a class; "litdata", "mosaic" and "records" (ArrayRecord) are made from it.
"arrow" is what load_dataset makes of the unconverted SOURCE in its cache. A form that stands in FOLDER already, whole,
is left as it is.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench_loaders import Data

FILES_BYTES = 4 << 20  #: of LitData's chunks and Mosaic's shards: several a worker also in a small set
RECORDS_PER_FILE = 1024


def photos(folder: Path) -> Iterator[tuple[Path, int]]:
    """Files of the form "folder" and their labels, in the order of the tars."""
    for path in sorted(folder.glob("*/*.jpg"), key=lambda path: path.name):
        yield path, int(path.parent.name)


def make_folder(data: Data, to: Path) -> None:
    """LABEL/KEY.jpg of every sample."""
    for tar_path in data.tars():
        with tarfile.open(tar_path) as tar:
            contents: dict[str, dict[str, bytes]] = {}
            for member in tar:
                if file := tar.extractfile(member):
                    key, _, ending = member.name.partition(".")
                    contents.setdefault(key, {})[ending] = file.read()
        for key, parts in contents.items():
            path = to / f"{int(parts['cls']):04d}" / f"{key}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(parts["jpg"])


def litdata_row(photo: tuple[str, int]) -> dict[str, Any]:
    """A sample as LitData stores it: the file's own bytes."""
    jpeg = importlib.import_module("litdata").Jpeg(path=photo[0], max_quality=None)
    return {"image": jpeg, "label": photo[1]}


def make_litdata(data: Data, to: Path) -> None:
    """LitData's chunks."""
    inputs = [(str(path), label) for path, label in photos(data.sets / "folder")]
    optimize = importlib.import_module("litdata").optimize
    optimize(litdata_row, inputs, str(to), chunk_bytes=FILES_BYTES, num_workers=1, reorder_files=False)


def make_mosaic(data: Data, to: Path) -> None:
    """MosaicML's MDS shards; an opened JPEG file is stored as it is."""
    images: Any = importlib.import_module("PIL.Image")
    writer = importlib.import_module("streaming").MDSWriter
    columns = {"image": "jpeg", "label": "int"}
    with writer(columns=columns, out=str(to), size_limit=FILES_BYTES) as shards:
        for path, label in photos(data.sets / "folder"):
            with images.open(path) as image:
                shards.write({"image": image, "label": label})


def make_records(data: Data, to: Path) -> None:
    """ArrayRecord files: a byte of label, then the JPEG file."""
    to.mkdir(parents=True)
    writers: Any = importlib.import_module("array_record.python.array_record_module").ArrayRecordWriter
    found = list(photos(data.sets / "folder"))
    for first in range(0, len(found), RECORDS_PER_FILE):
        writer = writers(str(to / f"train-{first:06d}.array_record"), "group_size:1,uncompressed")
        for path, label in found[first : first + RECORDS_PER_FILE]:
            writer.write(bytes([label]) + path.read_bytes())
        writer.close()


def make_arrow(data: Data, to: Path) -> None:
    """The cache of load_dataset."""
    load_dataset = importlib.import_module("datasets").load_dataset
    load_dataset("parquet", data_files={"train": data.parquet()}, split="train", cache_dir=str(to))


FORMS: dict[str, Callable[[Data, Path], None]] = {
    "folder": make_folder,
    "litdata": make_litdata,
    "mosaic": make_mosaic,
    "records": make_records,
    "arrow": make_arrow,
}
FROM_FOLDER = ("litdata", "mosaic", "records")


def make(data: Data, form: str) -> None:
    """One form, where it is not there yet; what a broken run left is made anew."""
    made = data.sets / f"{form}.made"
    if made.exists():
        return
    if form in FROM_FOLDER:
        make(data, "folder")
    to = data.sets / form
    shutil.rmtree(to, ignore_errors=True)
    FORMS[form](data, to)
    made.touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("forms", nargs="+", choices=FORMS, metavar="FORM")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    data = Data(out=options.out, sets=options.folder, source=options.source)
    for form in options.forms:
        make(data, form)


if __name__ == "__main__":
    main()
