"""What the converters of benchmarks/bench_convert.py do to one picture, with Pillow or with wdsremux's codec."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SIDE, QUALITY, SUBSAMPLING = 256, 90, "420"  #: of `convert`'s default recipe; Pillow's subsampling is 4:2:0 by itself


def bake_image(image: Image.Image) -> bytes:
    """A JPEG of a Pillow picture, resized with antialiased bilinear interpolation."""
    from PIL import Image

    width, height = image.size
    scale = SIDE / min(width, height)
    size = (SIDE, int(height * scale)) if width <= height else (int(width * scale), SIDE)
    file = io.BytesIO()
    image.convert("RGB").resize(size, Image.Resampling.BILINEAR).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def bake_bytes(encoded: bytes) -> bytes:
    """The same of a file's content."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return bake_image(image)


@cache
def open_codec() -> None:
    """Import the codec, once; before processes fork, as a script's imports do. Two of them leave torch one thread."""
    import torch

    from wdsremux import codec  # noqa: F401

    torch.set_num_threads(1)


def bake_codec(encoded: bytes) -> bytes:
    """The same with the codec of `convert`'s default recipe."""
    from wdsremux import codec

    open_codec()
    encoding = codec.Encoding(quality=QUALITY, subsampling=SUBSAMPLING)
    baked: bytes = codec.encode(codec.resize_short_side(encoded, SIDE), encoding).data
    return baked
