"""Tar and Parquet side by side, at several sizes of picture: bytes on disk, converting and loading.

    python benchmarks/bench_containers.py build/bench-containers [--page docs/containers.md] [--sides 32,64,128,256]

The photographs of scripts/sample_source.py, shrunk to one and a half times the size and saved as JPEG, are converted
with the recipe resize:SIDE into both containers, in one process with two workers, and read back with float crops.
Rounds are interleaved; the table has the medians. `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from readme_part import replace_part

import wdsremux
from wdsremux.conversion.engines import forkserver
from wdsremux.conversion.events import Event, Finished, Planned

BEGIN, END = "<!-- containers: made by benchmarks/bench_containers.py -->", "<!-- end of containers -->"
SIDES = {32: 20_000, 64: 16_000, 128: 8_000, 256: 4_000}  #: pictures of each size
ENLARGED = 1.5  #: the short side of a source's picture, in that of the converted one
PHOTOS = 400
SAMPLE = Path(__file__).parents[1] / "scripts" / "sample_source.py"
CONTAINERS = ("tar", "parquet")
Figures = dict[str, float]


def write_source(photographs: Path, folder: Path, side: int, count: int) -> None:
    """Parquet of `count` pictures, a little larger than what is made of them."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    (folder / "data").mkdir(parents=True)
    shrunk = list(_shrunk(photographs, round(ENLARGED * side)))
    with pq.ParquetWriter(folder / "data" / "train-00000-of-00001.parquet", features.arrow_schema) as writer:
        for first in range(0, count, 100):
            numbers = range(first, min(first + 100, count))
            images = [{"bytes": shrunk[number % len(shrunk)], "path": None} for number in numbers]
            labels = [number % 10 for number in numbers]
            writer.write_table(pa.table({"image": images, "label": labels}, schema=features.arrow_schema))


def _shrunk(photographs: Path, side: int) -> Iterator[bytes]:
    for path in sorted(photographs.glob("data/train-*.parquet")):
        for row in pq.read_table(path, columns=["image"]).column("image").to_pylist():
            with Image.open(io.BytesIO(row["bytes"])) as image:
                scale = side / min(image.size)
                small = image.resize((max(side, round(image.width * scale)), max(side, round(image.height * scale))))
            file = io.BytesIO()
            small.save(file, "JPEG", quality=90)
            yield file.getvalue()


def convert(source: Path, out: Path, side: int, container: str) -> Figures:
    """Images/s from the plan to the manifest, and what lies on the disk."""
    seen: dict[type[Event], float] = {}
    shutil.rmtree(out, ignore_errors=True)
    done = wdsremux.convert(
        source,
        out,
        recipe=f"resize:{side}",
        container=container,
        workers=2,
        tell=lambda event: seen.update({type(event): time.perf_counter()}),
    )
    files = [path for path in (out / "train").iterdir() if path.is_file()]
    return {
        "convert": done.nsamples / (seen[Finished] - seen[Planned]),
        "bytes": sum(path.stat().st_size for path in files) / done.nsamples,
    }


def load(out: Path, side: int) -> Figures:
    """Images/s of an epoch, its first batches left out."""
    with wdsremux.DataLoader(out, 256, size=side, backend="torchvision", device="cpu") as loader:
        for _ in loader:
            pass
        start = time.perf_counter()
        images = sum(len(labels) for _, labels in loader)
        return {"load": images / (time.perf_counter() - start)}


def measure(folder: Path, side: int, count: int, rounds: int) -> dict[str, Figures]:
    """The medians of both containers."""
    photographs, source = folder / "photographs", folder / f"source-{side}"
    if not photographs.exists():
        subprocess.run([sys.executable, SAMPLE, photographs, "--train", str(PHOTOS), "--test", "10"], check=True)
    if not source.exists():
        write_source(photographs, source, side, count)
    rows: dict[str, list[Figures]] = {container: [] for container in CONTAINERS}
    with forkserver.hold():
        for _ in range(rounds):
            for container in CONTAINERS:
                out = folder / f"{container}-{side}"
                rows[container].append(convert(source, out, side, container) | load(out, side))
    return {
        container: {name: statistics.median(row[name] for row in found) for name in found[0]}
        for container, found in rows.items()
    }


def table(figures: Mapping[int, dict[str, Figures]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| Short side | Bytes per image, tar | Parquet | Convert, tar (images/s) | Parquet | Load, tar (images/s) | "
        "Parquet |",
        "|---|---|---|---|---|---|---|",
    ]
    for side, of_side in figures.items():
        cells = [f"{of_side[c][name]:,.0f}" for name in ("bytes", "convert", "load") for c in CONTAINERS]
        lines.append(f"| {side} px | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sides", default=",".join(map(str, SIDES)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the pictures that are usually converted")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    sides = [int(side) for side in options.sides.split(",")]
    figures = {}
    for side in sides:
        figures[side] = measure(options.folder, side, max(300, round(SIDES[side] * options.share)), options.rounds)
        print(side, json.dumps(figures[side]), flush=True)
    print(table(figures))
    if options.page:
        replace_part(options.page, BEGIN, END, f"\n{table(figures)}\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
