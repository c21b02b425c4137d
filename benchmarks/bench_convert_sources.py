"""The photographs that benchmarks/bench_convert.py converts, in two sizes, as parquet: image, label and row."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench_converters import files
from bench_machine import ROOT, environment, make_source

FEW = 60  #: images: they take hardly any time, and are enough for their mean quality
PARTS = 6  #: files of a set: an even number, so that converters which share out files share them out evenly
ROWS_PER_GROUP = 100  #: at most


@dataclass(frozen=True, slots=True)
class Size:
    """One of the two sizes."""

    words: str  #: pixels of the short side
    images: int  #: in the whole set, unless another number is asked for
    repeats: int  #: of the whole set, in the one that shows whether memory grows with it; 0: not asked


SIZES = {"small": Size("400-700 px", 3000, 4), "large": Size("1,500-3,000 px", 288, 0)}


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of parquet, and how many images it holds."""

    path: Path
    images: int
    repeated: Source | None = None  #: the same files several times


def cut(source: Path, target: Path, rows: int, all_rows: int) -> Source:
    """Rows from all over a source, as `PARTS` files of equal length; in the page cache, as they were just written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.rmtree(target, ignore_errors=True)
    (target / "data").mkdir(parents=True)
    bounds = [rows * part // PARTS for part in range(PARTS + 1)]
    wanted = [row * all_rows // rows for row in range(rows)]
    table = pa.concat_tables([pq.read_table(path) for path in files(source)])
    for part in range(PARTS):
        path = target / f"data/train-{part:05d}-of-{PARTS:05d}.parquet"
        chosen = table.take(wanted[bounds[part] : bounds[part + 1]])
        pq.write_table(chosen, path, row_group_size=min(ROWS_PER_GROUP, max(1, rows // PARTS // 2)))
    return Source(target, rows)


def repeated(source: Source, times: int) -> Source:
    """A source of links to another's files, each of them several times."""
    path = source.path.with_name(f"{source.path.name}x{times}")
    shutil.rmtree(path, ignore_errors=True)
    (path / "data").mkdir(parents=True)
    links = files(source.path) * times
    for number, file in enumerate(links):
        os.link(file, path / "data" / f"train-{number:05d}-of-{len(links):05d}.parquet")
    return Source(path, source.images * times)


def large_photos(target: Path, rows: int, photos: Path | None) -> str:
    """Run benchmarks/bench_photos.py; what the photographs are, in words."""
    command = [sys.executable, str(ROOT / "benchmarks/bench_photos.py"), str(target), "--rows", str(rows)]
    command += ["--photos", str(photos)] if photos else []
    subprocess.run(command, check=True, env=environment(), stdout=sys.stderr)
    origin: str = json.loads((target / "README.json").read_text())["origin"]
    return origin


def make_sources(size: str, work: Path, images: int | None, photos: Path | None) -> tuple[Source, Source, str]:
    """A few and all photographs of one size, and what they are, in words."""
    count = images or SIZES[size].images
    made = work / f"made-{size}"
    if size == "small":
        make_source(made, count)
        origin = "windows of scikit-image's photographs, enlarged"
    else:
        origin = large_photos(made, count, photos)
    few = cut(made, work / f"few-{size}", min(FEW, count), count)
    whole = cut(made, work / f"whole-{size}", count, count)
    if times := SIZES[size].repeats:
        whole = Source(whole.path, whole.images, repeated(whole, times))
    return few, whole, origin
