"""What a converter wrote: how many pictures, and how close they are to the best that could be made of the source.

    python benchmarks/bench_quality.py SOURCE NAME FORMAT OUT [NAME FORMAT OUT ...]

Prints one JSON object: by NAME, the number of pictures in OUT and the mean PSNR in dB of all of them, or the reason why
there is none. FORMAT is a key of `READERS`.

The reference is the source's picture, decoded by Pillow and then resized with a triangle filter (antialiased bilinear)
in float64 without rounding between; PSNR is over the RGB values of the JPEG that was written. What q90 and 4:2:0 lose
is in it, for all alike. Each picture's source is the one of the same label whose thumbnail is nearest, as few formats
keep an order; converters may differ by one pixel in the long side, so the reference is made for the size that is found.
"""

from __future__ import annotations

import io
import json
import math
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]  #: [H, W, 3], RGB, 0 to 255
Baked = tuple[bytes, int]  #: JPEG, label

THUMBNAIL_PX = 16


# What lies in an output folder.


def read_tar(out: Path) -> Iterator[Baked]:
    """Tar shards: a JPEG beside its label, which is a number of its own or stands in the JSON."""
    for path in sorted(out.rglob("*.tar")):
        with tarfile.open(path) as archive:
            jpegs, labels = {}, {}
            for member in archive:
                key, _, kind = member.name.partition(".")
                file = archive.extractfile(member)
                content = file.read() if file else b""
                if kind in ("jpg", "jpeg"):
                    jpegs[key] = content
                elif kind == "cls":
                    labels[key] = int(content)
                elif kind == "json" and key not in labels:
                    labels[key] = json.loads(content)["label"]
            yield from ((jpegs[key], labels[key]) for key in jpegs)


def jpeg_of(image: Any) -> bytes:
    """A parquet or Arrow cell's JPEG."""
    found: bytes = image["bytes"] if isinstance(image, dict) else image
    return found


def read_parquet(out: Path) -> Iterator[Baked]:
    """Parquet files with columns image and label."""
    import pyarrow.parquet as pq

    for path in sorted(out.rglob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(100, columns=["image", "label"]):
                yield from ((jpeg_of(row["image"]), row["label"]) for row in batch.to_pylist())


def read_arrow(out: Path) -> Iterator[Baked]:
    """What `Dataset.save_to_disk` wrote."""
    import datasets

    rows = datasets.load_from_disk(str(out)).cast_column("image", datasets.Image(decode=False))
    return ((jpeg_of(row["image"]), row["label"]) for row in rows)


def read_litdata(out: Path) -> Iterator[Baked]:
    """Chunks of LitData."""
    import litdata  # type: ignore[import-not-found,unused-ignore]

    rows = litdata.StreamingDataset(str(out), shuffle=False)
    return ((rows[number]["jpeg"], rows[number]["label"]) for number in range(len(rows)))


def read_mds(out: Path) -> Iterator[Baked]:
    """Shards of MosaicML's streaming."""
    from streaming import LocalDataset  # type: ignore[import-not-found,unused-ignore]

    rows = LocalDataset(str(out))
    return ((rows[number]["jpeg"], rows[number]["label"]) for number in range(len(rows)))


READERS: dict[str, Callable[[Path], Iterator[Baked]]] = {
    "tar": read_tar,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "litdata": read_litdata,
    "mds": read_mds,
}


# The reference.


def pixels(encoded: bytes) -> Floats:
    """A picture's values."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"), np.float64)


def resized_rows(image: Floats, rows: int) -> Floats:
    """The first axis resized with a triangle filter as wide as the scale, normalised at the edges.

    Args:
        image: [N, ...]
        rows: of the result.

    Returns:
        [rows, ...]
    """
    scale = len(image) / rows
    reach = max(scale, 1.0)  # of the triangle to either side, in source pixels
    flat = image.reshape(len(image), -1)
    result = np.empty((rows, flat.shape[1]))
    for row in range(rows):
        centre = (row + 0.5) * scale
        first, last = max(0, math.floor(centre - reach)), min(len(image), math.ceil(centre + reach))
        weights = np.maximum(0.0, 1 - np.abs(np.arange(first, last) + 0.5 - centre) / reach)
        result[row] = (weights / weights.sum()) @ flat[first:last]
    return result.reshape(rows, *image.shape[1:])


def resized(image: Floats, height: int, width: int) -> Floats:
    """A picture resized without rounding."""
    upright = resized_rows(image, height).transpose(1, 0, 2)
    return resized_rows(upright, width).transpose(1, 0, 2)


def thumbnail(image: Floats) -> Floats:
    """A few pixels to know a picture by."""
    return resized(image, THUMBNAIL_PX, THUMBNAIL_PX)


def psnr_db(image: Floats, reference: Floats) -> float:
    """Peak signal to noise ratio over all values."""
    error = float(np.mean((image - reference) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


class Originals:
    """The pictures of a source, to be found again and compared with."""

    def __init__(self, source: Path) -> None:
        self.rows = list(read_parquet(source))
        self._thumbnails = [thumbnail(pixels(data)) for data, _ in self.rows]
        self.reference = cache(self._reference)  # all converters ask for the same

    def _reference(self, row: int, height: int, width: int) -> Floats:
        return resized(pixels(self.rows[row][0]), height, width)

    def find(self, image: Floats, label: int) -> int:
        """The row that a picture was made of."""
        wanted = thumbnail(image)
        rows = [row for row, (_, its) in enumerate(self.rows) if its == label]
        if not rows:
            raise ValueError(f"label {label} is not in the source")
        return min(rows, key=lambda row: float(np.sum((self._thumbnails[row] - wanted) ** 2)))

    def judge(self, baked: Iterator[Baked]) -> dict[str, float]:
        """Number and mean PSNR of what was made of all rows of this source."""
        found, values = set(), []
        for jpeg, label in baked:
            image = pixels(jpeg)
            row = self.find(image, label)
            found.add(row)
            values.append(psnr_db(image, self.reference(row, *image.shape[:2])))
        if len(values) != len(self.rows) or len(found) != len(self.rows):
            raise ValueError(f"{len(values)} pictures of {len(found)} rows, of a source of {len(self.rows)}")
        return {"images": len(values), "psnr_db": float(np.mean(values))}


def judgement(originals: Originals, form: str, out: Path) -> dict[str, Any]:
    """Of one output; a broken one is said, and the others go on."""
    try:
        return originals.judge(READERS[form](out))
    except Exception as error:  # whatever a peer's reader raises
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Judge outputs that were all made of one source."""
    originals = Originals(Path(sys.argv[1]))
    left = iter(sys.argv[2:])
    found = {name: judgement(originals, form, Path(out)) for name, form, out in zip(left, left, left, strict=True)}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
