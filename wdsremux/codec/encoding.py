"""Pixels to JPEGs, by Pillow, whose libjpeg uses the accurate DCT; or a JPEG as it is, if it will do."""

from __future__ import annotations

import io

from PIL import Image, features

from wdsremux.codec.base import MAX_SIDE, SUBSAMPLINGS, Encoding, Jpeg, Pixels, reason
from wdsremux.codec.decoding import decode, header_or_none
from wdsremux.codec.markers import Data, plain
from wdsremux.errors import ImageError


def encode(pixels: Pixels, encoding: Encoding) -> Jpeg:
    """Encode as a baseline YCbCr JPEG without metadata.

    Args:
        pixels: uint8 [H, W, 3].
        encoding: how.

    Raises:
        ImageError: if a side is longer than a JPEG can hold.
    """
    if max(pixels.shape[:2]) > MAX_SIDE:  # libjpeg would say so on stderr, too
        raise ImageError(f"too long: {pixels.shape[1]}x{pixels.shape[0]} px, where a JPEG holds {MAX_SIDE}")
    file, chroma = io.BytesIO(), SUBSAMPLINGS[encoding.subsampling]
    rows = int(encoding.restart_rows)
    try:
        Image.fromarray(pixels).save(
            file, "JPEG", quality=encoding.quality, subsampling=chroma, restart_marker_rows=rows
        )
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be encoded at {pixels.shape[1]}x{pixels.shape[0]} px: {reason(error)}") from error
    return Jpeg(file.getvalue(), width=pixels.shape[1], height=pixels.shape[0])


def keep(data: Data, encoding: Encoding) -> Jpeg:
    """The JPEG as it is, if it is sound, upright and GPU-safe; otherwise decoded and encoded again.

    It is decoded whole in either case: a file cut short must not reach a training loop.
    """
    pixels = decode(data)
    head = header_or_none(data)
    if head is not None and head.gpu_safe and head.orientation == 1 and plain(data):
        return Jpeg(bytes(data), width=head.width, height=head.height)
    return encode(pixels, encoding)


def libjpeg_version() -> str:
    """Of the library that writes the JPEGs."""
    return f"{'turbo ' if features.check_feature('libjpeg_turbo') else ''}{features.version_codec('jpg')}"
