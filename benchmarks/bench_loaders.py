"""What bench_load.py times: the work that all contenders do, our own loader, and the bare limit of the machine.

What has no complete annotations is imported as Any, by name. Nothing here imports `wdsremux` at its head: the file
has to run where only the peers are installed.
"""

from __future__ import annotations

import importlib
import io
import math
import random
import tarfile
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench_machine import CORES

if TYPE_CHECKING:
    import torch

    Images = Generator[torch.Tensor, None, None]  #: endless; each batch seen as [N, 3, 224, 224]

SIZE = 224  #: pixels, side of the crop


BATCH = 256


SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  #: ImageNet's, for pixels in [0, 1]


RESTARTS = "restarts"  #: the form of a set that was converted with --restart-rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where a contender finds the photos."""

    out: Path  #: a converted folder
    sets: Path  #: the same files in the peers' own forms, a folder each; see bench_load_sets.py
    source: Path  #: the unconverted parquet
    store: str | None = None  #: URL under which `out` and `sets` are to be read instead

    def tars(self) -> list[str]:
        """Paths or URLs of the training tars, in order."""
        found = sorted((self.out / "train").glob("*.tar"))
        if not found:
            raise SystemExit(f"No tars in {self.out / 'train'}: give an OUT of `wdsremux convert`, or none.")
        return [f"{self.store}/out/train/{path.name}" if self.store else str(path) for path in found]

    def parquet(self) -> list[str]:
        """Paths of the source's training files, in order."""
        return sorted(str(path) for path in (self.source / "data").glob("train-*.parquet"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A loader, what its script imports, and the form of the batches it claims to give."""

    stream: Callable[[Data], Images]
    imports: tuple[str, ...]  #: modules at the head of a script that uses it, besides torch
    form: str = "tars"  #: what it reads: "tars", RESTARTS, or one of bench_load_sets.FORMS
    peer: bool = True  #: runs in the peers' environment
    dtype: str = "float32"
    channels_last: bool = False


def ours(data: Data, *, backend: str, dtype: str, channels_last: bool, form: str) -> Images:
    """`wdsremux.DataLoader` as its users write it; dtype "uint8" is not normalised."""
    import torch

    loader = importlib.import_module("wdsremux").DataLoader(
        data.sets / form if form == RESTARTS else data.out,
        batch_size=BATCH,
        split="train",
        augment="train",
        size=SIZE,
        backend=backend,
        dtype=getattr(torch, dtype),
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    with loader:
        while True:
            for images, _ in loader:
                yield images


def bare(data: Data) -> Images:
    """The limit: decode, crop and resize of the same bytes on a thread a core, and nothing else.

    The files lie in memory, the order is theirs, pixels are neither flipped nor normalised, and the batch's memory is
    the same again and again.
    """
    import torch

    codec = importlib.import_module("wdsremux.codec")
    files = list(jpegs(data.tars()))
    batch = torch.empty((BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    places = batch.numpy()
    torch.set_num_threads(1)  # also what threads begin with that are not yet started

    def work(thread: int, first: int) -> None:
        draw = random.Random(first + thread)
        for i in range(thread, BATCH, CORES):
            pixels = codec.decode(files[(first + i) % len(files)])
            x, y, width, height = random_box(pixels.shape[1], pixels.shape[0], draw)
            places[i] = codec.resize(pixels[y : y + height, x : x + width].copy(), SIZE, SIZE)

    with ThreadPoolExecutor(CORES) as threads:
        first = 0
        while True:
            list(threads.map(work, range(CORES), [first] * CORES))
            yield batch.permute(0, 3, 1, 2)
            first += BATCH


def jpegs(tars: list[str]) -> Generator[bytes, None, None]:
    """Every JPEG file of tars on this machine, in order."""
    for path in tars:
        with tarfile.open(fileobj=io.BytesIO(Path(path).read_bytes())) as tar:
            for member in tar:
                if member.name.endswith(".jpg") and (file := tar.extractfile(member)):
                    yield file.read()


def random_box(width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
    """x, y, width, height of a random resized crop, drawn as torchvision does; in pixels."""
    for _ in range(10):
        area = width * height * draw.uniform(*SCALE)
        aspect = math.exp(draw.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return draw.randint(0, width - w), draw.randint(0, height - h), w, h
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side
