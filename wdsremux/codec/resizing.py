"""Decoded pictures in another size: torch's antialiased resize, whichever way the file was decoded."""

from __future__ import annotations

import numpy as np

from wdsremux.codec.base import FINE, MAX_SIDE, Pixels
from wdsremux.codec.decoding import decode
from wdsremux.codec.markers import Data
from wdsremux.errors import ImageError


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize with antialiased bilinear interpolation, as torchvision does on uint8.

    Args:
        pixels: uint8 [H, W, 3], contiguous: on a view torch takes twice as long.
        height: of the result, in pixels.
        width: of the result, in pixels.
    """
    import torch  # only here: a process that plans, and bakes nothing, does without its 200 MB

    if pixels.shape[:2] == (height, width):
        return pixels
    # Views are numpy's: each call of torch lets go of the interpreter, and has to wait for it among other threads.
    whole = np.ascontiguousarray(pixels)
    batch = torch.from_numpy(whole.reshape(1, *whole.shape).transpose(0, 3, 1, 2))
    resized = torch.nn.functional.interpolate(batch, size=(height, width), mode="bilinear", antialias=True)
    result: Pixels = resized.numpy().transpose(0, 2, 3, 1)[0]
    return result


def resize_short_side(data: Data, side: int, spare: int = FINE) -> Pixels:
    """Decode and resize so that the short side has `side` pixels; the picture is kept whole.

    Args:
        data: an image file's content.
        side: of the result, in pixels.
        spare: as for `decode`.

    Raises:
        ImageError: as `decode`, and if the long side would not fit into a JPEG.
    """
    pixels = decode(data, side, spare)
    height, width = pixels.shape[:2]
    short = min(height, width)
    long = int(side * max(height, width) / short)  # rounds down, as torchvision's Resize does
    if long > MAX_SIDE:
        raise ImageError(f"too long: {width}x{height} px would be resized to {long} px, where a JPEG holds {MAX_SIDE}")
    return resize(pixels, side, long) if height == short else resize(pixels, long, side)


def resize_square(data: Data, side: int, spare: int = FINE) -> Pixels:
    """Decode, cut the largest square from the middle, and resize it to `side` x `side` pixels.

    Args:
        data: an image file's content.
        side: of the result, in pixels.
        spare: as for `decode`.
    """
    pixels = decode(data, side, spare)
    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return resize(pixels[top : top + short, left : left + short], side, side)
