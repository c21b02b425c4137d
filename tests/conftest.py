"""Real photographs, converted once a test run; and a check that no test leaves threads or file descriptors behind."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may ask the real Hub
ROOT = Path(__file__).parent.parent
SCRIPTS, BENCHMARKS = ROOT / "scripts", ROOT / "benchmarks"
sys.path[:0] = [str(SCRIPTS), str(BENCHMARKS)]

from sample_source import write_sample  # noqa: E402  # a script, not part of the package

import wdsremux  # noqa: E402
from tests.support.soak import soaking  # noqa: E402
from wdsremux.conversion import environment  # noqa: E402
from wdsremux.conversion.engines import forkserver  # noqa: E402
from wdsremux.conversion.engines.local import LocalEngine  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # Run in the background of a script, tests are started to ignore Ctrl-C, and so would be what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TRAIN, TEST = 300, 60  #: pictures of the small sample
WriteSource = Callable[..., Path]
ConvertTiny = Callable[..., Path]

if soaking():
    settings.register_profile("soak", max_examples=5_000, deadline=None)
    settings.load_profile("soak")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests where there is no GPU, and say so; WDSREMUX_REQUIRE_CUDA=1 makes that a failure."""
    reason = _no_cuda()
    if reason is None or _required():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(tryfirst=True)  # before fixtures, which would fail each in its own words
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Where a GPU is required, what would have been skipped fails in one sentence."""
    if _required() and item.get_closest_marker("gpu") and (reason := _no_cuda()):
        pytest.fail(f"{reason}, and WDSREMUX_REQUIRE_CUDA=1 asks for one", pytrace=False)


def needs(module: str, name: str) -> None:
    """Skip the test where a library cannot be loaded; fail it where WDSREMUX_REQUIRE_CUDA=1 asks for all of them."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # whatever a shared library lacks
        reason = f"{name} cannot be loaded ({str(error).splitlines()[0]})"
        if _required():
            pytest.fail(f"{reason}, and WDSREMUX_REQUIRE_CUDA=1 asks for it", pytrace=False)
        pytest.skip(reason)


def _required() -> bool:
    return os.environ.get("WDSREMUX_REQUIRE_CUDA") == "1"


def _no_cuda() -> str | None:
    """Why there is no CUDA device; None if there is one."""
    import torch

    return None if torch.cuda.is_available() else f"no CUDA device: torch {torch.__version__} finds none"


@pytest.fixture(scope="session", autouse=True)
def one_fork_server() -> Iterator[None]:
    """All conversions of a test run share one; each by itself would load torch anew."""
    with forkserver.hold():
        yield


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread of ours or an open file of its own behind."""
    if "converted" in request.fixturenames or "sample" in request.fixturenames:
        request.getfixturevalue("sample" if "sample" in request.fixturenames else "converted")
    before = open_files()
    yield
    deadline_s = time.monotonic() + 2.0
    while (_threads() or _opened(before)) and time.monotonic() < deadline_s:  # a thread that ends holds files yet
        time.sleep(0.01)
    assert not (left := _threads()), f"threads left behind: {left}"
    assert not (opened := _opened(before)), f"files left open: {opened}"


def _opened(before: set[str]) -> set[str]:
    """Files that are open now and were not; matplotlib keeps the fonts that it has used."""
    opened = {path for path in open_files() - before if path.startswith("/") and not path.startswith(("/dev", "/proc"))}
    return {path for path in opened if "/mpl-data/fonts/" not in path}


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("wdsremux")]


def open_files() -> set[str]:
    """The paths of all that this process has open; what is closed meanwhile may be among them or not."""
    found = set()
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # the descriptor of this very listing
            continue
    return found


def jpeg(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
    """A JPEG file of uint8 pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def change_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the workers have another torch than they had."""
    now = environment.describe() | {"torch": "99.0"}
    monkeypatch.setattr(LocalEngine, "environment", lambda engine: now)


def tiny_jpeg(number: int) -> bytes:
    """A small JPEG, another one for each number."""
    return jpeg(np.full((8, 8, 3), [number % 256, number // 256 % 256, 77], np.uint8))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of real photographs: 300 train and 60 test pictures, 10 classes, sorted, 100 rows a row group."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, train=TRAIN, test=TEST)
    return folder


@pytest.fixture(scope="session")
def converted(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That source converted: 256 px, shards of 25; both splits. Read-only for tests."""
    out = tmp_path_factory.mktemp("converted")
    for split in ("train", "test"):
        wdsremux.convert(sample, out, split=split, samples_per_shard=25, workers=2)
    return out


@pytest.fixture(params=["dali", "torchvision"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn; skips the test where it is not installed."""
    name: str = request.param
    if name == "dali":
        needs("nvidia.dali", "DALI")
    return name


@pytest.fixture
def tally() -> Iterator[Callable[[str, str], None]]:
    """Counts a fault that was tried and what came of it, for the table in docs/guarantees.md: (fault, what happened).

    Kept where WDSREMUX_FAULTS names a file; benchmarks/fault_table.py makes the table of it.
    """
    counts: Counter[tuple[str, str]] = Counter()
    yield lambda fault, outcome: counts.update([(fault, outcome)])
    if path := os.environ.get("WDSREMUX_FAULTS"):
        with open(path, "a") as file:
            for (fault, outcome), count in counts.items():
                file.write(json.dumps({"fault": fault, "outcome": outcome, "count": count}) + "\n")


@pytest.fixture
def write_source(tmp_path: Path) -> WriteSource:
    """Writes a parquet source, laid out as on the Hub, of given images and labels: (images, labels, …) -> folder."""

    def write(
        images: Sequence[bytes | None],
        labels: Sequence[Any] | None = None,
        *,
        classes: Sequence[str] | None = None,
        name: str = "source",
        split: str = "train",
        rows_a_group: int = 100,
        files: int = 1,
        columns: dict[str, Any] | None = None,
    ) -> Path:
        import datasets

        features: dict[str, Any] = {"image": datasets.Image()}
        values: dict[str, Any] = {"image": [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(images)]}
        if labels is not None:
            values["label"] = list(labels)
            text = any(isinstance(label, str) for label in labels)
            features["label"] = (
                datasets.ClassLabel(names=list(classes)) if classes else datasets.Value("string" if text else "int64")
            )
        for column, (feature, content) in (columns or {}).items():
            features[column], values[column] = feature, content
        schema = datasets.Features(features).arrow_schema
        table = pa.table(values, schema=schema)
        folder = tmp_path.with_name(f"{tmp_path.name}-sources") / name  # apart from tmp_path, which many take for OUT
        (folder / "data").mkdir(parents=True, exist_ok=True)
        edges = [i * len(table) // files for i in range(files + 1)]
        for i in range(files):
            path = folder / "data" / f"{split}-{i:05d}-of-{files:05d}.parquet"
            pq.write_table(table.slice(edges[i], edges[i + 1] - edges[i]), path, row_group_size=rows_a_group)
        return folder

    return write


@pytest.fixture
def convert_tiny(write_source: WriteSource, tmp_path: Path) -> ConvertTiny:
    """Converts n tiny pictures, labelled 0 … n-1, as they are: for tests of order and bookkeeping. (n, …) -> OUT."""

    def convert(count: int, *, name: str = "tiny", **options: Any) -> Path:
        source = write_source([tiny_jpeg(i) for i in range(count)], range(count), name=f"{name}-source")
        out = tmp_path / name
        wdsremux.convert(source, out, recipe="copy", **({"workers": 1, "samples_per_shard": 37} | options))
        return out

    return convert
