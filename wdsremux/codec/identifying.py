"""What an image file is, by its header: nothing is decoded."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image

from wdsremux.codec.base import reason
from wdsremux.codec.decoding import check_drawable, header_or_none
from wdsremux.codec.markers import BASELINE, START, Data
from wdsremux.errors import ImageError


@dataclass(frozen=True, slots=True)
class Identity:
    """The kind and the size of an image file."""

    format: str  #: as Pillow calls it, such as "JPEG" or "PNG"; "progressive JPEG" where a JPEG is not baseline
    width: int  #: in pixels, as stored
    height: int


def identify(data: Data) -> Identity:
    """Read the header of any supported image file.

    Raises:
        ImageError: if it is no image.
    """
    head = header_or_none(data) if bytes(data[:2]) == START else None
    if head is not None:
        return Identity("JPEG" if head.frame == BASELINE else "progressive JPEG", head.width, head.height)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images and odd metadata
            with Image.open(io.BytesIO(data)) as image:
                return Identity(image.format or "other", image.width, image.height)
    except Exception as error:  # Pillow's plugins raise whatever the file provokes
        raise ImageError(f"not an image of any known format: {reason(error)}") from error


def decode_with_pillow(data: Data) -> Image.Image:
    """Decode as most training code does: whole, by Pillow, to mode RGB.

    Raises:
        ImageError: if it cannot be decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                check_drawable(image, data)  # a source's files are from strangers
                return image.convert("RGB")
    except ImageError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever the file provokes
        raise ImageError(f"undecodable: {reason(error)}") from error
