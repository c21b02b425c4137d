"""Places to convert in: small disks, read-only ones, a process without rights; and a source for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.conftest import jpeg
from wdsremux.conversion.events import Event, Warned

ROOT = Path(__file__).parents[2]
ROWS, PAGE_BYTES = 90, 4_096
SIZES: dict[str, Any] = {"samples_per_shard": 10, "samples_per_task": 30, "recipe": "copy"}  #: 3 tasks, 9 shards
TIMEOUT_S = 60
_FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})


class Stopped(Exception):
    """Ends a conversion from within, as Ctrl-C does."""


def picture(number: int) -> bytes:
    """A JPEG of 3 KB, another one for each number."""
    return jpeg(np.random.default_rng(number).integers(0, 256, (44, 44, 3), np.uint8))


def write_pictures(folder: Path, rows: int = ROWS) -> Path:
    """A parquet source in row groups of 10; returns the folder."""
    images = [{"bytes": picture(i), "path": f"{i}.jpg"} for i in range(rows)]
    table = pa.table({"image": images, "label": list(range(rows))}, schema=_FEATURES.arrow_schema)
    (folder / "data").mkdir(parents=True)
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", row_group_size=10)
    return folder


def convert(source: Path, out: Path, tell: Callable[[Event], None] | None = None, **options: Any) -> list[str]:
    """Convert in this process, with workers of its own; returns what was warned of."""
    warned: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Warned):
            warned.append(event.text)
        if tell is not None:
            tell(event)

    wdsremux.convert(source, out, tell=hear, **(SIZES | {"workers": 1} | options))
    return warned


def stop_halfway(source: Path, out: Path, **options: Any) -> None:
    """Convert, and stop when the first task is done."""

    def tell(event: Event) -> None:
        if any(out.glob("train/.wdsremux/task-*.json")):
            raise Stopped

    with pytest.raises(Stopped):
        convert(source, out, tell, **options)
    assert not (out / "train/index.json").exists()


def command(source: str | Path, out: str | Path, *options: str) -> list[str]:
    """The same as a command line."""
    sizes = [part for name, value in SIZES.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [sys.executable, "-m", "wdsremux", "convert", str(source), str(out), *sizes, "--workers", "2", *options]


def run(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    given: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": TIMEOUT_S} | options
    return subprocess.run(arguments, **given)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed command said last: one sentence of ours, and no traceback anywhere."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    *before, last = done.stderr.splitlines()
    assert all(line.startswith("wdsremux: ") for line in before), done.stderr
    assert last.startswith("wdsremux: ")
    assert last.endswith(".")
    return last


@contextlib.contextmanager
def mounted(at: Path, *arguments: str) -> Iterator[Path]:
    """Something mounted at a folder for a while; skips the test where that is not allowed."""
    at.mkdir(exist_ok=True)
    try:
        subprocess.run(["mount", *arguments, str(at)], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {getattr(error, 'stderr', error)}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextlib.contextmanager
def small_disk(at: Path, size_bytes: int = 4 * 2**20) -> Iterator[Path]:
    """An empty disk of so many bytes."""
    with mounted(at, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs"):
        yield at


@contextlib.contextmanager
def read_only(folder: Path, at: Path) -> Iterator[Path]:
    """A folder seen at another place, where nobody may write, whatever their rights."""
    with mounted(at, "--bind", "-o", "ro", str(folder)):
        if os.access(at, os.W_OK):  # mounts of before 2016 take two steps
            subprocess.run(["mount", "-o", "remount,bind,ro", str(at)], check=True)
        yield at


def fill(disk: Path, left_bytes: int = 0) -> Path:
    """Fill a disk but for so many bytes; the file that does it is to be removed again."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(2**16)):
                pass
        with contextlib.suppress(OSError):
            while file.write(bytes(PAGE_BYTES)):
                pass
        file.truncate(max(0, file.tell() - left_bytes))
    return ballast


def without_rights() -> list[str]:
    """What stands before a command so that permissions bind it: root passes by them."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root cannot be without its rights here: there is no setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def loaded(out: Path, split: str = "train") -> list[int]:
    """The labels that a loader gives in an epoch, sorted; every image decoded."""
    how: dict[str, Any] = {"split": split, "size": 16, "augment": "eval", "tail": "even", "backend": "torchvision"}
    with wdsremux.DataLoader(out, 20, **how) as loader:
        return sorted(int(label) for _, labels in loader for label in labels)
