"""Loading at several sizes of picture: ours against DALI's own webdataset reader, and webdataset with torchvision.

    python benchmarks/bench_sizes.py build/bench-sizes [--page docs/benchmarks.md] [--sides 32,64,96,128,224]

Photographs of scripts/sample_source.py are converted to each size; 224 px are crops of 256. All contenders do the same
work, random resized crops and flips, normalised where they are floats, on a thread a core, and go on from where they
were in the round before; the batches that they had ready are not counted. Ratios are of images/s in one run, the
medians of interleaved rounds. `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_machine import CORES
from readme_part import replace_part

BEGIN, END = "<!-- sizes: made by benchmarks/bench_sizes.py -->", "<!-- end of sizes -->"
SIDES = {32: 32, 64: 64, 96: 96, 128: 128, 224: 256}  #: of the crop, and of the short side of what it is taken from
BATCH = 256
PHOTOS = 4_000
READY = 8  #: batches that a contender may have ready, not counted
TURN_S = 2.0
SAMPLE = Path(__file__).parents[1] / "scripts" / "sample_source.py"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Batches = Iterator[int]  #: endless; the images of each batch
Form = tuple[str, bool]  #: dtype, and whether images lie channels last
FORMS: dict[str, Form] = {
    "float NCHW": ("float32", False),
    "float NHWC": ("float32", True),
    "uint8 NCHW": ("uint8", False),
    "uint8 NHWC": ("uint8", True),
}


def ours(out: Path, side: int, form: Form, backend: str) -> Batches:
    """`wdsremux.DataLoader`."""
    dtype, last = form
    loader = importlib.import_module("wdsremux").DataLoader(
        out,
        BATCH,
        size=side,
        backend=backend,
        device="cpu",
        dtype=getattr(torch, dtype),
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
    with loader:
        while True:
            yield from (len(images) for images, _ in loader)


def dali_reader(out: Path, side: int, form: Form) -> Batches:
    """DALI's pipeline over its own reader of tars."""
    fn, types = (importlib.import_module(f"nvidia.dali.{name}") for name in ("fn", "types"))
    dtype, last = form
    floats = dtype == "float32"
    tars = sorted(map(str, (out / "train").glob("*.tar")))
    pipeline = importlib.import_module("nvidia.dali.pipeline").Pipeline(BATCH, CORES, None, prefetch_queue_depth=2)
    with pipeline:
        files, labels = fn.readers.webdataset(
            paths=tars,
            index_paths=[f"{tar[:-4]}.idx" for tar in tars],
            ext=["jpg", "cls"],
            random_shuffle=True,
            initial_fill=2048,
        )
        crops = fn.decoders.image_random_crop(files, random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3])
        resized = fn.resize(crops, size=[side, side], antialias=True, interp_type=types.INTERP_LINEAR)
        images = fn.crop_mirror_normalize(
            resized,
            dtype=types.FLOAT if floats else types.UINT8,
            output_layout="HWC" if last else "CHW",
            mean=[255 * value for value in MEAN] if floats else [0.0] * 3,
            std=[255 * value for value in STD] if floats else [1.0] * 3,
            mirror=fn.random.coin_flip(),
        )
        pipeline.set_outputs(images, labels)
    pipeline.build()
    while True:
        yield len(pipeline.run()[0])


def webdataset(out: Path, side: int, form: Form) -> Batches:
    """webdataset, Pillow and torchvision's v2 transforms, in torch's DataLoader."""
    from PIL import Image
    from torchvision.transforms import v2

    wds = importlib.import_module("webdataset")
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomResizedCrop(side, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def made(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
        image = Image.open(io.BytesIO(sample["jpg"])).convert("RGB")
        return transform(image), int(sample["cls"])

    tars = sorted(map(str, (out / "train").glob("*.tar")))
    samples = wds.WebDataset(tars, shardshuffle=100, nodesplitter=wds.split_by_node, empty_check=False)
    samples = samples.shuffle(1000).map(made)
    workers = torch.utils.data.DataLoader(samples, BATCH, num_workers=CORES, drop_last=True, persistent_workers=True)
    while True:
        yield from (len(images) for images, _ in workers)


def contenders(out: Path, side: int, form: Form) -> dict[str, Batches]:
    """By name; webdataset only as it is used most."""
    made: dict[str, Callable[[Path, int, Form], Batches]] = {
        "auto": partial(ours, backend="auto"),
        "dali": partial(ours, backend="dali"),
        "reader": dali_reader,
    }
    if form == FORMS["float NCHW"]:
        made["webdataset"] = webdataset
    return {name: make(out, side, form) for name, make in made.items()}


def rate(batches: Batches, turn_s: float) -> float:
    """Images/s of a turn."""
    for _ in range(READY):
        next(batches)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < turn_s:
        images += next(batches)
    return images / (time.perf_counter() - start)


def measure(out: Path, side: int, form: Form, rounds: int, turn_s: float) -> dict[str, float]:
    """The medians, in images/s."""
    running = contenders(out, side, form)
    rates: dict[str, list[float]] = {name: [] for name in running}
    for number in range(rounds + 1):
        for name, batches in running.items():
            found = rate(batches, turn_s)
            if number:
                rates[name].append(found)
    for batches in running.values():
        batches.close()  # type: ignore[attr-defined]  # a generator
    return {name: statistics.median(found) for name, found in rates.items()}


def converted(folder: Path, side: int) -> Path:
    """A set of that short side."""
    source, out = folder / "photographs", folder / f"set-{side}"
    if not source.exists():
        subprocess.run([sys.executable, SAMPLE, source, "--train", str(PHOTOS), "--test", "10"], check=True)
    recipe = ["--recipe", f"resize:{side}", "-q"]
    subprocess.run([sys.executable, "-m", "wdsremux", "convert", source, out, *recipe], check=True)
    return out


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| Crops | Form | `wdsremux.DataLoader`, images/s | with `dali` | DALI's reader | times DALI's reader | "
        "times webdataset |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for side, forms in figures.items():
        for form, found in forms.items():
            rates = " | ".join(f"{found[name]:,.0f}" for name in ("auto", "dali", "reader"))
            other = f"{found['auto'] / found['webdataset']:.1f}" if "webdataset" in found else ""
            lines.append(f"| {side} px | {form} | {rates} | {found['auto'] / found['reader']:.2f} | {other} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sides", default=",".join(map(str, SIDES)))
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=TURN_S, help="seconds of a contender's turn")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for side in map(int, options.sides.split(",")):
        out = converted(options.folder, SIDES[side])
        for name in options.forms.split(","):
            found = measure(out, side, FORMS[name], options.rounds, options.turn)
            figures.setdefault(str(side), {})[name] = found
            print(side, name, {key: round(value) for key, value in found.items()}, flush=True)
    print(table(figures))
    if options.page:
        replace_part(options.page, BEGIN, END, f"\n{table(figures)}\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
