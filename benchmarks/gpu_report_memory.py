"""Memory of the GPU: at its fullest with few and many threads, and whether it grows over twenty epochs.

All that the device holds is looked at, DALI's part too, so nobody else may use it meanwhile. Each figure comes from a
fresh process: DALI keeps what it once had.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import Any

from gpu_report_loaders import CONTENDERS, opened
from gpu_report_part import Finding, Settings, left_out, tried

MB = 1 << 20
SAMPLE_S = 0.005  #: between two looks at the device's memory
_BATCHES = 8  #: of an epoch, which is then broken off


@contextmanager
def peak_memory(device: str) -> Iterator[Callable[[], int]]:
    """Looks at the device's memory again and again; gives what it held more, at its fullest, than at the beginning."""
    import torch

    if torch.device(device).type == "cpu":
        yield lambda: 0
        return
    torch.zeros(1, device=device)  # the context stands before anything is counted
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    used = [used_bytes(device)]
    before, ended = used[0], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            used.append(max(used.pop(), used_bytes(device)))

    watching = threading.Thread(target=watch, name="report-memory", daemon=True)
    watching.start()
    try:
        yield lambda: used[-1] - before
    finally:
        ended.set()
        watching.join()


def used_bytes(device: str) -> int:
    """Of the whole device, by whomever."""
    import torch

    if torch.device(device).type == "cpu":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def reserved_bytes(device: str) -> int:
    """The most that torch's allocator held at once."""
    import torch

    return 0 if torch.device(device).type == "cpu" else torch.cuda.max_memory_reserved(device)


def memory(settings: Settings) -> Iterator[Finding]:
    """Part 9."""
    decode = "gpu" if settings.real else "cpu"
    if not settings.real:
        yield left_out("MB at 16 and 64 threads", "a CPU has no memory of its own to look at")
    for count in (16, 64) if settings.real else ():
        asked = replace(settings, threads=count)
        yield tried(f"dali, gpu, {count} threads", partial(_afresh, at_its_fullest, asked, f"dali, {decode}"))
    for backend in ("dali", "torchvision") if settings.real else ("torchvision",):
        count = settings.times(20, 3)
        yield tried(f"{backend}, {decode}, {count} epochs", partial(_afresh, over_epochs, settings, backend, count))


def _afresh(measure: Callable[..., tuple[str, dict[str, Any]]], *arguments: Any) -> tuple[str, dict[str, Any]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def at_its_fullest(settings: Settings, name: str) -> tuple[str, dict[str, Any]]:
    """Over some batches of a contender."""
    with peak_memory(settings.device) as peak_bytes:
        batches = CONTENDERS[name](settings)
        for _ in islice(batches, settings.warmup_batches + _BATCHES):
            pass
        reserved = reserved_bytes(settings.device)
        batches.close()
    figures = {"peak_mb": peak_bytes() / MB, "torch_mb": reserved / MB}
    return f"{figures['peak_mb']:,.0f} MB, of which torch {figures['torch_mb']:,.0f}", figures


def over_epochs(settings: Settings, backend: str, count: int) -> tuple[str, dict[str, Any]]:
    """What the device holds after each epoch, at rest; growth is counted from the second."""
    marks = []
    with (
        peak_memory(settings.device) as peak_bytes,
        opened(settings, backend=backend, decode="gpu" if settings.real else "cpu") as made,
    ):
        for _ in range(count):
            for number, batch in enumerate(made, start=1):
                del batch
                if number == _BATCHES:
                    break
            marks.append(_at_rest(settings.device))
    figures = {"peak_mb": peak_bytes() / MB, "epochs_mb": [mark / MB for mark in marks]}
    figures["growth_mb"] = (marks[-1] - marks[1]) / MB
    text = f"grew by {figures['growth_mb']:,.0f} MB, at most {figures['peak_mb']:,.0f} MB"
    return text if settings.real else "ran, without figures of memory", figures


def _at_rest(device: str) -> int:
    """What is used when all work is done, without what torch keeps for later."""
    import torch

    if torch.device(device).type != "cpu":
        gc.collect()
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    return used_bytes(device)
