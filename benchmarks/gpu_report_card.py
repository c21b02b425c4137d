"""Part 1: the card and its driver, the libraries that decode on it, and which decoder got which images.

nvImageCodec says at DALI_NVIMGCODEC_LOG_LEVEL=3 how many JPEG engines there are, which decoders it made with which
share of the load, and which images it gave to them one by one; the others of a batch went to a decoder of batches.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bench_machine import versions
from gpu_report_loaders import bare_dali
from gpu_report_part import Finding, LeftOut, Settings, needed, tried

FIELDS = ("name", "driver_version", "compute_cap", "memory.total")  #: that nvidia-smi is asked for
#: Shared libraries by what they are for; the driver brings those without a version of CUDA in their name.
LIBRARIES = {
    "the driver": ("libcuda.so.1",),
    "NVML": ("libnvidia-ml.so.1",),
    "NVDEC": ("libnvcuvid.so.1",),
    "nvJPEG": ("libnvjpeg.so.13", "libnvjpeg.so.12"),
    "NPP": ("libnppicc.so.13", "libnppicc.so.12"),
    "NPP's core": ("libnppc.so.13", "libnppc.so.12"),
}
_PLACES = ("nvidia/cu13/lib", "nvidia/nvjpeg/lib", "nvidia/npp/lib")  #: of NVIDIA's wheels, in site-packages
_BATCHES = 3
_QUOTED = re.compile(
    r"HW (de|en)coder|engine|adjust|selecting max batch|create \S*jpeg\S* load_hint|batch-single|nvJPEG version"
)
_QUOTES = 24  #: lines of the log that are kept


def card(settings: Settings) -> Iterator[Finding]:
    """The whole part, cheapest first."""
    yield tried("card", partial(described, settings))
    yield tried("libraries", libraries)
    yield tried("versions", _versions)
    yield tried("nvImageCodec", partial(decoders, settings))


def described(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Name, driver, compute capability, memory."""
    if not settings.real:
        raise LeftOut("no card")
    import torch

    properties = torch.cuda.get_device_properties(settings.device)
    figures: dict[str, Any] = {
        "name": properties.name,
        "compute_cap": f"{properties.major}.{properties.minor}",
        "memory_mb": properties.total_memory >> 20,
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
    }
    if program := shutil.which("nvidia-smi"):
        command = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
        figures["nvidia_smi"] = done.stdout.strip().splitlines()
    driver = [line.split(", ")[1] for line in figures.get("nvidia_smi", []) if line.count(", ") == len(FIELDS) - 1]
    text = f"{figures['name']}, {figures['memory_mb']:,} MB, capability {figures['compute_cap']}"
    return f"{text}, driver {driver[0] if driver else 'unknown, as there is no nvidia-smi'}", figures


def libraries() -> tuple[str, dict[str, Any]]:
    """Which can be loaded, and from where."""
    needed("torch")  # which loads those that it brings
    found = {what: _loaded(names) for what, names in LIBRARIES.items()}
    missing = [what for what, path in found.items() if path is None]
    return f"not to be loaded: {', '.join(missing)}" if missing else "all can be loaded", found


def _loaded(names: tuple[str, ...]) -> str | None:
    folders = [Path(path) / place for path in sys.path for place in _PLACES]
    for name in names:
        for candidate in (name, *(str(folder / name) for folder in folders if (folder / name).exists())):
            try:
                ctypes.CDLL(candidate)
            except OSError:
                continue
            return candidate
    return None


def _versions() -> tuple[str, dict[str, Any]]:
    found = versions()
    short = {name: version for name, version in found.items() if name.startswith(("nvidia-dali", "torch"))}
    return ", ".join(f"{name} {version}" for name, version in short.items()), found


# What nvImageCodec says.


@dataclass(slots=True)
class Log:
    """What its lines come to."""

    images: int = 0
    one_by_one: Counter[str] = field(default_factory=Counter)  #: images by decoder
    in_batches: list[str] = field(default_factory=list)  #: decoders of batches; they got the other images
    quotes: list[str] = field(default_factory=list)

    def shares(self) -> dict[str, float]:
        """Of all images, by decoder; decoders of batches together."""
        counts = Counter(self.one_by_one)
        if rest := self.images - sum(counts.values()):
            counts[" or ".join(self.in_batches) or "decoders of batches"] += rest
        return {name: count / max(self.images, 1) for name, count in counts.most_common()}


def decoders(settings: Settings) -> tuple[str, dict[str, Any]]:
    """Some batches of the set by bare DALI, with the options that our graph has."""
    os.environ["DALI_NVIMGCODEC_LOG_LEVEL"] = "3"  # read when the decoder is made
    asked = replace(settings, threads=1)  # lines of several threads come mixed up
    with tempfile.TemporaryFile() as file:
        with _stderr_in(file.fileno()), closing(bare_dali(asked)) as batches:
            for _ in islice(batches, _BATCHES):
                pass
        file.seek(0)
        log = read_log(file.read().decode(errors="replace"))
    shares = log.shares()
    if not log.images:
        raise RuntimeError("DALI decoded, but nvImageCodec's log says nothing of it")
    engines = [line for line in log.quotes if "num_hw_engines" in line or "not supported by this" in line]
    text = ", ".join(f"{share:.0%} by {name}" for name, share in shares.items())
    return "; ".join([text, *engines[:2]]), {"images": log.images, "shares": shares, "log": log.quotes}


def read_log(text: str) -> Log:
    """What matters of its lines of the level INFO."""
    log = Log()
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        if found := re.search(r"ImageGenericDecoder::decode num_samples=(\d+)", line):
            log.images += int(found[1])
        elif found := re.search(r"\d+: (\w+) process #\d+", line):
            log.one_by_one[found[1]] += 1
        elif _QUOTED.search(line):
            said = line.partition("] ")[2].strip() or line
            if said not in log.quotes and len(log.quotes) < _QUOTES:
                log.quotes.append(said)
        if (found := re.search(r"(\w+) selecting max batch size", line)) and found[1] not in log.in_batches:
            log.in_batches.append(found[1])
    return log


@contextmanager
def _stderr_in(descriptor: int) -> Iterator[None]:
    """Also what libraries write, which know nothing of sys.stderr."""
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
