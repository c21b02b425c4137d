"""Image files as the world has them: damaged, odd, huge, and no images at all.

The same bytes in every run, but for an AVIF of several frames, in which its writer puts the time.
"""

from __future__ import annotations

import functools
import gzip
import io
import random
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageCms
from sample_source import photo as whole_photo

from tests.support import hostile_files as made

SIDE = 64  #: pixels of the short side, to which the tests resize
CONVERTED, REJECTED, EITHER = "converted", "rejected", "either"
COPIED = "converted as it is, but too long where its short side becomes 64 px"
RESIZED = "converted where its short side becomes 64 px, but too long as it is"
FLIPS = 20  #: bit flips of a kind, each with its own seed


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file, and what a conversion is to make of it."""

    name: str  #: says what it is
    data: bytes
    expected: str  #: one of the five; EITHER where damage may hit what no decoder can tell

    def converts(self, recipe: str) -> bool | None:
        """Whether it becomes a sample; None where that is open."""
        copied = recipe == "copy"
        return {CONVERTED: True, REJECTED: False, EITHER: None, COPIED: copied, RESIZED: not copied}[self.expected]


def corpus(flips: int = FLIPS) -> list[Hostile]:
    """All of them; `flips` bit flips for each kind of file and place in it."""
    groups = (_cut, _holed, _sizes, _bombs, _jpegs, _depths, _animations, _turned, _metadata, _kinds, _misnamed, _none)
    found = [Hostile(*entry) for group in groups for entry in group()]
    found += [Hostile(*entry) for entry in _flipped(flips)]
    if len({hostile.name for hostile in found}) != len(found):
        raise ValueError("two files of the corpus have one name")
    return found


Entries = Iterator[tuple[str, bytes, str]]


@functools.cache
def photo(width: int = 120, height: int = 80) -> Image.Image:
    """A real photograph, made small."""
    return whole_photo("chelsea").convert("RGB").resize((width, height))


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@functools.cache
def _sound() -> dict[str, bytes]:
    """Files that are as they should be, by name."""
    return {
        "baseline.jpg": saved(photo(), quality=90),
        "progressive.jpg": saved(photo(), quality=90, progressive=True),
        "restarts.jpg": saved(photo(), quality=90, restart_marker_rows=1),
        "grey.jpg": saved(photo().convert("L"), quality=90),
        "cmyk.jpg": saved(photo().convert("CMYK"), quality=90),
        "rgb.png": saved(photo(), "PNG"),
        "rgb.webp": saved(photo(), "WEBP", quality=90),
        "palette.gif": saved(photo(), "GIF"),
        "rgb.bmp": saved(photo(), "BMP"),
        "rgb.avif": saved(photo(), "AVIF"),
    }


def _cut() -> Entries:
    for name, data in _sound().items():
        yield f"sound-{name}", data, CONVERTED
        for tenths in range(1, 10):
            yield f"cut-at-{tenths}0-percent-{name}", data[: len(data) * tenths // 10], REJECTED


def _holed() -> Entries:
    """libjpeg only warns of these."""
    for name, data in _sound().items():
        if name.endswith(".jpg"):
            for start in (0.1, 0.4, 0.7):
                yield f"hole-at-{start}-of-scan-{name}", made.holed(data, start), REJECTED
    yield "restart-markers-swapped.jpg", made.restarts_swapped(_sound()["restarts.jpg"]), REJECTED
    plain = _sound()["baseline.jpg"]
    yield "hole-and-zeros-before-end.jpg", made.holed(plain, 0.5)[:-2] + b"\0\0\xff\xd9", REJECTED
    at = made.find(plain, 0xDA)
    yield "hole-and-stray-byte-in-header.jpg", plain[:at] + b"\1" + made.holed(plain, 0.5)[at:], REJECTED
    yield "stray-byte-in-header.jpg", plain[:at] + b"\1" + plain[at:], CONVERTED
    yield "stray-bytes-in-header.jpg", plain[:at] + b"stray" + plain[at:], REJECTED  # a segment may be lost with them
    yield "fill-bytes-in-header.jpg", plain[:at] + b"\xff\xff" + plain[at:], CONVERTED
    yield "zeros-before-end.jpg", plain[:-2] + b"\0\0\xff\xd9", CONVERTED
    yield "fill-bytes-before-end.jpg", plain[:-2] + b"\xff\xff\xff\xd9", CONVERTED
    yield "garbage-after-end.jpg", plain + random.Random(1).randbytes(999), CONVERTED
    yield "another-jpeg-after-end.jpg", plain + _sound()["grey.jpg"], CONVERTED
    yield "no-end-marker.jpg", plain[:-2], REJECTED


def _flipped(count: int) -> Entries:
    for name in ("baseline.jpg", "progressive.jpg", "restarts.jpg"):
        data = _sound()[name]
        places = {
            "header": (2, made.find(data, 0xDB)),
            "tables": (made.find(data, 0xDB), made.find(data, 0xDA)),
            "scan": (made.scan(data), len(data) - 2),
        }
        for place, (first, end) in places.items():
            for seed in range(count):
                yield f"bits-flipped-in-{place}-{seed}-{name}", _flip(data, seed, first, end), EITHER
    for name in ("rgb.png", "rgb.webp", "palette.gif", "rgb.avif", "cmyk.jpg"):
        data = _sound()[name]
        for seed in range(-(-count // 4)):
            yield f"bits-flipped-{seed}-{name}", _flip(data, seed, 0, len(data)), EITHER


def _flip(data: bytes, seed: int, first: int, end: int) -> bytes:
    """One bit for even seeds, four for odd ones."""
    chosen, flipped = random.Random(seed), bytearray(data)
    for _ in range(1 if seed % 2 == 0 else 4):
        flipped[chosen.randrange(first, end)] ^= 1 << chosen.randrange(8)
    return bytes(flipped)


def _sizes() -> Entries:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        yield f"1x1.{kind.lower()}", saved(photo(1, 1), kind), CONVERTED
    for width, height in ((1, 20_000), (20_000, 1), (2, 65_500), (65_500, 2), (65_500, 40)):
        for kind in ("JPEG", "PNG"):
            yield f"{width}x{height}.{kind.lower()}", saved(photo().resize((width, height)), kind), COPIED
    yield "1000x64.png", saved(photo(1_000, 64), "PNG"), CONVERTED
    yield "1023x1.png", saved(photo(1_023, 1), "PNG"), CONVERTED  # 65,472 px where its short side becomes 64
    for width in (65_501, 65_535, 65_536, 1_000_000):  # over what libjpeg writes
        yield f"{width}x1.png", saved(Image.new("L", (width, 1)), "PNG"), REJECTED
    yield "65501x70.png", saved(Image.new("L", (65_501, 70)), "PNG"), RESIZED


def _bombs() -> Entries:
    plain = _sound()["baseline.jpg"]
    yield "bomb-65500x65500.jpg", made.sized(plain, 65_500, 65_500), REJECTED
    yield "bomb-65500x65500-cmyk.jpg", made.sized(_sound()["cmyk.jpg"], 65_500, 65_500), REJECTED
    yield "bomb-65500x65500-progressive.jpg", made.sized(_sound()["progressive.jpg"], 65_500, 65_500), REJECTED
    yield "bomb-880-scans-of-13376x13376.jpg", made.scan_bomb(13_376, 880), REJECTED
    yield "880-scans-of-100x100.jpg", made.scan_bomb(100, 880), CONVERTED  # a bomb that is too small to do harm
    yield "bomb-50000x50000.png", made.png(50_000, 50_000, 1, 0), REJECTED
    yield "bomb-65535x65535.gif", made.gif_screen(saved(photo(1, 1), "GIF"), 65_535, 65_535), REJECTED
    yield (
        "bomb-16383x16383.webp",
        made.webp_sized(saved(Image.new("RGBA", (16, 16)), "WEBP", lossless=True), 16_383),
        REJECTED,
    )
    text = zlib.compress(bytes(50_000_000))
    for chunk in (b"zTXt", b"iTXt", b"iCCP"):
        body = b"icc\0\0" + text if chunk != b"iTXt" else b"key\0\1\0\0\0" + text
        yield f"bomb-in-{chunk.decode()}.png", made.with_chunk(_sound()["rgb.png"], chunk, body), REJECTED


def _jpegs() -> Entries:
    for name, data in made.RARE.items():
        yield f"jpeg-{name}.jpg", data, REJECTED if "twelve" in name else CONVERTED
    pixels = np.array(photo())
    for sampling in ("444", "422", "420", "440", "411"):
        yield f"jpeg-{sampling}.jpg", simplejpeg.encode_jpeg(pixels, 90, "RGB", sampling), CONVERTED
    plain, cmyk = _sound()["baseline.jpg"], _sound()["cmyk.jpg"]
    yield "jpeg-cmyk-without-adobe-marker.jpg", made.without(cmyk, 0xEE), CONVERTED
    yield "jpeg-cmyk-progressive.jpg", saved(photo().convert("CMYK"), progressive=True), CONVERTED
    yield "jpeg-rgb-coded-by-names.jpg", saved(photo(), keep_rgb=True), CONVERTED
    adobe = made.segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))
    yield "jpeg-rgb-coded-by-adobe.jpg", made.with_segments(made.without(plain, 0xE0), adobe), CONVERTED
    odd = made.segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 9))
    yield "jpeg-adobe-transform-9.jpg", made.with_segments(made.without(plain, 0xE0), odd), CONVERTED
    yield "jpeg-adobe-cut-short.jpg", made.with_segments(plain, made.segment(0xEE, b"Adobe")), CONVERTED
    xmp = made.segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation="6"/>')
    yield "turned-by-xmp-alone.jpg", made.with_segments(plain, xmp), CONVERTED
    yield "jpeg-quality-1.jpg", saved(photo(), quality=1), CONVERTED
    yield "jpeg-quality-100.jpg", saved(photo(), quality=100), CONVERTED
    yield "jpeg-large.jpg", saved(photo(1_200, 800), quality=90), CONVERTED
    yield "jpeg-height-0.jpg", made.sized(plain, 120, 0), REJECTED
    yield "jpeg-width-0.jpg", made.sized(plain, 0, 80), REJECTED
    yield "jpeg-says-it-is-higher.jpg", made.sized(plain, 120, 160), REJECTED
    yield "jpeg-without-huffman-tables.jpg", made.without(plain, 0xC4), CONVERTED
    yield "jpeg-without-quantisation.jpg", made.without(plain, 0xDB), REJECTED
    yield "tar-and-jpeg.jpg", made.tar_and_jpeg(plain), CONVERTED


def _depths() -> Entries:
    """Colours and depths of PNG and TIFF."""
    grey = np.asarray(photo().convert("L")).astype(np.uint16) * 257
    yield "png-16-bit-grey.png", saved(Image.fromarray(grey), "PNG"), CONVERTED
    rows = (np.asarray(photo()).astype(">u2") * np.uint16(257)).astype(">u2").tobytes()
    yield "png-16-bit-rgb.png", made.png(120, 80, 16, 2, rows), CONVERTED
    yield "tiff-16-bit-grey.tiff", saved(Image.fromarray(grey), "TIFF"), CONVERTED
    yield "tiff-float.tiff", saved(photo().convert("F"), "TIFF"), REJECTED
    for mode in ("1", "L", "LA", "P", "RGBA"):
        yield f"png-{mode}.png", saved(_clear(mode), "PNG"), CONVERTED
    for bits in (1, 2, 4):
        yield f"png-palette-{bits}-bit.png", saved(photo().quantize(2**bits), "PNG", bits=bits), CONVERTED
    some = bytes(range(0, 256, 4)) + b"\xff" * 192
    yield "png-palette-with-alphas.png", saved(photo().quantize(256), "PNG", transparency=some), CONVERTED
    yield "png-palette-with-clear-colour.png", saved(photo().quantize(16), "PNG", transparency=3), CONVERTED
    yield "png-grey-with-clear-level.png", saved(photo().convert("L"), "PNG", transparency=90), CONVERTED
    yield "png-rgb-with-clear-colour.png", saved(photo(), "PNG", transparency=photo().getpixel((5, 5))), CONVERTED
    yield "gif-with-clear-colour.gif", saved(photo().quantize(16), "GIF", transparency=3), CONVERTED
    yield "webp-with-alpha.webp", saved(_clear("RGBA"), "WEBP", lossless=True), CONVERTED
    for kind in ("tiff_lzw", "jpeg", "tiff_deflate"):
        yield f"{kind}.tiff", saved(photo(), "TIFF", compression=kind), CONVERTED
    yield "cmyk.tiff", saved(photo().convert("CMYK"), "TIFF"), CONVERTED


def _clear(mode: str) -> Image.Image:
    """The photo, clearer to the right where the mode has an alpha channel."""
    image = photo().copy()
    image.putalpha(Image.linear_gradient("L").rotate(90).resize(image.size))
    return image.convert(mode) if mode in ("LA", "RGBA") else image.convert("RGB").convert(mode)


def _animations() -> Entries:
    frames = [photo(), photo().rotate(90), photo().convert("L").convert("RGB")]
    for kind in ("GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        yield f"{len(frames)}-frames.{kind.lower()}", data, CONVERTED


def _turned() -> Entries:
    for orientation in (*range(10), 65_535):  # 1 to 8 are known
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
            options: dict[str, Any] = {"exif": exif} | ({"quality": 95} if kind == "JPEG" else {})
            if kind in ("JPEG", "PNG") or 0 < orientation < 9:
                yield f"turned-{orientation}.{kind.lower()}", saved(photo(), kind, **options), CONVERTED


def _metadata() -> Entries:
    plain = _sound()["baseline.jpg"]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # without its date
    yield "with-icc-profile.jpg", saved(photo(), icc_profile=profile), CONVERTED
    yield "with-icc-profile-of-300-kB.jpg", saved(photo(), icc_profile=profile + bytes(300_000)), CONVERTED
    yield "with-icc-profile.png", saved(photo(), "PNG", icc_profile=profile), CONVERTED
    torn = made.segment(0xE2, b"ICC_PROFILE\0\2\1" + profile)
    yield "with-half-an-icc-profile.jpg", made.with_segments(plain, torn), CONVERTED
    whole = made.segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(65_500))
    yield "with-exif-of-1-MB.jpg", made.with_segments(plain, *[whole] * 16), CONVERTED
    for number, exif in enumerate((b"", b"II", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\xff\xff\xff\xff", bytes(40))):
        broken = made.segment(0xE1, b"Exif\0\0" + exif)
        yield f"with-broken-exif-{number}.jpg", made.with_segments(plain, broken), CONVERTED
        yield f"with-broken-exif-{number}.png", saved(photo(), "PNG", exif=b"Exif\0\0" + exif), CONVERTED
    comments = [made.segment(0xFE, b"x" * 65_533)] * 100
    yield "with-comments-of-6-MB.jpg", made.with_segments(plain, *comments), CONVERTED
    yield "with-10000-empty-segments.jpg", made.with_segments(plain, *[made.segment(0xEC, b"")] * 10_000), CONVERTED


def _kinds() -> Entries:
    for kind, options in {
        "JPEG2000": {"irreversible": False},
        "ICO": {"sizes": [(120, 80)]},
        "TGA": {},
        "PPM": {},
    }.items():
        yield f"kind.{kind.lower()}", saved(photo(), kind, **options), CONVERTED  # type: ignore[arg-type]
    yield "kind.eps", saved(photo(), "EPS"), REJECTED
    yield "kind.pdf", b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n", REJECTED


def _misnamed() -> Entries:
    sound = _sound()
    yield "in-truth-a-png.jpg", sound["rgb.png"], CONVERTED
    yield "in-truth-a-jpeg.png", sound["baseline.jpg"], CONVERTED
    yield "in-truth-a-gif.jpeg", sound["palette.gif"], CONVERTED
    yield "in-truth-a-webp.jpg", sound["rgb.webp"], CONVERTED
    yield "in-truth-an-avif.jpg", sound["rgb.avif"], CONVERTED
    yield "without-extension", sound["baseline.jpg"], CONVERTED


def _none() -> Entries:
    """What is no picture, or none that is known."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
    page = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Not here.</body></html>\n"
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        info = tarfile.TarInfo("1.jpg")
        info.size = len(data := _sound()["baseline.jpg"])
        file.addfile(info, io.BytesIO(data))
    texts: Iterable[tuple[str, bytes]] = {
        "no-bytes.jpg": b"",
        "drawing.svg": svg,
        "error-page.jpg": page,
        "pointer-of-git-lfs.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "zeros.jpg": bytes(5_000),
        "gzipped.jpg": gzip.compress(_sound()["baseline.jpg"], mtime=0),
        "tar-of-a-jpeg.jpg": tar.getvalue(),
        "start-marker-only.jpg": b"\xff\xd8",
        "markers-only.jpg": b"\xff\xd8\xff\xd9",
        "restart-markers-only.jpg": b"\xff\xd8" + b"\xff\xd0" * 5_000,
        "fill-bytes-only.jpg": b"\xff\xd8" + b"\xff" * 100_000,
        "png-signature-only.png": b"\x89PNG\r\n\x1a\n",
    }.items()
    for name, content in texts:
        yield name, content, REJECTED
    for seed in range(5):
        noise = random.Random(seed).randbytes(2_000)
        yield f"noise-{seed}.jpg", noise, REJECTED
        yield f"noise-behind-start-marker-{seed}.jpg", b"\xff\xd8\xff" + noise, REJECTED
