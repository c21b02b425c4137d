"""Write large photographs as Hub-style parquet, for benchmarks/bench_convert.py: 1,500 to 3,000 px on the short side.

    python benchmarks/bench_photos.py build/bench-convert/photos --rows 160 [--photos FOLDER]

Each photograph is one class; each sample is a random window of it, at its own size where that is large enough and else
enlarged, saved as JPEG of quality 85 to 95. FOLDER holds JPEGs of at least 3,000 x 2,000 px. Without it, they come from
/usr/share/backgrounds if there are some; else from Debian's package ukui-wallpapers, which apt-get downloads and
dpkg unpacks beside the set, nothing is installed; else scikit-image's photographs stand in, enlarged several times:
they decode faster, as an enlarged picture has less to decode. The set's README.json says which.

Every sample depends on (photographs, seed, row) alone. Rows are sorted by class, as in scripts/sample_source.py.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

VERSION = 1  #: raise it when the samples change, so that sets of an older version are written again
ABOUT = "README.json"  #: what the set is made of, and whether it is whole
SHORT_PX = (1500, 3000)  #: of a sample's short side
ASPECT = (3 / 4, 4 / 3)  #: of a sample, width over height
LEAST_PX = (3000, 2000)  #: of a photograph, width and height
FILES = 4
ROWS_PER_GROUP = 10
BACKGROUNDS = Path("/usr/share/backgrounds")
PACKAGE = "ukui-wallpapers"


# The photographs.


def photographs_in(folder: Path) -> list[Path]:
    """JPEGs of sufficient size below a folder, by name."""
    found = []
    for path in sorted(folder.rglob("*.jp*g")):
        with Image.open(path) as image:
            if image.width >= LEAST_PX[0] and image.height >= LEAST_PX[1]:
                found.append(path)
    return found


def unpacked_package(work: Path) -> Path:
    """Debian's package of photographs, unpacked; an empty folder where it cannot be had."""
    folder = work / PACKAGE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return folder
    fetched = subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=False, capture_output=True)
    for package in folder.glob("*.deb") if fetched.returncode == 0 else ():
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=False, capture_output=True)
    return folder


def enlarged_photographs() -> list[Path]:
    """Those inside scikit-image's wheel."""
    from importlib.resources import files

    from sample_source import PHOTOS

    return [Path(str(files("skimage") / "data" / name)) for name in PHOTOS.values()]


def find_photographs(work: Path, folder: Path | None) -> tuple[list[Path], str]:
    """The photographs, and in words where they come from."""
    if folder:
        if found := photographs_in(folder):
            return found, f"photographs of {folder.name}"
        sys.exit(f"error: {folder} holds no JPEG of {LEAST_PX[0]} x {LEAST_PX[1]} px or more")
    if found := photographs_in(BACKGROUNDS):
        return found, f"photographs of {BACKGROUNDS}"
    if found := photographs_in(unpacked_package(work)):
        return found, f"photographs of Debian's package {PACKAGE}"
    return enlarged_photographs(), "scikit-image's photographs, enlarged: no large photographs were found"


# The samples.


@lru_cache(maxsize=2)
def photograph(path: Path) -> Image.Image:
    """A photograph as RGB; rows are sorted by class, so few are needed at a time."""
    with Image.open(path) as opened:
        return opened.convert("RGB")


def jpeg(path: Path, row: int, seed: int) -> bytes:
    """One sample as a JPEG file's bytes."""
    source = photograph(path)
    random = np.random.default_rng([seed, row])
    aspect = math.exp(random.uniform(*np.log(ASPECT)))
    unit = (max(aspect, 1.0), max(1 / aspect, 1.0))
    wanted_px = random.uniform(*SHORT_PX)
    short_px = min(wanted_px, source.width / unit[0], source.height / unit[1])  # of the window
    width, height = int(short_px * unit[0]), int(short_px * unit[1])
    x, y = (int(random.integers(0, room + 1)) for room in (source.width - width, source.height - height))
    window = source.crop((x, y, x + width, y + height))
    if short_px < wanted_px:
        scale = wanted_px / short_px
        window = window.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    window.save(file, "JPEG", quality=int(random.integers(85, 96)))
    return file.getvalue()


def features(photos: list[Path]) -> datasets.Features:
    """The columns of scripts/sample_source.py, with these photographs as classes."""
    names = [path.stem for path in photos]
    row = datasets.Value("int64")
    return datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names), "row": row})


def groups(photos: list[Path], numbers: range, rows: int, seed: int) -> Iterator[pa.Table]:
    """Some rows of the set, a row group at a time."""
    schema = features(photos).arrow_schema
    with ThreadPool() as pool:
        for start in numbers[::ROWS_PER_GROUP]:
            part = range(start, min(start + ROWS_PER_GROUP, numbers.stop))
            labels = [row * len(photos) // rows for row in part]
            jobs = [(photos[label], row, seed) for row, label in zip(part, labels, strict=True)]
            images = [
                {"bytes": data, "path": f"train-{row:06d}.jpg"}
                for row, data in zip(part, pool.starmap(jpeg, jobs), strict=True)
            ]
            yield pa.table({"image": images, "label": labels, "row": list(part)}, schema=schema)


def write_photos(folder: Path, rows: int, photos: list[Path], origin: str, seed: int = 0) -> None:
    """Write the set, unless it is there already, whole and of the same photographs."""
    sizes = {path.name: path.stat().st_size for path in photos}
    about = {"version": VERSION, "rows": rows, "seed": seed, "photographs": sizes, "origin": origin}
    written = folder / ABOUT
    if written.exists() and json.loads(written.read_text()) == {**about, "whole": True}:
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    written.write_text(json.dumps({**about, "whole": False}))
    bounds = [rows * number // FILES for number in range(FILES + 1)]
    for number in range(FILES):
        path = folder / f"data/train-{number:05d}-of-{FILES:05d}.parquet"
        with pq.ParquetWriter(path, features(photos).arrow_schema) as writer:
            for table in groups(photos, range(bounds[number], bounds[number + 1]), rows, seed):
                writer.write_table(table)
    written.write_text(json.dumps({**about, "whole": True}, indent=1) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="removed if it holds another set")
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    written = options.folder / ABOUT
    if options.folder.exists() and any(options.folder.iterdir()) and not written.exists():
        sys.exit(f"error: {options.folder} is no set of this script. Give a new folder, or remove it yourself.")
    photos, origin = find_photographs(options.folder.parent, options.photos)
    write_photos(options.folder, options.rows, photos, origin)
    print(f"{options.folder} holds windows of {origin}")


if __name__ == "__main__":
    main()
