"""The loaders that bench_gpu.py times: ours by backend and decoder, and decoders bare; functions Settings -> Batches.

A batch is ready on its device when it is given. What has no complete annotations is imported as Any, by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all contenders are given."""

    out: Path
    device: str
    batch: int
    size: int  #: px, side of the crop
    images: int  #: timed in each run, at least
    threads: int | None  #: that decode; None: this process's share of the cores


Batches = Generator[int, None, None]  #: without end; how many images each batch has


def loader(settings: Settings, *, backend: str, decode: str) -> Batches:
    """`wdsremux.DataLoader`, as one trains with it."""
    import torch

    options = {"dtype": torch.float16, "memory_format": torch.channels_last, "num_threads": settings.threads}
    made = importlib.import_module("wdsremux").DataLoader(
        settings.out,
        settings.batch,
        size=settings.size,
        backend=backend,
        decode=decode,
        device=settings.device,
        **options,
    )
    with made:
        while True:
            for images, _ in made:
                yield len(images)


def bare_torchcodec(settings: Settings) -> Batches:
    """TorchCodec's nvJPEG: whole pictures as tensors."""
    import torch

    decode_jpeg = importlib.import_module("torchcodec.decoders").decode_jpeg
    files = [[torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in batch] for batch in encoded(settings)]
    for batch in cycle(files):
        yield len(decode_jpeg(batch, mode="RGB", device=settings.device))  # waits for the device


def bare_dali(settings: Settings) -> Batches:
    """DALI's decoder with the options that our graph gives it."""
    import numpy as np
    import torch

    fn, pipeline = importlib.import_module("nvidia.dali.fn"), importlib.import_module("nvidia.dali.pipeline")
    types = importlib.import_module("nvidia.dali.types")
    device = torch.device(settings.device)
    number = None if device.type == "cpu" else device.index or 0
    files = cycle([[np.frombuffer(file, np.uint8) for file in batch] for batch in encoded(settings)])
    decoding = pipeline.Pipeline(settings.batch, settings.threads or cores(), device_id=number, prefetch_queue_depth=2)
    with decoding:
        images = fn.external_source(lambda: next(files), dtype=types.UINT8, ndim=1)
        options = {} if number is None else {"hw_decoder_load": 1.0}
        where = "cpu" if number is None else "mixed"
        decoding.set_outputs(fn.decoders.image(images, device=where, jpeg_fancy_upsampling=True, **options))
    decoding.build()
    while True:
        (decoded,) = decoding.run()
        yield len(decoded)


def encoded(settings: Settings) -> list[list[bytes]]:
    """The files of the train split in batches, as many as fill them."""
    import numpy as np

    opened = importlib.import_module("wdsremux.loading.reader").Reader(settings.out / "train", verify_crc=False)
    with closing(opened) as reader:
        found = []
        for first in range(0, len(reader.table) - settings.batch + 1, settings.batch):
            batch = reader.read(np.arange(first, first + settings.batch))
            found.append([batch.image(i).tobytes() for i in range(len(batch))])
    if not found:
        raise SystemExit(f"{settings.out} holds fewer than {settings.batch} pictures; choose a smaller --batch.")
    return found


def cores() -> int:
    """As many threads as a loader takes by default."""
    return int(importlib.import_module("wdsremux.loading.world").threads())


CONTENDERS: dict[str, Callable[[Settings], Batches]] = {
    f"{backend}, {decode}": partial(loader, backend=backend, decode=decode)
    for backend in ("dali", "torchvision")
    for decode in ("gpu", "cpu")
} | {"bare dali": bare_dali, "bare torchcodec": bare_torchcodec}


def rehearsed(name: str) -> bool:
    """Whether a contender can run where the device is a CPU."""
    return not name.endswith(", gpu")
