"""Pixels to JPEGs, by Pillow, whose libjpeg uses the accurate DCT; or a JPEG as it is, if it will do."""

from __future__ import annotations

import io

from PIL import Image, features

from wdsremux.codec.base import MAX_SIDE, Jpeg, Pixels, reason
from wdsremux.codec.decoding import decode, header_or_none
from wdsremux.codec.markers import Data, plain
from wdsremux.errors import ImageError

SUBSAMPLINGS = {"420": 2, "444": 0}  #: name -> Pillow's number


def encode(pixels: Pixels, quality: int, subsampling: str, restart_rows: bool = False) -> Jpeg:
    """Encode as a baseline YCbCr JPEG without metadata.

    Args:
        pixels: uint8 [H, W, 3].
        quality: 1 to 100, of libjpeg's scale.
        subsampling: a key of `SUBSAMPLINGS`.
        restart_rows: put a restart marker after each row of minimum coded units, so that rows can be cut out by bytes.

    Raises:
        ImageError: if a side is longer than a JPEG can hold.
    """
    if max(pixels.shape[:2]) > MAX_SIDE:  # libjpeg would say so on stderr, too
        raise ImageError(f"too long: {pixels.shape[1]}x{pixels.shape[0]} px, where a JPEG holds {MAX_SIDE}")
    file, chroma = io.BytesIO(), SUBSAMPLINGS[subsampling]
    try:
        Image.fromarray(pixels).save(
            file, "JPEG", quality=quality, subsampling=chroma, restart_marker_rows=int(restart_rows)
        )
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be encoded at {pixels.shape[1]}x{pixels.shape[0]} px: {reason(error)}") from error
    return Jpeg(file.getvalue(), width=pixels.shape[1], height=pixels.shape[0])


def keep(data: Data, quality: int, subsampling: str, restart_rows: bool = False) -> Jpeg:
    """The JPEG as it is, if it is sound, upright and GPU-safe; otherwise decoded and encoded again.

    It is decoded whole in either case: a file cut short must not reach a training loop.
    """
    pixels = decode(data)
    head = header_or_none(data)
    if head is not None and head.gpu_safe and head.orientation == 1 and plain(data):
        return Jpeg(bytes(data), width=head.width, height=head.height)
    return encode(pixels, quality, subsampling, restart_rows)


def libjpeg_version() -> str:
    """Of the library that writes the JPEGs."""
    return f"{'turbo ' if features.check_feature('libjpeg_turbo') else ''}{features.version_codec('jpg')}"
