"""Images a second and CPU use of loaders and bare decoders; what training waits for them.

Loaders give random resized crops, flipped, normalised, float16, channels_last; epoch after epoch, until enough images
have come. "bare" decodes the same files from memory to whole pictures in batches of the same size and does nothing
else: what nvJPEG allows. Rounds are interleaved, and medians shown.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bench_machine import ROOT, Spread, environment
from gpu_report_loaders import CONTENDERS, FALLBACK, Batches
from gpu_report_memory import MB, peak_memory, reserved_bytes
from gpu_report_part import MEASURED, Finding, LeftOut, Settings, left_out, tried
from gpu_report_profile import twenty_steps

ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contender in one round."""

    images_per_s: float
    cpu_cores: float  #: CPU seconds of this process in each second
    peak_mb: float  #: of the device's memory, more than before; 0 on a CPU
    torch_mb: float  #: of it, reserved by torch


def timed(contender: Callable[[Settings], Batches], settings: Settings) -> Run:
    """Images a second over at least `images` images, after the warm-up; memory from the start."""
    count = max(1, -(-settings.images // settings.batch))
    with peak_memory(settings.device) as peak_bytes, ExitStack() as stack:
        batches = stack.enter_context(closing(contender(settings)))
        for _ in islice(batches, settings.warmup_batches):
            pass
        start, cpu_start = time.perf_counter(), time.process_time()
        images = sum(islice(batches, count))
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        reserved = reserved_bytes(settings.device)
    return Run(
        images_per_s=images / seconds, cpu_cores=cpu_s / seconds, peak_mb=peak_bytes() / MB, torch_mb=reserved / MB
    )


def dali(settings: Settings) -> Iterator[Finding]:
    """Part 2: `dali` that decodes on the GPU, against bare DALI."""
    yield from against(settings, "dali", "bare dali", settings.times(20_000, 128))


def torchcodec(settings: Settings) -> Iterator[Finding]:
    """Part 6: `torchvision` that decodes on the GPU, against bare TorchCodec; then what a GPU does meanwhile."""
    yield from against(settings, "torchvision", "bare torchcodec", settings.times(10_000, 128))
    yield from twenty_steps(settings)


def against(settings: Settings, backend: str, bare: str, images: int) -> Iterator[Finding]:
    """Ours and bare by turns, and how much of bare's speed ours has."""
    decode = "gpu" if settings.real else "cpu"
    if not settings.real:
        yield left_out(f"{backend}, gpu", "no card; a CPU decodes in both")
    asked, names = replace(settings, images=images), [f"{backend}, {decode}", bare]
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(settings.times(ROUNDS, 1)):
        for name in list(runs):
            finding = tried(name, partial(round_of, asked, name, runs[name]))
            yield finding
            if finding.state != MEASURED:  # it is not tried again
                del runs[name]
    if len(runs) == len(names):
        yield tried("ours/bare", lambda: ratio(runs[names[0]], runs[bare]))


def round_of(settings: Settings, name: str, runs: list[Run]) -> tuple[str, dict[str, Any]]:
    """Add a round to the runs; what they come to by now."""
    runs.append(timed(CONTENDERS[name], settings))
    speed = Spread.of([run.images_per_s for run in runs])
    cpu = Spread.of([run.cpu_cores for run in runs])
    text = f"{speed.median:,.0f} images/s ({speed.text(',.0f')[1]}), {cpu.median:.1f} cores busy"
    if settings.real:
        text += f", {max(run.peak_mb for run in runs):,.0f} MB"
    return text, {"runs": [asdict(run) for run in runs], "images": settings.images, "threads": settings.threads}


def ratio(ours: list[Run], bare: list[Run]) -> tuple[str, dict[str, Any]]:
    """Of the medians: speed, and CPU seconds an image."""
    speed = [Spread.of([run.images_per_s for run in runs]).median for runs in (ours, bare)]
    cost = [Spread.of([run.cpu_cores / run.images_per_s for run in runs]).median for runs in (ours, bare)]
    figures = {"speed": speed[0] / speed[1], "cpu_s_an_image": cost[0] / max(cost[1], 1e-9)}
    return f"{figures['speed']:.2f} of the speed, {figures['cpu_s_an_image']:.2f} of the CPU time an image", figures


def threads(settings: Settings) -> Iterator[Finding]:
    """Part 7: decoding on the CPU with 4, 8 and 16 threads, in both backends."""
    counts = (4, 8, 16) if settings.real else (1, 2)
    if not settings.real:
        yield left_out("4, 8, 16 threads", "no card to bring the batches to; 1 and 2 threads in their place")
    for backend in ("dali", "torchvision"):
        for count in counts:
            asked = replace(settings, threads=count, images=settings.times(5_000, 128))
            yield tried(f"{backend}, {count} threads", partial(round_of, asked, f"{backend}, cpu", []))


# Training, in a process of its own.


def training(settings: Settings) -> Iterator[Finding]:
    """Part 10: train.py for two epochs with each decoder: which share of the last it waited for the loader."""
    if not settings.real:
        yield left_out("decode gpu", "no card")
    for decode in ("gpu", "cpu") if settings.real else ("cpu",):
        yield tried(f"decode {decode}", partial(trained, settings, decode))


def trained(settings: Settings, decode: str) -> tuple[str, dict[str, Any]]:
    """train.py's own account of its last epoch."""
    with tempfile.TemporaryDirectory() as folder:
        size = settings.times(settings.size, 32)
        options = ["--epochs", 2, "--batch-size", settings.batch, "--size", size, "--decode", decode]
        options += ["--amp"] if settings.real else []  # which CPUs are slow at
        options += ["--device", settings.device, "--checkpoint", Path(folder) / "checkpoint.pt"]
        options += ["--threads", settings.threads] if settings.threads else []
        words = [sys.executable, ROOT / "scripts/train.py", settings.folder, *options]
        done = subprocess.run([*map(str, words)], check=False, capture_output=True, text=True, env=environment())
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}, without a word"])[-1]
        raise (LeftOut if said.startswith("ModuleNotFoundError") else RuntimeError)(said)
    if FALLBACK in done.stderr:
        raise LeftOut(next(line for line in done.stderr.splitlines() if FALLBACK in line))
    figures = waited(done.stdout)
    return f"waited {figures['waited_share']:.1%}, {figures['images_per_s']:,.0f} images/s", figures


def waited(printed: str) -> dict[str, Any]:
    """From what train.py prints: its last epoch's line of stats.

    Raises:
        ValueError: if there is none.
    """
    found = re.findall(r"Bottleneck: (.+), ([\d,]+) images/s\. .* of which ([\d.]+)% was spent waiting", printed)
    if not found:
        raise ValueError("train.py printed no line of stats")
    bound, speed, share = found[-1]
    return {"images_per_s": float(speed.replace(",", "")), "waited_share": float(share) / 100, "bound_by": bound}
