"""Image files to upright 8-bit RGB.

Plain JPEGs go the fast way, through simplejpeg: libjpeg-turbo with the exact DCT, scaled down in the DCT domain where
fewer pixels will do. All else (PNG, WebP, GIF, CMYK, palettes, 16 bits, alpha) goes through Pillow to the same.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TypeGuard

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from wdsremux.codec.base import FINE, Pixels, reason
from wdsremux.codec.markers import BASELINE, START, Data, Header, header, scans, tidied
from wdsremux.errors import ImageError

MAX_PIXELS = 178_956_970  #: larger pictures are refused as decompression bombs; twice Pillow's warning threshold
MAX_SCANNED_PIXELS = 20 * MAX_PIXELS  #: a JPEG's pixels times its scans; encoders make ten scans, of each picture

_ORIENTATION = 0x0112  #: the EXIF tag
_STRIP_PIXELS = 2**21  #: of a picture that Pillow converts, at once
# libjpeg only warns of these and decodes grey or garbage. Other warnings (an unknown Adobe transform, a bad ICC
# profile) leave the picture whole, so those files get a second chance in Pillow.
_LOST_DATA = re.compile(
    r"premature end|bad huffman|bad arithmetic|found marker|inconsistent prog|invalid sos|extraneous bytes", re.I
)
# Nine times in ten the rest of a damaged scan, a fifth of all single-bit flips; else bytes that nothing was lost by.
_STRAY = re.compile(r"extraneous bytes", re.I)


def decode(data: Data, short_side: int | None = None, spare: int = FINE) -> Pixels:
    """Decode any supported image file.

    Args:
        data: the file's content.
        short_side: if given, the picture may come smaller than stored, as long as its short side (or that of a square
            in it) stays at least `spare` times this: what follows is a resize to `short_side` pixels.
        spare: `FINE`, or `FAST` for a picture 0.2 to 2 dB worse.

    Returns:
        uint8 [H, W, 3] RGB, upright, contiguous.

    Raises:
        ImageError: if it is no image, damaged, or too large.
    """
    if not len(data):
        raise ImageError("empty: 0 bytes")
    if bytes(data[:2]) != START:
        return _decode_any(data)
    head = header_or_none(data)
    if head is None:
        tidy = tidied(data)
        return _decode_any(data) if tidy == data else decode(tidy, short_side, spare)
    _check_size(data, head)
    try:
        if len(head.component_ids) in (1, 3):
            return _decode_jpeg(data, head, None if short_side is None else spare * short_side)
        # Pillow, which knows its colours, is silent on damage; at 1/8, as all scans are read at any size.
        simplejpeg.decode_jpeg(data, "CMYK", min_width=1, min_height=1)
    except ValueError as error:  # all of libjpeg's errors and warnings; of several, the last
        if _STRAY.search(str(error)) and (tidy := tidied(data)) != data:
            return decode(tidy, short_side, spare)
        if _LOST_DATA.search(str(error)):
            raise ImageError(f"damaged JPEG: {reason(error)}") from error
    return _decode_any(data)  # odd but perhaps readable: Pillow has the last word


def header_or_none(data: Data) -> Header | None:
    try:
        return header(data)
    except ImageError:
        return None


def _check_size(data: Data, head: Header) -> None:
    """Refuse a JPEG by its header, before it is decoded.

    Raises:
        ImageError: if its samples are of a depth that is not known, or it is too large.
    """
    if head.precision != 8:
        raise ImageError(f"a JPEG of {head.precision} bits a sample, where 8 are known")
    if head.width * head.height > MAX_PIXELS:
        raise ImageError(f"too large: {head.width}x{head.height} px, where {MAX_PIXELS} pixels are allowed")
    if head.frame != BASELINE:
        _check_scans(data, head.width, head.height)


def _decode_jpeg(data: Data, head: Header, least: int | None) -> Pixels:
    """Decode at the smallest of 1/1, 1/2, 1/4 and 1/8 at which the short side has `least` pixels."""
    width, height = head.width, head.height
    scale = 1
    if least is not None:
        while scale < 8 and min(-(-width // (2 * scale)), -(-height // (2 * scale))) >= least:
            scale *= 2
    pixels: Pixels = simplejpeg.decode_jpeg(
        data,
        "RGB",
        min_width=-(-width // scale) if scale > 1 else 0,
        min_height=-(-height // scale) if scale > 1 else 0,
    )
    return _turn(pixels, head.orientation)


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation (EXIF 2.32, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _decode_any(data: Data) -> Pixels:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and odd metadata; the bound is checked below
            with Image.open(io.BytesIO(data)) as image:
                check_drawable(image, data)
                image.load()
                return _turn(_rgb(image), _orientation(image))
    except ImageError:
        raise
    except UnidentifiedImageError as error:  # its text holds a memory address
        raise ImageError("not an image of any known format") from error
    except (
        Exception
    ) as error:  # Pillow's plugins raise whatever the file provokes: struct.error, KeyError, SyntaxError …
        raise ImageError(f"undecodable: {reason(error)}") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises many kinds on damaged metadata, and metadata alone never loses a picture
        return 1


def check_drawable(image: Image.Image, data: Data) -> None:
    """Refuse a picture by its header, before it is drawn.

    Raises:
        ImageError: if it is too large, takes too many passes, or takes another program.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"too large: {image.width}x{image.height} px")
    if image.format == "EPS":  # Pillow would have Ghostscript run it: PostScript is a program
        raise ImageError("an EPS file, which is a program and no picture")
    if image.format in ("JPEG", "MPO"):
        _check_scans(data, image.width, image.height)


def _check_scans(data: Data, width: int, height: int) -> None:
    """Refuse a JPEG that goes over its pixels thousands of times; a scan without content is a few bytes.

    Raises:
        ImageError: if it does.
    """
    if (count := scans(data)) * width * height > MAX_SCANNED_PIXELS:
        raise ImageError(f"too many scans: {count} of {width}x{height} px")


def _rgb(image: Image.Image) -> Pixels:
    """A loaded picture's pixels, converted some rows at a time: whole, the copies of a 178-megapixel one take 3 GB."""
    if image.mode == "F":
        raise ImageError("floating-point pixels, of unknown range")
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // max(1, width))
    if rows >= height:
        return np.array(_strip_rgb(image))  # a copy: Pillow's own memory is read-only
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(_strip_rgb(strip))
    return pixels


def _strip_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; convert("RGB") would clip all above 255 to white
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(grey, 0, 65_535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def is_pil(value: object) -> TypeGuard[Image.Image]:
    """Whether it is one of Pillow's pictures."""
    return isinstance(value, Image.Image)


def to_pil(pixels: Pixels) -> Image.Image:
    """A Pillow picture in mode RGB, of uint8 [H, W, 3]."""
    return Image.fromarray(pixels)


def from_pil(image: Image.Image) -> Pixels:
    """A Pillow picture of any mode as `decode` would give it, but for EXIF: it is taken as it stands.

    Returns:
        uint8 [H, W, 3] RGB, contiguous.

    Raises:
        ImageError: if its pixels cannot be loaded, or are of a mode without a known range.
    """
    try:
        image.load()  # it may still be a file, and that cut short
        return _rgb(image)
    except ImageError:
        raise
    except Exception as error:  # as in _decode_any
        raise ImageError(f"undecodable: {reason(error)}") from error
