"""Bytes to pixels and back, on the CPU: the only file that names simplejpeg or Pillow.

Plain JPEGs go the fast way: libjpeg-turbo with the exact DCT, scaled down in the DCT domain to no less than twice the
target, then torch's antialiased resize. All else (PNG, WebP, GIF, CMYK, palettes, 16 bits, alpha) goes through Pillow
to the same upright 8-bit RGB. JPEGs are written by Pillow, whose libjpeg uses the accurate DCT as well; simplejpeg's
encoder always takes the fast one, which costs 0.1 dB.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from wdsremux.errors import ImageError

Pixels = NDArray[np.uint8]  #: uint8 [H, W, 3], RGB, contiguous, upright
Data = bytes | memoryview  #: an image file's content; a memoryview has format "B"

MAX_PIXELS = 178_956_970  #: larger pictures are refused as decompression bombs; twice Pillow's warning threshold
MAX_SIDE = 65_535  #: what a JPEG's frame header can hold
SUBSAMPLINGS = {"420": 2, "444": 0}  #: name -> Pillow's number

_ORIENTATION = 0x0112  #: the EXIF tag
_BASELINE = 0xC0  #: SOF0: 8-bit sequential Huffman
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  #: SOFn markers (ITU-T T.81, table B.1)
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  #: markers without a length
# libjpeg only warns of these and decodes grey or garbage. Other warnings (stray bytes before a marker, an unknown
# Adobe transform) leave the picture whole, so those files get a second chance in Pillow.
_LOST_DATA = re.compile(
    r"premature end|bad huffman|bad arithmetic|corrupt jpeg data: found marker|inconsistent prog", re.I
)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Jpeg:
    """An encoded picture."""

    data: bytes  #: the JPEG file's content
    width: int  #: in pixels, upright
    height: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a JPEG's markers say before the first scan (ITU-T T.81, annex B)."""

    frame: int  #: the SOF marker's low byte, 0xC0 for baseline
    precision: int  #: bits a sample
    width: int  #: in pixels, as stored
    height: int
    component_ids: tuple[int, ...]
    adobe_transform: int | None  #: of the APP14 segment: 0 RGB or CMYK, 1 YCbCr, 2 YCCK; None without one
    exif: bytes | None  #: the first Exif segment, from "Exif\\0\\0" on

    @property
    def gpu_safe(self) -> bool:
        """Baseline, 8 bits, grey or YCbCr: what every GPU decoder takes."""
        components = len(self.component_ids)
        rgb_coded = components == 3 and (self.adobe_transform == 0 or self.component_ids == tuple(b"RGB"))
        return self.frame == _BASELINE and self.precision == 8 and components in (1, 3) and not rgb_coded


def header(data: Data) -> Header:
    """Read a JPEG's header.

    Raises:
        ImageError: if the markers do not lead to a frame header.
    """
    view, at, adobe, exif = memoryview(data), 2, None, None
    if bytes(view[:2]) != b"\xff\xd8":
        raise ImageError("not a JPEG: it does not begin with FF D8")
    try:
        while True:
            if view[at] != 0xFF:
                raise ImageError(f"not a sound JPEG: no marker at byte {at}")
            marker = view[at + 1]
            if marker == 0xFF or marker in _BARE:  # fill bytes may precede a marker
                at += 1 if marker == 0xFF else 2
                continue
            (length,) = struct.unpack_from(">H", view, at + 2)
            body = view[at + 4 : at + 2 + length]
            if marker in _FRAMES:
                precision, height, width, count = struct.unpack_from(">BHHB", body)
                return Header(marker, precision, width, height, tuple(body[6 : 6 + 3 * count : 3]), adobe, exif)
            if marker == 0xEE and bytes(body[:5]) == b"Adobe":
                adobe = body[11]
            elif marker == 0xE1 and exif is None and bytes(body[:6]) == b"Exif\0\0":
                exif = bytes(body)
            at += 2 + length
    except (IndexError, struct.error) as error:
        raise ImageError("not a sound JPEG: it ends inside its header") from error


def decode(data: Data, short_side: int | None = None) -> Pixels:
    """Decode any supported image file.

    Args:
        data: the file's content.
        short_side: if given, the picture may come smaller than stored, as long as its short side (or that of a square
            in it) stays at least twice this: what follows is a resize to `short_side` pixels.

    Returns:
        uint8 [H, W, 3] RGB, upright, contiguous.

    Raises:
        ImageError: if it is no image, damaged, or too large.
    """
    if not len(data):
        raise ImageError("empty: 0 bytes")
    if bytes(data[:2]) != b"\xff\xd8":
        return _decode_any(data)
    try:
        head = header(data)
        if head.precision == 8 and len(head.component_ids) in (1, 3):
            return _decode_jpeg(data, head, short_side)
    except ValueError as error:  # what simplejpeg raises for each of libjpeg's errors and warnings
        if _LOST_DATA.search(str(error)):
            raise ImageError(f"damaged JPEG: {_reason(error)}") from error
    except ImageError:
        pass  # odd but perhaps readable: Pillow has the last word
    return _decode_any(data)


