"""The loaders that gpu_report.py times: ours by backend and decoder, and decoders bare; functions Settings -> Batches.

A batch is ready on its device when it is given. What has no complete annotations is imported as Any, by name.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import cycle
from typing import Any

from gpu_report_part import LeftOut, Settings, needed

FALLBACK = "decoding on the GPU does not work on this machine"  #: how a loader says that the CPU decodes in its place
LIBRARIES = {"dali": "nvidia.dali.fn", "torchvision": "torchcodec.decoders"}  #: that decode on the GPU, by backend

Batches = Generator[int, None, None]  #: without end; how many images each batch has


@contextmanager
def opened(settings: Settings, *, backend: str, decode: str) -> Iterator[Any]:
    """A `wdsremux.DataLoader`, as one trains with it; what another decoder did is not measured under its name."""
    import torch

    needed("wdsremux", *([LIBRARIES[backend]] if decode == "gpu" or backend == "dali" else []))
    options = {"dtype": torch.float16, "memory_format": torch.channels_last, "num_threads": settings.threads}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", FALLBACK)
        with importlib.import_module("wdsremux").DataLoader(
            settings.folder,
            settings.batch,
            size=settings.size,
            backend=backend,
            decode=decode,
            device=settings.device,
            **options,
        ) as made:
            yield made


def loader(settings: Settings, *, backend: str, decode: str) -> Batches:
    """Ours, epoch after epoch."""
    with opened(settings, backend=backend, decode=decode) as made:
        if not len(made):
            raise LeftOut(f"{settings.folder} holds fewer than {settings.batch} pictures, which is a batch")
        while True:
            for images, _ in made:
                yield len(images)


def bare_torchcodec(settings: Settings) -> Batches:
    """TorchCodec's nvJPEG: whole pictures as tensors."""
    import torch

    needed("wdsremux", LIBRARIES["torchvision"])
    decode_jpeg = importlib.import_module("torchcodec.decoders").decode_jpeg
    files = [[torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in batch] for batch in encoded(settings)]
    for batch in cycle(files):
        yield len(decode_jpeg(batch, mode="RGB", device=settings.device))  # waits for the device


def bare_dali(settings: Settings) -> Batches:
    """DALI's decoder with the options that our graph gives it."""
    import numpy as np
    import torch

    needed("wdsremux", LIBRARIES["dali"])
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

    opened = importlib.import_module("wdsremux.loading.reader").Reader(settings.folder / "train", verify_crc=False)
    with closing(opened) as reader:
        found = []
        for first in range(0, len(reader.table) - settings.batch + 1, settings.batch):
            batch = reader.read(np.arange(first, first + settings.batch))
            found.append([batch.image(i).tobytes() for i in range(len(batch))])
    if not found:
        raise LeftOut(f"{settings.folder} holds fewer than {settings.batch} pictures, which is a batch")
    return found


def cores() -> int:
    """As many threads as a loader takes by default."""
    return int(importlib.import_module("wdsremux.loading.world").threads())


CONTENDERS: dict[str, Callable[[Settings], Batches]] = {
    f"{backend}, {decode}": partial(loader, backend=backend, decode=decode)
    for backend in ("dali", "torchvision")
    for decode in ("gpu", "cpu")
} | {"bare dali": bare_dali, "bare torchcodec": bare_torchcodec}
