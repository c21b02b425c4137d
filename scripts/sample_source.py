"""Write a small labeled image data set as parquet files, as on the Hub, without network access.

    python scripts/sample_source.py build/sample-source

It is used in examples, tests and benchmarks. The ten photographs are part of scikit-image. Each of them is one
class. Each sample is a random part of a photograph, enlarged to the size of a web photo (400 to 700 pixels on the
short side) and saved as JPEG. The test split may overlap the train split, so this data set shows that images and
labels belong together and that training works, but not how well a network generalizes.

Every sample depends only on the seed, the split and the row, so two runs with the same library versions write the
same bytes. Rows are sorted by class and written in row groups of 100, like many data sets on the Hub, so that
shuffling can be tested.

Credits of the photographs, as in scikit-image's `skimage.data` (ihc has no known copyright restrictions):
    astronaut          Eileen Collins, NASA Great Images, public domain
    brick              CC0Textures, Bricks25, CC0
    chelsea            the cat Chelsea, Stefan van der Walt, CC0
    coffee             Pikolo Espresso Bar, photographed by Rachel Michetti, CC0
    grass              DeviantArt, linolafett, CC0
    gravel             CC0Textures, Gravel04, CC0
    hubble_deep_field  Hubble eXtreme Deep Field, NASA, public domain
    ihc                stained colon tissue, Center for Microscopy and Molecular Imaging (CMMI)
    retina             Mikael Häggström, Wikimedia Commons, CC0
    rocket             launch of DSCOVR, SpaceX, public domain
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from PIL import __version__ as pillow_version

VERSION = 1  #: raise it when the samples change, so that folders of an older version are written again
MARKER = ".sample.json"  #: the options of a sample, and once it is whole the size of each file
SPLITS = ("train", "test")
ROWS_PER_GROUP = 100
ROWS_PER_FILE = 600

PHOTOS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble_deep_field": "hubble_deep_field.jpg",
    "ihc": "ihc.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
CLASSES = tuple(PHOTOS)
#: The part of a photo (x0, y0, x1, y1) that windows are cut from, where it is not the whole: the retina is a
#: disc, and windows in the corners of its square would be black.
PARTS = {"retina": (206, 206, 1205, 1205)}

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=list(CLASSES)),
        "row": datasets.Value("int64"),
    }
)


@cache
def photo(name: str) -> Image.Image:
    """The photograph of a class as RGB, read by path: scikit-image's own functions may download."""
    path = files("skimage") / "data" / PHOTOS[name]
    with path.open("rb") as file, Image.open(file) as opened:
        picture = opened.convert("RGB")
    return picture.crop(PARTS[name]) if name in PARTS else picture


def label_of(row: int, rows: int) -> int:
    """The class of a row in a split of `rows` rows: sorted, and balanced to within one row."""
    return row * len(CLASSES) // rows


def jpeg(label: int, split: str, row: int, seed: int = 0) -> bytes:
    """One sample as a JPEG file's bytes: a random window of the photograph of class `label`, enlarged."""
    source = photo(CLASSES[label])
    random = np.random.default_rng([seed, SPLITS.index(split), row])
    aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))  # width over height
    short_px = random.uniform(120, 250)
    # Chelsea is 300 px high and a window up to 333: one that does not fit shrinks and keeps its aspect.
    unit = (max(aspect, 1.0), max(1 / aspect, 1.0))
    short_px = min(short_px, source.width / unit[0], source.height / unit[1])
    width, height = int(short_px * unit[0]), int(short_px * unit[1])
    x, y = (int(random.integers(0, room + 1)) for room in (source.width - width, source.height - height))
    scale = random.uniform(400, 700) / min(width, height)
    size = (round(width * scale), round(height * scale))
    window = source.resize(size, Image.Resampling.LANCZOS, box=(x, y, x + width, y + height))
    file = io.BytesIO()
    window.save(file, "JPEG", quality=int(random.integers(85, 96)))
    return file.getvalue()


