"""Five hundred damaged, odd and huge files, converted: each comes out as Pillow shows it, or is rejected.

What comes out is decoded by DALI and TorchCodec. Time and memory are measured file by file, in a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
from PIL import EpsImagePlugin, Image, ImageOps, UnidentifiedImageError

import wdsremux
from tests.conftest import needs
from tests.support import hostile, hostile_files
from tests.support.hostile import SIDE, Hostile
from tests.support.reading import check_split, read_split
from tests.support.soak import tries
from wdsremux import codec
from wdsremux.errors import ImageError
from wdsremux.format import keys, samples

RECIPES = (f"resize:{SIDE}", "copy")
MEAN_OFF, MOST_OFF = 1.5, 40  #: levels of 255 between a baked picture and Pillow's: on average, and at most
SLOWEST_S = 10.0  #: of CPU, a file
GIANTS_S = 30.0  #: of CPU, for one of the largest that are allowed; they take 2 to 10
PEAK_MIB = 128  #: that one file of the corpus may add
GIANTS_PEAK_MIB = 3_000  #: that the largest picture allowed, of 178 megapixels, may add
Note = Callable[[str, str], None]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What a conversion made of the corpus."""

    recipe: str
    out: Path
    samples: dict[str, bytes]  #: JPEG by name of the hostile file
    rejects: dict[str, str]  #: reason by name

    def shards(self) -> list[Path]:
        return sorted((self.out / "train").glob("*.tar"))


@pytest.fixture(scope="module")
def corpus() -> dict[str, Hostile]:
    """By name."""
    flips = tries(hostile.FLIPS, 200)
    return {each.name: each for each in hostile.corpus(flips)}


@pytest.fixture(scope="module")
def source(corpus: dict[str, Hostile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parquet file of them all."""
    import datasets

    folder = tmp_path_factory.mktemp("hostile-source")
    rows = [{"bytes": each.data, "path": each.name} for each in corpus.values()]
    schema = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}).arrow_schema
    table = pa.table({"image": rows, "label": range(len(rows))}, schema=schema)
    pq.write_table(table, folder / "train.parquet", row_group_size=50)
    return folder


@pytest.fixture(scope="module", params=RECIPES)
def result(
    request: pytest.FixtureRequest,
    corpus: dict[str, Hostile],
    source: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Result:
    out = tmp_path_factory.mktemp("hostile-converted")
    wdsremux.convert(source, out, recipe=request.param, workers=2, samples_per_shard=40, max_rejects="100%")
    names, split = list(corpus), out / "train"
    found = {names[int(content["cls"])]: content["jpg"] for content in read_split(split).values()}
    rejects = [json.loads(line) for line in (split / "rejects.jsonl").read_text().splitlines()]
    return Result(request.param, out, found, {line["where"]: line["reason"] for line in rejects})


def upright(data: bytes) -> Array:
    """The picture as Pillow alone gives it: turned by EXIF, alpha over white, 8-bit RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image: Image.Image = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:  # of flipped bits in a JPEG's header, which only Pillow minds
            return torchcodec_pixels(data)
        with image:
            image.load()
            if image.mode.startswith("I;16"):  # whose convert("RGB") turns all above 255 white
                return np.asarray(Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB"))
            with contextlib.suppress(Exception):  # metadata that is damaged turns nothing
                image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))


def torchcodec_pixels(jpeg: bytes) -> Array:
    from torchcodec.decoders import decode_jpeg

    pixels: Any = decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), mode="RGB")
    return np.asarray(pixels.permute(1, 2, 0))


