"""Whatever Pillow reads becomes upright 8-bit RGB and a plain JPEG; damage is an ImageError and nothing else."""

from __future__ import annotations

import functools
import io
import re
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sample_source import CLASSES
from sample_source import jpeg as photo_jpeg
from sample_source import photo as source_photo

from tests.conftest import jpeg
from wdsremux import codec
from wdsremux.codec import decoding
from wdsremux.errors import ImageError

Array = np.ndarray[Any, Any]


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """A real photograph, made small."""
    return Image.open(io.BytesIO(photo_jpeg(2, "train", 0))).convert("RGB").resize((width, height))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(ImageError) as caught:
        call()
    return str(caught.value)


def psnr(a: Array, b: Array) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(np.float64) - b).mean()))


# What can be decoded

LOSSLESS = {
    "PNG": lambda rgb: saved(rgb, "PNG"),
    "WebP": lambda rgb: saved(rgb, "WEBP", lossless=True),
    "BMP": lambda rgb: saved(rgb, "BMP"),
    "TIFF": lambda rgb: saved(rgb, "TIFF"),
    "PPM": lambda rgb: saved(rgb, "PPM"),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats(kind: str) -> None:
    pixels = codec.decode(LOSSLESS[kind](photo()))
    assert np.array_equal(pixels, np.asarray(photo()))
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_transparency_goes_over_white() -> None:
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[0, :, 3] = (0, 255, 128)
    over_white = codec.decode(saved(Image.fromarray(rgba), "PNG"))
    assert over_white[0, 0].tolist() == [255, 255, 255]
    assert over_white[0, 1].tolist() == [200, 0, 0]
    assert np.abs(over_white[0, 2].astype(int) - [227, 127, 127]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_transparency(kind: str) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    pixels = codec.decode(saved(image, kind, transparency=1))
    assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert pixels[1].tolist() == [[70, 80, 90], [255, 255, 255]]


def test_grey_with_alpha() -> None:
    image = Image.fromarray(np.array([[[100, 255], [100, 0]]], np.uint8), "LA")
    assert codec.decode(saved(image, "PNG")).tolist() == [[[100] * 3, [255] * 3]]


def test_grey() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    assert np.array_equal(codec.decode(saved(Image.fromarray(grey), "PNG")), grey[..., None].repeat(3, 2))


def test_one_bit() -> None:
    bits = np.array([[True, False, True]])
    assert codec.decode(saved(Image.fromarray(bits), "PNG")).tolist() == [[[255] * 3, [0] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    """Pillow's own convert("RGB") clips: all above 255 turns white."""
    grey = np.array([[0, 257, 32_896, 65_535]], np.uint16)
    assert codec.decode(saved(Image.fromarray(grey), kind))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_float_is_refused() -> None:
    assert error_of(lambda: codec.decode(saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))).startswith(
        "float"
    )


def test_grey_jpeg_and_cmyk_jpeg() -> None:
    grey = codec.decode(saved(photo().convert("L"), "JPEG", quality=95))
    assert psnr(grey, np.asarray(photo().convert("L").convert("RGB"))) > 35
    cmyk = saved(photo().convert("CMYK"), "JPEG", quality=95)
    assert np.array_equal(codec.decode(cmyk), np.asarray(Image.open(io.BytesIO(cmyk)).convert("RGB")))


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    animated = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert codec.decode(animated)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_jpegs_decode_as_pillow_does(options: dict[str, Any]) -> None:
    data = saved(photo(), "JPEG", quality=90, **options)
    assert np.array_equal(codec.decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_memoryview() -> None:
    data = saved(photo(), "JPEG")
    for content in (data, saved(photo(), "PNG")):
        assert np.array_equal(codec.decode(memoryview(content)), codec.decode(content))
    assert codec.keep(memoryview(data), codec.Encoding()).data == data


# Upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_turns_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(40, 24), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    decoded = codec.decode(data)
    assert np.array_equal(decoded, upright)
    assert decoded.flags.c_contiguous
    kept = codec.keep(data, codec.Encoding())
    assert (kept.height, kept.width) == upright.shape[:2]
    assert codec.decode(kept.data).shape == upright.shape
    assert (kept.data == data) == (kind == "JPEG" and orientation == 1)


@pytest.mark.parametrize("exif", [b"", b"II", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\xff\xff\xff\xff", bytes(40)])
def test_damaged_metadata_loses_no_picture(exif: bytes) -> None:
    plain = saved(photo(), "JPEG")
    data = plain[:2] + segment(0xE1, b"Exif\0\0" + exif) + plain[2:]
    assert np.array_equal(codec.decode(data), codec.decode(plain))


# Scaled decoding and resizing


@pytest.mark.parametrize("size", [(400, 300), (401, 299), (1600, 1000), (257, 2000), (3000, 520), (100, 60)])
@pytest.mark.parametrize("target", [16, 33, 96, 128])
@pytest.mark.parametrize(("spare", "times"), [(codec.FINE, 2), (codec.FAST, 1)])
def test_scaled_decode_is_large_enough(size: tuple[int, int], target: int, spare: int, times: int) -> None:
    """The smallest of 1/1, 1/2, 1/4, 1/8 that leaves twice the target (FAST: the target), or the whole."""
    data = jpeg(np.zeros((size[1], size[0], 3), np.uint8))
    height, width = codec.decode(data, target, spare).shape[:2]
    allowed = [s for s in (1, 2, 4, 8) if s == 1 or -(-min(size) // s) >= times * target]
    assert (width, height) == (-(-size[0] // allowed[-1]), -(-size[1] // allowed[-1]))


@pytest.mark.parametrize(("spare", "mean_db", "most_db"), [(codec.FINE, 0.15, 1.0), (codec.FAST, 1.2, 4.0)])
def test_scaled_decode_costs_little_quality(spare: int, mean_db: float, most_db: float) -> None:
    """Web photos to 256 px at q90, against a full decode; FINE loses no more than a fast DCT alone would."""
    losses = []
    for name in CLASSES:
        picture = source_photo(name)
        data = saved(picture.resize((1_400 * picture.width // picture.height, 1_400)), "JPEG", quality=90)
        full, scaled = codec.decode(data), codec.resize_short_side(data, 256, spare)
        assert min(codec.decode(data, 256, spare).shape[:2]) < min(full.shape[:2])
        height, width = scaled.shape[:2]
        whole = codec.resize(full, height, width)
        wanted = np.asarray(Image.fromarray(full).resize((width, height), Image.Resampling.BILINEAR))
        after = [psnr(codec.decode(codec.encode(pixels, codec.Encoding()).data), wanted) for pixels in (whole, scaled)]
        losses.append(after[0] - after[1])
    assert np.mean(losses) < mean_db
    assert max(losses) < most_db


@pytest.mark.parametrize("size", [(32, 24), (7, 100), (64, 48), (200, 31)])
def test_resize_is_torchvisions(size: tuple[int, int]) -> None:
    from torchvision.transforms import v2

    pixels = np.array(photo())
    chw = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    theirs = v2.functional.resize(chw, [size[1], size[0]], antialias=True).permute(1, 2, 0).numpy()
    resized = codec.resize(pixels, size[1], size[0])
    assert np.array_equal(resized, theirs)
    assert np.array_equal(codec.resize(np.asfortranarray(pixels), size[1], size[0]), theirs)


@given(width=st.integers(1, 70), height=st.integers(1, 70), side=st.integers(1, 60))
@settings(deadline=None)
def test_short_side_has_torchvisions_size(width: int, height: int, side: int) -> None:
    from torchvision.transforms import v2

    image = Image.new("RGB", (width, height))
    pixels = codec.resize_short_side(saved(image, "PNG"), side)
    assert pixels.shape[1::-1] == v2.functional.resize(image, [side]).size


@given(width=st.integers(1, 90), height=st.integers(1, 90), side=st.integers(1, 40))
@settings(deadline=None)
def test_square_has_its_size(width: int, height: int, side: int) -> None:
    assert codec.resize_square(jpeg(np.zeros((height, width, 3), np.uint8)), side).shape == (side, side, 3)


def test_square_is_the_middle() -> None:
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 255
    for pixels in (stripes, stripes.transpose(1, 0, 2)):
        assert codec.resize_square(saved(Image.fromarray(np.ascontiguousarray(pixels)), "PNG"), 4).min() == 255


# What is written


def segments(data: bytes) -> list[int]:
    """The markers before the first scan."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        found.append(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return found


@pytest.mark.parametrize(("subsampling", "factors"), [("420", (2, 2)), ("444", (1, 1))])
def test_encoded_is_plain(subsampling: str, factors: tuple[int, int]) -> None:
    """Baseline, YCbCr in the chosen subsampling; no metadata, whatever the source brought along."""
    exif = Image.Exif()
    exif[0x010E] = "description"
    source = saved(photo(), "JPEG", exif=exif, comment=b"a comment", icc_profile=b"p" * 200, quality=95)
    encoded = codec.encode(codec.resize_short_side(source, 32), codec.Encoding(subsampling=subsampling))
    assert set(segments(encoded.data)) == {0xE0, 0xDB, 0xC0, 0xC4}
    head = codec.header(encoded.data)
    assert head.gpu_safe
    assert head.component_ids == (1, 2, 3)
    with Image.open(io.BytesIO(encoded.data)) as image:
        assert image.layer[0][1:3] == factors  # type: ignore[attr-defined]
        assert (image.width, image.height) == (encoded.width, encoded.height) == (42, 32)
        assert not image.getexif()
        assert image.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_quality_counts() -> None:
    pixels = np.asarray(photo())
    sizes = [len(codec.encode(pixels, codec.Encoding(quality=quality)).data) for quality in (50, 75, 95)]
    assert sizes == sorted(sizes)
    assert psnr(codec.decode(codec.encode(pixels, codec.Encoding(quality=95, subsampling="444")).data), pixels) > 36


def test_too_long_for_a_jpeg() -> None:
    assert "65536x1" in error_of(lambda: codec.encode(np.zeros((1, 65_536, 3), np.uint8), codec.Encoding()))
    flat = saved(Image.new("RGB", (3_000, 2)), "PNG")
    assert error_of(lambda: codec.resize_short_side(flat, 64)).startswith("too long: 3000x2 px")
    assert codec.resize_short_side(flat, 43).shape == (43, 64_500, 3)


# Kept as it is


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"comment": b"hello"}])
def test_keep_keeps_a_sound_baseline_jpeg(options: dict[str, Any]) -> None:
    for image in (photo(), photo().convert("L")):
        data = saved(image, "JPEG", **options)
        assert codec.keep(data, codec.Encoding()) == codec.Jpeg(data, 64, 48)


RGB_CODED = {
    "named R, G, B": lambda: saved(photo(), "JPEG", keep_rgb=True),
    "marked by Adobe": lambda: (
        saved(photo(), "JPEG")[:2]
        + segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))
        + saved(photo(), "JPEG")[20:]
    ),  # without its JFIF segment, as libjpeg lets that one win
}


@pytest.mark.parametrize("kind", RGB_CODED)
def test_keep_encodes_rgb_coded_again(kind: str) -> None:
    data = RGB_CODED[kind]()
    assert not codec.header(data).gpu_safe
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(image.convert("RGB"))
    assert np.array_equal(codec.decode(data), wanted)
    kept = codec.keep(data, codec.Encoding(quality=95, subsampling="444"))
    assert kept.data != data
    assert codec.header(kept.data).gpu_safe
    assert psnr(codec.decode(kept.data), wanted) > 25


@pytest.mark.parametrize(
    "data",
    [
        saved(photo(), "JPEG", progressive=True),
        saved(photo().convert("CMYK"), "JPEG"),
        saved(photo(), "PNG"),
        saved(photo(), "WEBP"),
    ],
    ids=["progressive", "CMYK", "PNG", "WebP"],
)
def test_keep_encodes_the_rest_again(data: bytes) -> None:
    kept = codec.keep(data, codec.Encoding())
    assert kept.data != data
    assert codec.header(kept.data).gpu_safe
    assert psnr(codec.decode(kept.data), codec.decode(data)) > 25


# Damage

DAMAGED = {
    "baseline": saved(photo(), "JPEG"),
    "progressive": saved(photo(), "JPEG", progressive=True),
    "grey": saved(photo().convert("L"), "JPEG"),
    "CMYK": saved(photo().convert("CMYK"), "JPEG"),
    "PNG": saved(photo(), "PNG"),
    "WebP": saved(photo(), "WEBP"),
    "GIF": saved(photo(), "GIF"),
}
ENTRANCES: list[Callable[[bytes], object]] = [
    lambda data: codec.keep(data, codec.Encoding()),
    lambda data: codec.resize_short_side(data, 16),
    lambda data: codec.resize_square(data, 8),
]


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("tenths", range(10))
def test_cut_short(kind: str, tenths: int) -> None:
    data = DAMAGED[kind]
    for entrance in ENTRANCES:
        assert error_of(functools.partial(entrance, data[: len(data) * tenths // 10]))


@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey"])
def test_a_hole_in_the_scan(kind: str) -> None:
    """Its end is there, so that libjpeg only warns, and Pillow decodes it to garbage without a word."""
    data = DAMAGED[kind]
    holed = data[: len(data) * 3 // 4] + data[-2:]
    with Image.open(io.BytesIO(holed)) as image:
        image.load()
    for entrance in ENTRANCES:
        assert error_of(functools.partial(entrance, holed)).startswith("damaged JPEG: ")


def test_stray_bytes_before_a_marker_lose_nothing() -> None:
    """libjpeg warns of these as well, but the picture is whole."""
    data = DAMAGED["baseline"]
    at = data.index(b"\xff\xda")
    assert np.array_equal(codec.decode(data[:-2] + b"\x00\x00" + data[-2:]), codec.decode(data))
    assert np.array_equal(codec.decode(data[:at] + b"\x01" + data[at:]), codec.decode(data))


@pytest.mark.parametrize(
    "data", [b"", b"text in disguise", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(99)]
)
def test_what_is_no_image(data: bytes) -> None:
    reason = error_of(lambda: codec.decode(data))
    assert reason == error_of(lambda: codec.decode(bytes(bytearray(data))))  # no address of an object in it
    assert "0x" not in reason
    assert "\n" not in reason


@given(
    kind=st.sampled_from(sorted(DAMAGED)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    entrance=st.sampled_from(ENTRANCES),
)
@settings(deadline=None, max_examples=300)
def test_damage_is_an_image_error_or_a_picture(
    kind: str, edits: list[tuple[float, int]], entrance: Callable[[bytes], object]
) -> None:
    damaged = bytearray(DAMAGED[kind])
    for place, value in edits:
        damaged[int(place * len(damaged))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor a warning, thousands of which would drown the rest
        try:
            result: object = entrance(bytes(damaged))
        except ImageError as error:
            result = str(error)
    assert result if isinstance(result, str) else isinstance(result, codec.Jpeg | np.ndarray)
    assert "\n" not in str(result) or not isinstance(result, str)


@given(data=st.binary(max_size=64))
def test_noise_is_an_image_error(data: bytes) -> None:
    assert error_of(lambda: codec.decode(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_too_large(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(photo(), kind)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 64 * 48 - 1)
    assert error_of(lambda: codec.decode(data)).startswith("too large: 64x48 px")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 64 * 48)
    assert codec.decode(data).shape == (48, 64, 3)


def test_decompression_bomb() -> None:
    """A JPEG that says it is huge is refused before its memory is asked for."""
    data = bytearray(DAMAGED["baseline"])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    assert re.search("65000x65000 px|4225000000 pixels", error_of(lambda: codec.decode(bytes(data))))


def test_bytes_after_the_end_do_no_harm() -> None:
    data = DAMAGED["baseline"] + b"\0" * 100
    assert np.array_equal(codec.decode(data), codec.decode(DAMAGED["baseline"]))


# Headers


@given(data=st.binary(max_size=200))
def test_header_of_noise(data: bytes) -> None:
    for content in (data, b"\xff\xd8" + data, b"\xff\xd8\xff" + data):
        try:
            frame = codec.header(content).frame
        except ImageError:
            continue
        assert frame >= 0xC0


@given(
    frame=st.sampled_from([0xC0, 0xC1, 0xC2, 0xC3, 0xC9]),
    size=st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)),
    precision=st.sampled_from([8, 12]),
    ids=st.lists(st.integers(0, 255), min_size=1, max_size=4),
    before=st.lists(st.tuples(st.integers(0xE2, 0xEC), st.binary(max_size=20)), max_size=3),
    fill=st.integers(0, 3),
)
def test_header(
    frame: int, size: tuple[int, int], precision: int, ids: list[int], before: list[tuple[int, bytes]], fill: int
) -> None:
    sof = struct.pack(">BHHB", precision, size[1], size[0], len(ids)) + b"".join(bytes([i, 0x11, 0]) for i in ids)
    data = b"\xff\xd8" + b"".join(segment(*part) for part in before) + b"\xff" * fill + segment(frame, sof)
    head = codec.header(data)
    assert (head.frame, head.precision, head.width, head.height) == (frame, precision, *size)
    assert head.component_ids == tuple(ids)
    assert head.adobe_transform is None
    assert head.exif is None
    assert head.gpu_safe == (frame == 0xC0 and precision == 8 and len(ids) in (1, 3) and ids != [82, 71, 66])


def test_version_names_the_library() -> None:
    assert any(character.isdigit() for character in codec.libjpeg_version())


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n", b"", b"no image"]
)
def test_what_training_code_would_decode_is_refused_alike(content: bytes) -> None:
    """PostScript is a program, and nothing of a stranger's is run; also where a plan decodes as others do."""
    for decodes in (codec.decode, codec.decode_with_pillow):
        with pytest.raises(ImageError):
            decodes(content)
    if content.startswith(b"%!PS"):
        with pytest.raises(ImageError, match="an EPS file, which is a program"):
            codec.decode_with_pillow(content)