def group(split: str, rows: int, start: int, seed: int) -> pa.Table:
    """The rows from `start` to the end of its row group, as a table with the features in its schema."""
    numbers = range(start, min(start + ROWS_PER_GROUP, rows))
    labels = [label_of(row, rows) for row in numbers]
    images = [
        {"bytes": jpeg(label, split, row, seed), "path": f"{split}-{row:06d}.jpg"}
        for row, label in zip(numbers, labels, strict=True)
    ]
    return pa.table({"image": images, "label": labels, "row": list(numbers)}, schema=FEATURES.arrow_schema)


def parquet_names(split: str, rows: int) -> list[str]:
    """The files of a split, relative to FOLDER, named as the Hub names them."""
    count = math.ceil(rows / ROWS_PER_FILE)
    return [f"data/{split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]


def write_parquet(path: Path, groups: Iterator[pa.Table]) -> None:
    """Write one row group a table, beside `path`; the file gets its name when it is whole."""
    partial = path.with_name(f".{path.name}.partial")
    with pq.ParquetWriter(partial, FEATURES.arrow_schema) as writer:
        for table in groups:
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    os.replace(partial, path)


def write_split(folder: Path, split: str, rows: int, seed: int, pool: ThreadPool) -> None:
    """Write all files of a split; the pool draws one file's groups while this thread writes them in order."""
    for number, name in enumerate(parquet_names(split, rows)):
        first = number * ROWS_PER_FILE
        starts = range(first, min(first + ROWS_PER_FILE, rows), ROWS_PER_GROUP)
        groups = pool.imap(lambda start: group(split, rows, start, seed), starts)
        write_parquet(folder / name, groups)


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What the marker says of FOLDER; None where there is none, or none that can be read."""
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def write_marker(folder: Path, marker: dict[str, Any]) -> None:
    partial = folder / f"{MARKER}.partial"
    partial.write_text(json.dumps(marker, indent=1) + "\n")
    os.replace(partial, folder / MARKER)


def sizes_bytes(folder: Path) -> dict[str, int]:
    """The finished parquet files in FOLDER and their sizes."""
    finished = sorted((folder / "data").glob("[!.]*.parquet"))
    return {f"data/{path.name}": path.stat().st_size for path in finished}


def clear(folder: Path) -> None:
    """Remove what an earlier run left, or `load_dataset` would join two samples; never another's files."""
    left = list((folder / "data").glob("[!.]*.parquet"))
    if left and read_marker(folder) is None:
        raise FileExistsError(
            f"{left[0]} was not written by this script. Choose a new folder, or delete {folder} yourself"
        )
    for path in [*left, *(folder / "data").glob(".*.partial")]:
        path.unlink()


def write_sample(folder: str | Path, train: int = 1200, test: int = 300, seed: int = 0) -> bool:
    """Write the sample into `folder`; False if it was there already, whole and with the same options."""
    folder = Path(folder)
    counts = {"train": train, "test": test}
    marker = {"version": VERSION, "pillow": pillow_version, "pyarrow": pa.__version__, "seed": seed, **counts}
    if read_marker(folder) == {**marker, "files": sizes_bytes(folder)}:
        return False
    (folder / "data").mkdir(parents=True, exist_ok=True)
    clear(folder)
    write_marker(folder, marker)
    # Threads are enough (1.8 times one on two cores): Pillow lets go of the interpreter while it resizes and
    # encodes. A pool of processes would ask the caller's script for a `__main__` guard.
    with ThreadPool() as pool:
        for split, rows in counts.items():
            write_split(folder, split, rows, seed, pool)
    write_marker(folder, {**marker, "files": sizes_bytes(folder)})
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a small labeled image data set as parquet files.")
    parser.add_argument("folder", type=Path, help="folder to write the data set to")
    parser.add_argument(
        "--train", type=int, default=1200, metavar="N", help="number of rows in the train split (default: 1200)"
    )
    parser.add_argument(
        "--test", type=int, default=300, metavar="N", help="number of rows in the test split (default: 300)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random parts (default: 0)")
    options = parser.parse_args()
    try:
        written = write_sample(options.folder, options.train, options.test, options.seed)
    except OSError as error:
        sys.exit(f"error: {error}.")
    rows = f"{options.train:,} train and {options.test:,} test images in {len(CLASSES)} classes"
    print(f"{options.folder} {'now contains' if written else 'already contains'} {rows}.")


if __name__ == "__main__":
    main()
