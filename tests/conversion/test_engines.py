"""What the process that plans holds, and what it learns of the workers'."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import WriteSource, tiny_jpeg
from wdsremux.conversion import environment
from wdsremux.conversion.engines import local
from wdsremux.conversion.engines.local import LocalEngine
from wdsremux.errors import WorkerError

CONVERT = """
import sys, wdsremux
manifest = wdsremux.convert({source!r}, {out!r}, split="train")
print(manifest.nsamples, manifest.environment["torch"], "torch" in sys.modules, "webdataset" in sys.modules)
"""


def test_torch_stays_with_the_workers(write_source: WriteSource, tmp_path: Path) -> None:
    """It would add 280 MB to a conversion, and a second to its start."""
    source = write_source([tiny_jpeg(i) for i in range(60)], range(60))
    script = CONVERT.format(source=str(source), out=str(tmp_path / "out"))
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["60", environment.describe()["torch"], "False", "False"]


def test_workers_tell_their_environment() -> None:
    assert LocalEngine(1).environment() == environment.describe()


def arrows_allocator() -> dict[str, Any]:
    return {"name": pa.default_memory_pool().backend_name}


def test_arrow_shares_the_c_heap_of_the_workers() -> None:
    """An allocator of its own kept 20 MB a worker, beside what the heap keeps."""
    wanted = os.environ.get("ARROW_DEFAULT_MEMORY_POOL", "system")
    assert local.answered(arrows_allocator) == {"name": wanted}


def test_a_first_worker_that_dies() -> None:
    with pytest.raises(
        WorkerError, match=r"no worker process could be started: the first one died with exit code 3\. Run the"
    ):
        local.answered(partial(os._exit, 3))
