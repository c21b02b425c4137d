"""What both benchmarks share: the machine they run on, who else is busy on it, and how figures are written down."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


PEERS_PYTHON = ROOT / ".venv-peers/bin/python"  #: of the environment that `make peers` installs


CORES = 2


MET = {None: "?", True: "yes", False: "NO"}  #: a target, as tables say it; None: no quiet round to judge by
QUIET_CORES = 0.1  #: a run is quiet if others took no more than this of its two cores


PACKAGES = (
    "wdsremux",
    "torch",
    "torchvision",
    "torchcodec",
    "webdataset",
    "nvidia-dali-cuda120",
    "nvidia-dali-cuda130",
    "datasets",
    "pyarrow",
    "simplejpeg",
    "pillow",
    "numpy",
)


PEERS_PACKAGES = (
    "albumentations",
    "array_record",
    "datasets",
    "grain",
    "img2dataset",
    "litdata",
    "mosaicml-streaming",
    "nvidia-dali-cuda130",
    "opencv-python-headless",
    "pillow",
    "pyarrow",
    "ray",
    "simplejpeg",
    "spdl",
    "torch",
    "torchcodec",
    "torchvision",
    "webdataset",
)  #: what the peers are, and what they work with


def two_cores() -> list[int]:
    """Two CPUs this process may use, on two physical cores where there are such: siblings share one core."""
    chosen: dict[str, int] = {}
    allowed = sorted(os.sched_getaffinity(0))
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        chosen.setdefault(siblings.read_text() if siblings.exists() else str(cpu), cpu)
    cores = (list(chosen.values()) + [cpu for cpu in allowed if cpu not in chosen.values()])[:CORES]
    if len(cores) < CORES:
        raise SystemExit(f"This process may use {len(cores)} CPU; the benchmark needs {CORES}.")
    return cores


def busy_cpu_s(cores: Collection[int]) -> float:
    """Seconds that these cores have worked since the machine started, for whomever."""
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in {f"cpu{core}" for core in cores}:
            user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def children_cpu_s() -> float:
    """CPU seconds of every process that this one, or a child of it, has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment() -> dict[str, str]:
    """This process's environment, in which `import wdsremux` finds this checkout, installed or not."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The middle and the ends of one figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def text(self, form: str) -> tuple[str, str]:
        """Median, and the ends, in the given format."""
        return format(self.median, form), f"{self.low:{form}} - {self.high:{form}}"


def machine() -> dict[str, Any]:
    """What the figures depend on: CPU model, CPUs this process may use, system."""
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": platform.platform()}


def versions() -> dict[str, str]:
    """Python's version and that of every package that takes part and is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def peers_versions() -> dict[str, str]:
    """Of the packages in the peers' environment; nothing where there is none."""
    if not PEERS_PYTHON.exists():
        return {}
    code = (
        "import importlib.metadata as m, json, sys;"
        " print(json.dumps({d.name.lower(): d.version for d in m.distributions() if d.name.lower() in sys.argv}))"
    )
    command = [str(PEERS_PYTHON), "-c", code, *PEERS_PACKAGES]
    found: dict[str, str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return dict(sorted(found.items()))


def header() -> dict[str, Any]:
    """What stands first in a benchmark's JSON."""
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"date": date, "machine": machine(), "versions": versions(), "peers": peers_versions()}


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write the JSON of a benchmark, in place of an older one; whoever is killed meanwhile leaves that one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(partial, path)


def make_source(source: Path, images: int) -> None:
    """Photos of 400 to 700 px as Hub-style parquet, all in the split "train"."""
    script = str(ROOT / "scripts/sample_source.py")
    command = [sys.executable, script, str(source), "--train", str(images), "--test", "0"]
    subprocess.run(command, check=True)