def _decode_jpeg(data: Data, head: Header, short_side: int | None) -> Pixels:
    width, height = head.width, head.height
    if width * height > MAX_PIXELS:
        raise ImageError(f"too large: {width}x{height} px, where {MAX_PIXELS} pixels are allowed")
    scale = 1
    if short_side is not None:
        while scale < 8 and min(-(-width // (2 * scale)), -(-height // (2 * scale))) >= 2 * short_side:
            scale *= 2
    pixels: Pixels = simplejpeg.decode_jpeg(
        data,
        "RGB",
        min_width=-(-width // scale) if scale > 1 else 0,
        min_height=-(-height // scale) if scale > 1 else 0,
    )
    return pixels if head.exif is None else _turn(pixels, _orientation(head.exif))


def _orientation(exif: bytes) -> int:
    tags = Image.Exif()
    try:
        tags.load(exif)
        return int(tags.get(_ORIENTATION, 1))
    except Exception:  # Pillow raises many kinds on damaged metadata, and metadata alone never loses a picture
        return 1


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
                if image.width * image.height > MAX_PIXELS:
                    raise ImageError(f"too large: {image.width}x{image.height} px")
                image.load()
                orientation = int(image.getexif().get(_ORIENTATION, 1))
                return _turn(np.array(_rgb(image)), orientation)  # a copy: Pillow's own memory is read-only
    except ImageError:
        raise
    except UnidentifiedImageError as error:  # its text holds a memory address
        raise ImageError("not an image of any known format") from error
    except (
        Exception
    ) as error:  # Pillow's plugins raise whatever the file provokes: struct.error, KeyError, SyntaxError …
        raise ImageError(f"undecodable: {_reason(error)}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; convert("RGB") would clip all above 255 to white
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(grey, 0, 65_535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("floating-point pixels, of unknown range")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize with antialiased bilinear interpolation, as torchvision does on uint8.

    Args:
        pixels: uint8 [H, W, 3], contiguous: on a view torch takes twice as long.
        height: of the result, in pixels.
        width: of the result, in pixels.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    batch = torch.from_numpy(np.ascontiguousarray(pixels))[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(batch, size=(height, width), mode="bilinear", antialias=True)
    result: Pixels = resized.permute(0, 2, 3, 1)[0].numpy()
    return result


def resize_short_side(data: Data, side: int) -> Pixels:
    """Decode and resize so that the short side has `side` pixels; the picture is kept whole.

    Raises:
        ImageError: as `decode`, and if the long side would not fit into a JPEG.
    """
    pixels = decode(data, side)
    height, width = pixels.shape[:2]
    short = min(height, width)
    long = int(side * max(height, width) / short)  # rounds down, as torchvision's Resize does
    if long > MAX_SIDE:
        raise ImageError(f"too long: {width}x{height} px would be resized to {long} px, where a JPEG holds {MAX_SIDE}")
    return resize(pixels, side, long) if height == short else resize(pixels, long, side)


def resize_square(data: Data, side: int) -> Pixels:
    """Decode, cut the largest square from the middle, and resize it to `side` x `side` pixels."""
    pixels = decode(data, side)
    height, width = pixels.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return resize(pixels[top : top + short, left : left + short], side, side)


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
        return np.array(_rgb(image))
    except ImageError:
        raise
    except Exception as error:  # as in _decode_any
        raise ImageError(f"undecodable: {_reason(error)}") from error


def encode(pixels: Pixels, quality: int, subsampling: str) -> Jpeg:
    """Encode as a baseline YCbCr JPEG without metadata.

    Args:
        pixels: uint8 [H, W, 3].
        quality: 1 to 100, of libjpeg's scale.
        subsampling: a key of `SUBSAMPLINGS`.

    Raises:
        ImageError: if a side is longer than a JPEG can hold.
    """
    file = io.BytesIO()
    try:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=SUBSAMPLINGS[subsampling])
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be encoded at {pixels.shape[1]}x{pixels.shape[0]} px: {_reason(error)}") from error
    return Jpeg(file.getvalue(), width=pixels.shape[1], height=pixels.shape[0])


def keep(data: Data, quality: int, subsampling: str) -> Jpeg:
    """The JPEG as it is, if it is sound, upright and GPU-safe; otherwise decoded and encoded again.

    It is decoded whole in either case: a file cut short must not reach a training loop.
    """
    pixels = decode(data)
    if bytes(data[:2]) == b"\xff\xd8":
        try:
            head = header(data)
        except ImageError:
            head = None
        if head is not None and head.gpu_safe and (head.exif is None or _orientation(head.exif) == 1):
            return Jpeg(bytes(data), width=head.width, height=head.height)
    return encode(pixels, quality, subsampling)


def _reason(error: Exception) -> str:
    """An error's text without memory addresses: rejects.jsonl must be the same in every run."""
    return _ADDRESS.sub("", str(error)).strip().rstrip(".") or type(error).__name__


def libjpeg_version() -> str:
    """Of the library that writes the JPEGs."""
    return f"{'turbo ' if features.check_feature('libjpeg_turbo') else ''}{features.version_codec('jpg')}"
