"""Batches for a backend, made of real files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wdsremux import codec
from wdsremux.loading.augment import PRESETS, Augment, Parameters
from wdsremux.loading.backends import CPU, GPU, Backend, Batch, Setup, find
from wdsremux.loading.device import Destination
from wdsremux.loading.output import Output
from wdsremux.loading.reader import Reader
from wdsremux.loading.reader.encoded import Encoded, packed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UINT8: dict[str, Any] = {"dtype": torch.uint8}
#: Every way through the backends, by name: the backend, and what decodes. Ways for a GPU are taken on a CPU as far as
#: they go there: the same code with another device.
WAYS = {"dali": ("dali", CPU), "torchvision": ("torchvision", CPU)}
WAYS |= {"dali, as for a GPU": ("dali", GPU), "torchvision, as for a GPU": ("torchvision", GPU)}
#: The library that each needs, as it is imported and as it is called.
LIBRARIES = {("dali", CPU): ("nvidia.dali", "DALI"), ("torchvision", CPU): ("simplejpeg", "simplejpeg")}
LIBRARIES |= {("dali", GPU): ("nvidia.dali", "DALI"), ("torchvision", GPU): ("torchcodec.decoders", "TorchCodec")}


def read_batches(
    folder: Path, sizes: Sequence[int], augment: Augment = PRESETS["train"], size_px: int = 64
) -> list[Batch]:
    """Consecutive samples of a split, in batches of these sizes."""
    reader = Reader(folder, verify_crc=True)
    found, position = [], 0
    for size in sizes:
        ids = np.arange(position, position + size)
        position += size
        encoded = reader.read(ids)
        drawn = augment.parameters(ids, encoded.width, encoded.height, 0, 0, size_px)
        found.append(Batch(0, position, encoded, drawn))
    reader.close()
    return found


def make_batch(images: Sequence[bytes], boxes: Sequence[Sequence[int]], flips: Sequence[bool]) -> Batch:
    """A batch of given JPEG files."""
    sizes = np.array([len(image) for image in images])
    width, height = (np.array([getattr(codec.header(image), side) for image in images]) for side in ("width", "height"))
    buffer = np.frombuffer(b"".join(images), np.uint8).copy()  # as memory that was read into
    encoded = Encoded(np.arange(len(images)), width, height, buffer, packed(sizes), sizes)
    return Batch(0, len(images), encoded, Parameters(np.array(boxes, np.int64), np.array(flips)))


def in_rows(encoded: Encoded) -> Encoded:
    """The same images, each at the beginning of a row, in memory that was full of JPEG markers."""
    most = int(encoded.sizes.max())
    rows = np.resize(np.array([0xFF, 0xD0], np.uint8), (len(encoded), most))
    for i in range(len(encoded)):
        rows[i, : encoded.sizes[i]] = encoded.image(i)
    return replace(encoded, buffer=rows.reshape(-1), starts=most * np.arange(len(encoded)))


def spoil(batch: Batch, *places: int, damaged: bool = False) -> Batch:
    """The same batch, with text in place of some images: so written at the conversion, or `damaged` since."""
    encoded = batch.encoded
    buffer = encoded.buffer.copy()
    text = np.frombuffer(b"<html>404</html>", np.uint8)
    for i in places:
        image = buffer[encoded.starts[i] : encoded.starts[i] + encoded.sizes[i]]
        image[:] = np.resize(text, len(image))
    crc32 = encoded.crc32 if damaged else None
    return replace(batch, encoded=replace(encoded, buffer=buffer, crc32=crc32))


@contextmanager
def made(
    way: str,
    batch_size: int = 16,
    size: int = 64,
    *,
    device: str = "cpu",
    after_crop: bool = False,
    restart_rows: bool = False,
    skip: bool = False,
    **output: Any,
) -> Iterator[Backend]:
    """A backend with two threads, closed at the end."""
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "memory_format": torch.contiguous_format,
        "mean": MEAN,
        "std": STD,
    } | output
    name, decode = WAYS[way]
    destination = Destination(torch.device(device))
    setup = Setup(
        output=Output(size=size, **options),
        batch_size=batch_size,
        num_threads=2,
        destination=destination,
        decode=decode,
        after_crop=after_crop,
        restart_rows=restart_rows,
        skip=skip,
    )
    backend = find(name, destination.device)(setup)
    try:
        yield backend
    finally:
        backend.close()


def images_of(backend: Backend, batches: Sequence[Batch]) -> list[torch.Tensor]:
    """What a backend makes of these batches; each with its own, in order."""
    results = list(backend.run(iter(batches)))
    assert [batch for batch, _ in results] == list(batches)
    return [images for _, images in results]
