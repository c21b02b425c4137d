"""Whatever bytes a row of a source holds, the codec gives a picture or a reason."""

from __future__ import annotations

import io
import resource
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.mutations import Tally, changed, many, some, survives
from wdsremux import codec
from wdsremux.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # when one fails
MOST_BYTES = 3 * 2**30  #: that memory may grow by: the largest picture allowed has 179 Mpx, 537 MB of RGB


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 33, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("JPEG", exif=exif)


JPEGS = [
    saved("JPEG"),
    saved("JPEG", quality=30, subsampling=2, restart_marker_rows=1),
    saved("JPEG", progressive=True),
    saved("JPEG", "L"),
    saved("JPEG", "CMYK"),
    saved("JPEG", comment=b"a comment", icc_profile=b"profile" * 30),
    turned(),
]
OTHERS = [
    saved("PNG"),
    saved("PNG", "P"),
    saved("PNG", "LA"),
    saved("PNG", "I;16") if "I;16" in Image.MODES else saved("PNG", "I"),
    saved("PNG", "1"),
    saved("GIF"),
    saved("WEBP"),
    saved("WEBP", lossless=True),
    saved("BMP"),
    saved("TIFF"),
    saved("TIFF", compression="tiff_lzw"),
    saved("PPM"),
    saved("TGA"),
    saved("JPEG2000"),
    saved("ICO"),
    saved("PCX"),
    saved("SGI"),
]
MARKERS = [bytes([0xFF, marker]) for marker in (0xD8, 0xD9, 0xDA, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC9, 0xDB, 0xDD)]
MARKERS += [
    b"\xff\xe1\x00\x10Exif\0\0MM\0*\0\0\0\x08",
    b"\xff\xee\x00\x0eAdobe\0d\0\0\0\0\0",
    b"\xff" * 300,
    b"\xff\xd0",
]
CHUNKS = [
    b"IHDR",
    b"PLTE",
    b"tRNS",
    b"IDAT",
    b"IEND",
    b"acTL",
    b"GIF89a",
    b"RIFF",
    b"VP8X",
    b"II*\0",
    b"MM\0*",
    b"%!PS",
]


@many
@given(data=changed(JPEGS, MARKERS))
def test_headers(data: bytes, tally: Tally) -> None:
    head = survives(lambda: codec.header(data), tally)
    if isinstance(head, codec.Header):
        assert 0 <= head.width < 2**16
        assert 0 <= head.height < 2**16


@many
@given(data=changed(JPEGS, MARKERS), short_side=st.none() | st.integers(1, 40))
def test_jpegs(data: bytes, short_side: int | None, tally: Tally) -> None:
    _check(survives(lambda: codec.decode(data, short_side), tally))


@many
@given(data=changed(OTHERS, CHUNKS))
def test_other_pictures(data: bytes, tally: Tally) -> None:
    _check(survives(lambda: codec.decode(data), tally))


@many
@given(data=st.binary(max_size=200))
def test_noise(data: bytes, tally: Tally) -> None:
    _check(survives(lambda: codec.decode(data), tally))


@some
@given(data=changed([*JPEGS, *OTHERS], [*MARKERS, *CHUNKS]))
def test_what_recipes_make_of_it(data: bytes, tally: Tally) -> None:
    """What comes out is a JPEG that a GPU decoder takes, and decodes to the size that is said."""
    jpeg = survives(lambda: codec.keep(data, codec.Encoding()), tally)
    if isinstance(jpeg, codec.Jpeg):
        assert codec.header(jpeg.data).gpu_safe
        assert codec.decode(jpeg.data).shape == (jpeg.height, jpeg.width, 3)
    resized = survives(lambda: codec.resize_short_side(data, 16))
    assert isinstance(resized, ImageError) or min(resized.shape[:2]) == 16


def _check(pixels: object) -> None:
    if not isinstance(pixels, ImageError):
        assert isinstance(pixels, np.ndarray)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert min(pixels.shape) > 0
