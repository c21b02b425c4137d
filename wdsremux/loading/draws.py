"""What a loader would give of some samples, epoch by epoch: to look at, not to train on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux import codec
from wdsremux.errors import ImageError
from wdsremux.loading import world
from wdsremux.loading.augment import Augment
from wdsremux.loading.backends import Batch, Setup, find
from wdsremux.loading.device import Destination
from wdsremux.loading.order import Ids
from wdsremux.loading.output import IMAGENET_MEAN, IMAGENET_STD, Output
from wdsremux.loading.reader import Reader
from wdsremux.loading.reader.encoded import fault

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Drawn:
    """Some samples, as they are stored and as they are trained on."""

    keys: list[str]  #: `__key__` of each
    labels: NDArray[np.int64]  #: [N]; -1 for none
    stored: list[codec.Pixels]  #: uint8 [H, W, 3] each
    trained: list[NDArray[np.uint8]]  #: uint8 [N, size, size, 3], one for each epoch


def draws(folder: Path, ids: Ids, augment: Augment, size: int, epochs: Sequence[int], seed: int = 0) -> Drawn:
    """Decode some samples, and augment them as `DataLoader(seed=seed)` does in these epochs, on the CPU.

    Args:
        folder: OUT/SPLIT.
        ids: of the samples, int64 [N].
        augment: what is drawn for each.
        size: pixels a side of what is trained on.
        epochs: of each sample there is one image for each of them.
        seed: of the loader.

    Raises:
        FormatError: if a shard is missing, changed or damaged.
        ImageError: if an image cannot be decoded.
    """
    with contextlib.closing(Reader(folder, verify_crc=True)) as reader:
        encoded = reader.read(ids)
        stored = []
        for i in range(len(encoded)):
            try:
                stored.append(codec.decode(encoded.image(i).data))
            except ImageError as error:
                raise fault(encoded, i, error) from error
        setup = Setup(
            output=Output(
                size=size,
                dtype=torch.uint8,
                memory_format=torch.channels_last,
                mean=IMAGENET_MEAN,
                std=IMAGENET_STD,
            ),
            batch_size=len(ids),
            num_threads=world.threads(),
            destination=Destination(_CPU),
            after_crop=augment.after_crop,
        )
        batches = (
            Batch(epoch, 0, encoded, augment.parameters(ids, encoded.width, encoded.height, seed, epoch, size))
            for epoch in epochs
        )
        with contextlib.closing(find("torchvision", _CPU)(setup)) as backend:
            trained = [images.permute(0, 2, 3, 1).numpy().copy() for _, images in backend.run(batches)]
        return Drawn(reader.keys(ids), reader.labels(ids), stored, trained)
