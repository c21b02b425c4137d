"""What a GPU does in twenty steps of a loader, by torch's profiler; what SimCLR's augmentation costs, by CUDA events.

The hardware that decodes JPEGs is no kernel, so the profiler does not count it as busy.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from bench_machine import Spread
from gpu_report_loaders import opened
from gpu_report_part import Finding, Settings, left_out, needed, tried

TOP = 12  #: lines of a profile that are kept
WARMUP = 3
#: As the README has it.
SIMCLR = {
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "jitter": 0.8,
    "grayscale": 0.2,
    "blur": 0.5,
    "blur_kernel": 23,
}


def twenty_steps(settings: Settings) -> Iterator[Finding]:
    """The rest of part 6."""
    if not settings.real:
        yield left_out("the GPU's share of a profile", "no card; what a CPU does in five steps")
    yield tried("profile", partial(profiled, settings, settings.times(20, 5)))


def profiled(settings: Settings, steps: int) -> tuple[str, dict[str, Any]]:
    """Batches of the torchvision backend, one after the other, each waited for."""
    import torch
    from torch._C._profiler import _ExperimentalConfig
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if settings.real else [])]
    everywhere = _ExperimentalConfig(profile_all_threads=True)  # batches are made in threads of the loader's
    with opened(settings, backend="torchvision", decode="gpu" if settings.real else "cpu") as made:
        batches = _endless(made)
        for _ in islice(batches, settings.warmup_batches):
            pass
        with profile(activities=activities, experimental_config=everywhere) as profiler:
            start = time.perf_counter()
            for _ in islice(batches, steps):
                if settings.real:
                    torch.cuda.synchronize(settings.device)
            seconds = time.perf_counter() - start
    on_device = [event for event in profiler.events() or [] if event.device_type.name == "CUDA"]
    busy = _covered([(event.time_range.start, event.time_range.end) for event in on_device]) / 1e6 / seconds
    top = _top(profiler)
    figures = {"steps": steps, "seconds": seconds, "busy_share": busy if settings.real else None, "top": top}
    most = ", ".join(line["name"] for line in top[:3]) or "nothing that the profiler knows"
    said = f"the GPU busy {busy:.0%}, " if settings.real else ""
    return f"{steps} steps in {seconds:.2f} s, {said}most of it in {most}", figures


def _endless(made: Any) -> Iterator[Any]:
    while True:
        yield from made


def _covered(spans: list[tuple[float, float]]) -> float:
    """The length of what spans cover together; those of several streams overlap."""
    length, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        length += max(0.0, last - max(first, end))
        end = max(end, last)
    return length


def _top(profiler: Any) -> list[dict[str, Any]]:
    """The lines that most time went to, on the device where there is one."""
    lines = [
        {
            "name": line.key,
            "count": line.count,
            "device_ms": line.self_device_time_total / 1e3,
            "cpu_ms": line.self_cpu_time_total / 1e3,
        }
        for line in profiler.key_averages()
    ]
    return sorted(lines, key=lambda line: (line["device_ms"], line["cpu_ms"]), reverse=True)[:TOP]


def simclr(settings: Settings) -> Iterator[Finding]:
    """Part 8: what comes after crop, resize and flip, for SimCLR; no picture is decoded for it."""
    if not settings.real:
        yield left_out("by CUDA events", "no card; by the clock, on a CPU, for a small batch")
    yield tried(f"batch of {_count(settings)}", partial(augmented, settings))


def _count(settings: Settings) -> int:
    return settings.times(256, 16)


def augmented(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Milliseconds of each of some batches."""
    import numpy as np
    import torch

    needed("wdsremux")
    augment = importlib.import_module("wdsremux").Augment(**SIMCLR)
    output = importlib.import_module("wdsremux.loading.output").Output(
        size=settings.size,
        dtype=torch.float16 if settings.real else torch.float32,
        memory_format=torch.channels_last,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    device, count = torch.device(settings.device), _count(settings)
    transforms = importlib.import_module("wdsremux.loading.transforms").Transforms(output, device)
    sides = np.full(count, 256)
    shape = (count, settings.size, settings.size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    milliseconds = []
    for number in range(WARMUP + settings.times(20, 2)):
        parameters = augment.parameters(np.arange(count), sides, sides, 0, number, settings.size)
        milliseconds.append(_measured_ms(device, partial(transforms, pixels, parameters)))
    spread = Spread.of(milliseconds[WARMUP:])
    return "{} ms ({})".format(*spread.text(".2f")), {"milliseconds": milliseconds[WARMUP:], "size": settings.size}


def _measured_ms(device: Any, work: Callable[[], Any]) -> float:
    """By the device's own clock, where it has one."""
    import torch

    if device.type == "cpu":
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1e3
    event: Any = torch.cuda.Event
    begun, ended = event(enable_timing=True), event(enable_timing=True)
    begun.record()
    work()
    ended.record()
    ended.synchronize()
    return float(begun.elapsed_time(ended))