def as_jpeg(pixels: Array) -> Array:
    """What is left of a picture in a JPEG of the quality that is baked."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return np.asarray(Image.open(file))


def resized(pixels: Array) -> Array:
    """By torchvision, short side SIDE."""
    from torchvision.transforms import v2

    chw = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    return np.asarray(v2.functional.resize(chw, [SIDE], antialias=True).permute(1, 2, 0))


# What becomes of each


def test_the_corpus_is_large_and_the_same_in_every_run(corpus: dict[str, Hostile]) -> None:
    assert len(corpus) >= 500
    again = {each.name: each for each in hostile.corpus()}
    assert {name for name in again if again[name] != corpus[name]} <= {"3-frames.avif"}  # which holds the time


def test_each_is_converted_or_rejected(result: Result, corpus: dict[str, Hostile], tally: Note) -> None:
    check_split(result.out / "train", len(corpus))
    assert result.samples.keys() | result.rejects.keys() == corpus.keys()
    assert not result.samples.keys() & result.rejects.keys()
    for name, each in corpus.items():
        expected = each.converts(result.recipe)
        assert expected is None or expected == (name in result.samples), f"{name}: {result.rejects.get(name)}"
    for name, reason in result.rejects.items():
        assert reason
        assert reason.isprintable(), name
        assert len(reason) < 200, name
        if not name.startswith("bomb-"):
            tally("a file that is not an image, or is damaged", "rejected, with the reason")


def test_pixels_are_pillows(result: Result, corpus: dict[str, Hostile], tally: Note) -> None:
    """Of the 12-bit and damaged ones none is here; a baseline JPEG that is copied is the very same file."""
    for name, jpeg in result.samples.items():
        data = corpus[name].data
        if jpeg == data:
            continue
        wanted = as_jpeg(resized(upright(data)) if result.recipe != "copy" else upright(data))
        found = upright(jpeg)
        assert found.shape == wanted.shape, name
        off = np.abs(found.astype(int) - wanted)
        assert off.mean() <= MEAN_OFF, name
        assert off.max() <= MOST_OFF, name
        tally("an odd image: CMYK, 16 bits, palette, turned, animated …", "as Pillow shows it, within rounding")


def test_copied_files_are_those_that_every_decoder_takes(result: Result, corpus: dict[str, Hostile]) -> None:
    if result.recipe != "copy":
        assert all(jpeg != corpus[name].data for name, jpeg in result.samples.items())
        return
    same = {name for name, jpeg in result.samples.items() if jpeg == corpus[name].data}
    assert same >= {
        "sound-baseline.jpg",
        "sound-restarts.jpg",
        "sound-grey.jpg",
        "in-truth-a-jpeg.png",
        "turned-1.jpeg",
    }
    assert not same & {"turned-6.jpeg", "turned-by-xmp-alone.jpg", "stray-byte-in-header.jpg"}
    for name in same:
        head = codec.header(corpus[name].data)
        assert head.frame == 0xC0, name
        assert len(head.component_ids) in (1, 3), name


def test_what_libjpeg_warns_of_is_rejected(result: Result, corpus: dict[str, Hostile], tally: Note) -> None:
    """Of bits flipped in tables and scans: libjpeg goes on, and shows whatever comes out."""
    warned = 0
    for name, each in corpus.items():
        if name.startswith(("bits-flipped-in-scan", "bits-flipped-in-tables")):
            try:
                simplejpeg.decode_jpeg(each.data, "RGB")
            except ValueError:
                warned += 1
                assert name in result.rejects
                tally("a JPEG with flipped bits that libjpeg only warns of", "rejected, with the reason")
    assert warned >= 40


def test_no_program_draws_a_picture(
    corpus: dict[str, Hostile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would have Ghostscript run an EPS, which is a program."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # so that it is looked for anew
    with pytest.raises(ImageError, match="an EPS file, which is a program"):
        codec.decode(corpus["kind.eps"].data)
    assert not (tmp_path / "ran").exists()


# What comes out


def test_dali_decodes_every_picture(result: Result) -> None:
    needs("nvidia.dali", "DALI")
    from nvidia.dali import fn, pipeline_def

    table = samples.read(result.out / "train" / samples.NAME)
    tars = [str(path) for path in result.shards()]

    @pipeline_def(batch_size=16, num_threads=1, device_id=None)  # type: ignore[untyped-decorator,unused-ignore]
    def pipeline() -> Any:
        indexes = [path.removesuffix(".tar") + ".idx" for path in tars]
        read: Any = fn.readers.webdataset  # typed as if it might give nothing
        jpegs, _ = read(paths=tars, index_paths=indexes, ext=["jpg", "cls"])
        return fn.decoders.image(jpegs, device="cpu").shape()

    pipe = pipeline()
    pipe.build()
    shapes = [np.array(shape).tolist() for _ in range(-(-len(table) // 16)) for shape in pipe.run()[0]]
    assert shapes[: len(table)] == [[int(row["height"]), int(row["width"]), 3] for row in table]


def test_torchcodec_decodes_every_picture(result: Result) -> None:
    """The same size, and the same pixels as Pillow, in whose place it may stand."""
    needs("torchcodec.decoders", "TorchCodec")
    contents = read_split(result.out / "train")
    for row in samples.read(result.out / "train" / samples.NAME):
        jpeg = contents[keys.key(row["fragment"], row["row"])]["jpg"]
        pixels = torchcodec_pixels(jpeg)
        assert pixels.shape == (row["height"], row["width"], 3)
        assert np.array_equal(pixels, upright(jpeg))


def test_our_loader_takes_every_picture(result: Result) -> None:
    needs("torchvision", "torchvision")
    count = len(result.samples)
    with wdsremux.DataLoader(
        result.out, 16, split="train", shuffle=False, augment="eval", size=32, backend="torchvision", device="cpu"
    ) as loader:
        assert sum(len(images) for images, _ in loader) == count


def test_a_folder_of_them_says_the_same(corpus: dict[str, Hostile], tmp_path: Path) -> None:
    """By their names a third are taken for images; what they are is told by their bytes."""
    named = [each for each in corpus.values() if not each.name.startswith("bits") and Path(each.name).suffix == ".jpg"]
    (tmp_path / "photos").mkdir()
    for each in named:
        (tmp_path / "photos" / each.name).write_bytes(each.data)
    wdsremux.convert(tmp_path / "photos", tmp_path / "out", recipe="copy", workers=1, max_rejects="100%")
    lines = [json.loads(line) for line in (tmp_path / "out" / "train" / "rejects.jsonl").read_text().splitlines()]
    assert {line["where"] for line in lines} == {each.name for each in named if each.converts("copy") is False}
    assert len(read_split(tmp_path / "out" / "train")) == len(named) - len(lines)


# Time and memory


@dataclass(frozen=True, slots=True)
class Cost:
    """What one file took."""

    name: str
    cpu_s: float
    peak_mib: int  #: over what the process had before


def costs(files: Iterator[tuple[str, bytes]] | Sequence[tuple[str, bytes]]) -> list[Cost]:
    """Bake files one by one. In a process of its own: the peak is that of the process, reset between two files."""
    torch.set_num_threads(1)
    codec.resize(np.zeros((99, 99, 3), np.uint8), SIDE, SIDE)
    found = []
    for name, data in files:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew at what is resident (proc(5))
        before, start = _peak_mib(), time.process_time()
        with contextlib.suppress(ImageError):
            codec.encode(codec.resize_short_side(data, SIDE), codec.Encoding())
        found.append(Cost(name, time.process_time() - start, _peak_mib() - before))
    return found


def _peak_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def corpus_costs(source: Path) -> list[Cost]:
    images = pq.read_table(source / "train.parquet")["image"].to_pylist()
    return costs([(image["path"], image["bytes"]) for image in images])


def giants() -> Iterator[tuple[str, bytes]]:
    """As large as is allowed, and most of them a few kilobytes: 178 megapixels of one colour."""
    side = 13_370
    yield "JPEG of 20 scans", hostile_files.scan_bomb(side, 20)
    yield "PNG, RGBA", hostile_files.png(side, side, 8, 6)
    yield "PNG, 16-bit grey", hostile_files.png(side, side, 16, 0)
    yield "WebP", hostile_files.webp_sized(hostile.saved(Image.new("RGBA", (16, 16)), "WEBP", lossless=True), side)
    for mode, kind, options in (
        ("P", "GIF", {}),
        ("CMYK", "JPEG", {"progressive": True}),
        ("RGB", "AVIF", {"speed": 10}),
    ):
        yield f"{kind}, {mode}", hostile.saved(Image.new(mode, (side, side)), kind, **options)


def giant_costs() -> list[Cost]:
    return costs(giants())


def _alone(function: Callable[..., list[Cost]], *arguments: Any) -> list[Cost]:
    """Called in a new process."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of this process's memory cannot be reset here")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def test_time_and_memory_of_each(source: Path, tally: Note) -> None:
    found = _alone(corpus_costs, source)
    assert len(found) >= 500
    slowest, largest = max(found, key=lambda cost: cost.cpu_s), max(found, key=lambda cost: cost.peak_mib)
    print(f"slowest {slowest}, largest {largest}")
    assert slowest.cpu_s < SLOWEST_S, slowest
    assert largest.peak_mib < PEAK_MIB, largest
    for cost in found:
        if cost.name.startswith("bomb-"):
            tally("a decompression bomb, as JPEG, PNG, WebP and GIF", "refused within 10 s and 128 MB")


@pytest.mark.system
def test_time_and_memory_of_the_largest_that_are_allowed(tally: Note) -> None:
    """Half a minute."""
    for cost in _alone(giant_costs):
        print(cost)
        assert cost.cpu_s < GIANTS_S, cost
        assert cost.peak_mib < GIANTS_PEAK_MIB, cost
        tally("an image of 178 megapixels, the largest allowed", "converted, in less than 30 s and 3 GB")
