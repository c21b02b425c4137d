"""Small crops of pictures as a loader needs them: decoded, cut, resized and flipped with few calls.

A picture of 32 px is decoded in 15 us, so that each call into a library, each array, and each wait for the interpreter
after a call that let go of it counts: with a call to decode and a call to resize for each, two threads did no more than
one, 24 us an image. So the smallest are resized and flipped many at once. OpenCV's resize of a small crop takes a fifth
of the time of torch's, and writes where it is told to. It has no antialiasing: so it enlarges, and torch shrinks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg

from wdsremux.codec.base import Pixels
from wdsremux.codec.decoding import decode
from wdsremux.codec.markers import Data
from wdsremux.codec.resizing import resize
from wdsremux.errors import ImageError

#: Pixels a side, up to which OpenCV works in the calling thread alone; above it starts threads of its own.
_ALONE = 256
#: Pixels a side of the largest for which many at once are quicker; beyond it, the copies cost more than the calls.
SMALL = 64
_NHWC: int = getattr(cv2, "DNN_LAYOUT_NHWC", None) or getattr(cv2.dnn, "DNN_LAYOUT_NHWC")  # noqa: B009  # by version
_NO_CROP = np.zeros((1, 1, 3), np.uint8)
Box = Sequence[int]  #: x, y, width, height, in pixels


def crop_all(
    jpegs: Iterable[Data],
    sizes: Iterable[tuple[int, int]],
    boxes: Iterable[Box],
    flips: Iterable[bool],
    out: Pixels,
    memory: Pixels,
) -> list[int]:
    """Decode, cut, resize and flip N pictures.

    Args:
        jpegs: as shards hold them: baseline, one or three components, upright.
        sizes: height and width that they should have, in pixels.
        boxes: the crops.
        flips: whether to mirror each, once it is resized.
        out: uint8 [N, size, size, 3], contiguous: where they go.
        memory: uint8 [bytes], of the caller's own: pictures are decoded into it, one after the other, so that it is
            warm in the cache. One that does not fit gets memory of its own.

    Returns:
        The places of those that cannot be decoded, or have another size.
    """
    bad = []
    each = zip(jpegs, sizes, boxes, flips, out, strict=True)
    for place, (data, size, box, flipped, pixels) in enumerate(each):
        picture = _decoded(data, size, memory)
        if picture is None:
            bad.append(place)
            continue
        resize_crop(picture, box, pixels)
        if flipped:
            flip(pixels)
    return bad


def crop_small(
    jpegs: Sequence[Data],
    sizes: Sequence[tuple[int, int]],
    boxes: Sequence[Box],
    flips: Sequence[bool],
    out: Pixels,
    memory: Pixels,
    resized: Pixels,
) -> list[int]:
    """`crop_all` of pictures that are so small that many are resized and flipped at once; the result is the same.

    Args:
        jpegs: as of `crop_all`, as are `sizes`, `boxes`, `flips` and `out`.
        memory: uint8 [bytes], of the caller's own: all pictures are decoded into it, one behind the other.
        resized: uint8, of the shape of `out`, of the caller's own.
    """
    crops, bad, size = [], [], out.shape[1]
    order = sorted(range(len(jpegs)), key=flips.__getitem__)  # those that are flipped lie together, at the end
    for place in order:
        picture = _decoded(jpegs[place], sizes[place], memory)
        if picture is None:
            bad.append(place)
            crops.append(_NO_CROP)
            continue
        memory = memory[picture.size :]
        x, y, width, height = boxes[place]
        crop = picture[y : y + height, x : x + width]
        crops.append(crop if width <= size >= height else resize(np.ascontiguousarray(crop), size, size))
    made: Any = cv2.dnn.blobFromImagesWithParams(crops, resized, _resizing(size))  # that memory, where OpenCV takes it
    if any(flips):
        flip(made[-sum(flips) :].reshape(-1, size, 3))
    out[order] = made
    return bad


@functools.cache
def _resizing(size: int) -> Any:
    """OpenCV's description of what `resize_crop` does."""
    parameters = cv2.dnn.Image2BlobParams()
    parameters.size, parameters.ddepth, parameters.datalayout = (size, size), cv2.CV_8U, _NHWC
    return parameters


def _decoded(data: Data, size: tuple[int, int], memory: Pixels) -> Pixels | None:
    """A picture, in that memory where it fits; None where it cannot be decoded, or has another size."""
    try:
        picture = decode_into(data, memory)
    except ImageError:
        return None
    return picture if picture.shape[:2] == size else None


def decode_into(data: Data, memory: Pixels) -> Pixels:
    """A picture in that memory; or in its own, where it does not fit or is no such JPEG: `decode` knows more then."""
    try:
        picture: Pixels = simplejpeg.decode_jpeg(data, "RGB", buffer=memory)
    except ValueError:
        return decode(data)
    return picture


def resize_crop(pixels: Pixels, box: Box, out: Pixels) -> None:
    """Cut and resize, with antialiased bilinear interpolation; within 1 of 255 of what torchvision makes of uint8.

    Args:
        pixels: uint8 [H, W, 3].
        box: x, y, width and height of the crop.
        out: uint8 [size, size, 3], contiguous: where the result goes.
    """
    x, y, width, height = box
    crop, size = pixels[y : y + height, x : x + width], len(out)
    if width <= size >= height and size <= _ALONE:
        if width == size == height:
            out[:] = crop
        else:
            cv2.resize(crop, (size, size), dst=out, interpolation=cv2.INTER_LINEAR)
    else:
        out[:] = resize(np.ascontiguousarray(crop), size, size)


def flip(pixels: Pixels) -> None:
    """Mirror a picture left to right, where it lies: uint8 [H, W, 3], contiguous."""
    cv2.flip(pixels, 1, dst=pixels)


def split(pixels: Pixels, planes: Pixels) -> None:
    """Write a picture plane by plane: uint8 [H, W, 3] -> [3, H, W]. Ten times as quick as a copy of its transpose."""
    cv2.split(pixels, list(planes))
