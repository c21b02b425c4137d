"""On a GPU, the same pictures as on the CPU: augmented, as decoded, and of every kind of JPEG."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import wdsremux
from tests.conftest import WriteSource, jpeg
from tests.support.augments import SINGLE_KINDS
from tests.support.batches import STD, read_batches
from tests.support.machine import Machine, Way
from wdsremux import Augment, DataLoader
from wdsremux.loading.augment import WHOLE

ALL_ERASED = {"erasing": 1.0, "erasing_scale": (0.2, 0.3)}


def by_id(loader: DataLoader) -> torch.Tensor:
    """The images of an epoch on the CPU, float32, in the order of their ids."""
    found: dict[int, torch.Tensor] = {}
    with loader:
        for images, ids in loader:
            found |= dict(zip(ids.tolist(), images.float().cpu(), strict=True))
    return torch.stack([found[sample_id] for sample_id in sorted(found)])


def on_the_cpu(out: Path, **options: Any) -> torch.Tensor:
    """The same by the CPU's own way."""
    return by_id(DataLoader(out, 25, backend="torchvision", decode="cpu", device="cpu", num_threads=2, **options))


@pytest.mark.parametrize("kind", ["crop", "everything", "all erased"])
def test_augmented_as_on_the_cpu(
    machine: Machine, way: Way, converted: Path, kind: str, record_property: Callable[[str, object], None]
) -> None:
    """Per sample within 2 of 255 on average, all samples within 1."""
    augment = Augment(**(ALL_ERASED if kind == "all erased" else SINGLE_KINDS[kind]))
    options: dict[str, Any] = {"split": "test", "tail": "even", "fields": ("image", "id")}
    options |= {"augment": augment, "size": machine.times(224, 96)}
    wanted = on_the_cpu(converted, **options)
    images = by_id(machine.loader(converted, way, 25, **options))
    difference = ((images - wanted) * torch.tensor(STD)[:, None, None]).abs().mean((1, 2, 3))
    record_property("most_of_255_a_sample_from_the_cpu_augmented", 255 * float(difference.max()))
    assert len(difference) == 60
    assert difference.max() < 2 / 255
    assert difference.mean() < 1 / 255


@pytest.mark.parametrize("chroma", ["420", "444"])
def test_decoded_as_by_pillow(
    machine: Machine,
    way: Way,
    chroma: str,
    converted: Path,
    whole_chroma: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """The middle of a picture as it is stored, 256 px: no resize is between the decoder and what is compared.

    TorchCodec's nvJPEG takes the nearest chroma value where all others interpolate, which only shows where chroma was
    halved: libjpeg's own pixels change by 0.3 of 255 if it does so, and by at most 1.2 a sample.
    """
    out = {"420": converted, "444": whole_chroma}[chroma]
    options: dict[str, Any] = {"split": "test", "tail": "even", "fields": ("image", "id"), "dtype": torch.uint8}
    images = by_id(machine.loader(out, way, 25, augment=None, size=256, **options))
    (batch,) = read_batches(out / "test", [len(images)], WHOLE, 256)
    wanted = torch.stack([pillow(batch.encoded.image(i).tobytes(), *batch.parameters.boxes[i]) for i in range(60)])
    difference = (images - wanted).abs()
    mean, most = float(difference.mean()), float(difference.mean((1, 2, 3)).max())
    print(f"{'-'.join(way)}, {chroma}, on {machine.device}: {mean:.3f} of 255 from Pillow, at most {most:.3f} a sample")
    record_property(f"mean_of_255_from_pillow_{chroma}", mean)
    record_property(f"most_of_255_a_sample_from_pillow_{chroma}", most)
    nearest = way == Way("torchvision", "gpu") and chroma == "420"
    assert mean < (1.5 if nearest else 1)
    assert most < (3 if nearest else 1.5)


def pillow(data: bytes, x: int, y: int, width: int, height: int) -> torch.Tensor:
    """float32 [3, height, width], 0 to 255: a part of a picture as Pillow decodes it."""
    with Image.open(io.BytesIO(data)) as file:
        pixels = torch.from_numpy(np.array(file.convert("RGB"), np.float32))
    return pixels[y : y + height, x : x + width].permute(2, 0, 1)


def test_every_kind_of_jpeg_that_a_split_can_hold(
    machine: Machine,
    way: Way,
    write_source: WriteSource,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Grey, every chroma sampling, odd and small sides, restart markers; all in one batch, as they came (`copy`)."""
    source = write_source([smooth(number, *shape) for number, shape in enumerate(SHAPES)], range(len(SHAPES)))
    out = tmp_path / "out"
    wdsremux.convert(source, out, recipe="copy", workers=1)
    options: dict[str, Any] = {"augment": None, "size": 32, "fields": ("image", "id"), "tail": "even", "window": "all"}
    options["dtype"] = torch.uint8
    wanted = on_the_cpu(out, **options)
    images = by_id(machine.loader(out, way, len(SHAPES), **options))
    assert len(images) == len(SHAPES)
    most = float((images - wanted).abs().mean((1, 2, 3)).max())
    record_property("most_of_255_a_sample_from_the_cpu", most)
    assert most < 3


SHAPES = [(64, 64), (63, 41), (41, 63), (8, 8), (17, 300), (300, 17), (9, 16), (640, 480)] * 4


def smooth(number: int, width: int, height: int) -> bytes:
    """A JPEG without edges, so that kinds of chroma upsampling hardly differ on it."""
    y, x = np.mgrid[0:height, 0:width]
    ramps = [255 * x / width, 255 * y / height, np.full(x.shape, 8 * (number % 32))]
    pixels = np.stack(ramps, -1).astype(np.uint8)
    grey, subsampling = number % 4 == 3, (number % 4) % 3
    if grey:
        return jpeg(pixels[..., 0], quality=95)
    return jpeg(pixels, quality=95, subsampling=subsampling, restart_marker_rows=number // 16)
