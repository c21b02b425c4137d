"""Both backends give the same batch, and it is the one that torchvision and Pillow give."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tests.contracts.batches import MEAN, STD, UINT8, images_of, made, read_batches
from wdsremux import DataLoader
from wdsremux.loading.augment import PRESETS, WHOLE, Augment
from wdsremux.loading.backends import BACKENDS
from wdsremux.loading.output import DTYPES, LAYOUTS

LIMIT = 0.5 / 255  #: of the mean absolute difference of a sample, before normalising


def epoch(
    folder: Path, backend: str, augment: str | None, dtype: torch.dtype, layout: torch.memory_format
) -> list[torch.Tensor]:
    """Images from 0 to 1, labels and ids of 150 samples."""
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    with DataLoader(
        folder,
        50,
        size=96,
        augment=augment,
        backend=backend,
        dtype=dtype,
        memory_format=layout,
        fields=("image", "label", "id"),
    ) as loader:
        batches = [batch for _, batch in zip(range(3), loader, strict=False)]
    images, labels, ids = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if dtype == torch.uint8:
        return [images / 255, labels, ids]
    return [images.float() * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None], labels, ids]


@pytest.mark.parametrize("augment", ["train", "eval", None])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_backends_agree(converted: Path, augment: str | None, dtype: torch.dtype, layout: torch.memory_format) -> None:
    (one, *one_rest), (other, *other_rest) = (epoch(converted, name, augment, dtype, layout) for name in BACKENDS)
    for a, b in zip(one_rest, other_rest, strict=True):
        assert torch.equal(a, b)
    difference = (one - other).abs()
    if dtype == torch.bfloat16:  # 8 bits of mantissa: a step may be 1/64 of a normalised value
        assert difference.mean((1, 2, 3)).max() < LIMIT
        return
    assert difference.mean((1, 2, 3)).max() < LIMIT
    # At the outermost pixels DALI's filter repeats the picture's edge where torch's leaves it out: up to 17 of 255.
    assert difference[:, :, 1:-1, 1:-1].max() < 1.5 / 255
    assert difference.max() < 25 / 255
    # Samples differ from each other by far more than backends do.
    assert (one - one.roll(1, 0)).abs().mean((1, 2, 3)).min() > 10 * LIMIT


@pytest.mark.parametrize("augment", [PRESETS["train"], PRESETS["eval"], WHOLE], ids=["train", "eval", "whole"])
@pytest.mark.parametrize("size", [64, 224])
def test_torchvision_is_torchvision(converted: Path, augment: Augment, size: int) -> None:
    """Against its own functional transforms of what Pillow decodes: within 1 of 255."""
    (batch,) = read_batches(converted / "train", [60], augment, size)
    with made("torchvision", 60, size, **UINT8) as backend:
        (images,) = images_of(backend, [batch])
    for i, (x, y, width, height) in enumerate(batch.parameters.boxes.tolist()):
        with Image.open(io.BytesIO(batch.encoded.image(i).tobytes())) as file:
            picture = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)
        wanted = v2.functional.resized_crop(picture, y, x, height, width, [size, size], antialias=True)
        if batch.parameters.flips[i]:
            wanted = v2.functional.horizontal_flip(wanted)
        assert (images[i].int() - wanted.int()).abs().max() <= 1
