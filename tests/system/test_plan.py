"""Plans of data sets on a Hub of our own: little of a large one is read, and every kind can be planned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.client import ROOT
from tests.support.hub import Hub
from tests.support.hub_sources import write_images, write_tars
from tests.support.reading import read_split

pytestmark = pytest.mark.system
FILES, COPIES = 10, 40  #: copies of 300 images in each file
#: Plans with little patience: of speeds, nothing is asked here.
PLAN = """
import json, sys
import wdsremux
from wdsremux.forecast import choices, outlooks

for name in ("LONGER_S", "SHORTER_S", "PROBED_S", "LOADED_S"):
    setattr(outlooks, name, 0.2)
outlooks.choices = lambda *given: choices.choices(*given)[:1]
print(json.dumps(wdsremux.plan(**json.loads(sys.argv[1])).json()))
"""


@pytest.fixture(scope="module")
def hub(sample: Path, converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("sources")
    photos = pq.read_table(sorted(sample.glob("data/train-*.parquet"))[0])
    write_tars(root / "tars", photos)
    write_images(root / "images", photos)
    write_large(root / "large" / "data", [each["jpg"] for each in read_split(converted / "train").values()])
    with Hub({f"ours/{path.name}": path for path in root.iterdir()}) as hub:
        yield hub


def write_large(folder: Path, images: list[bytes]) -> None:
    """2 GB as `datasets` writes them: in row groups of 100 MB, uncompressed."""
    folder.mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for number in range(FILES):
        order = np.random.default_rng(number).permutation(np.arange(len(images) * COPIES) % len(images))
        rows = [{"bytes": images[place], "path": None} for place in order]
        labels = [2 * number // FILES] * len(rows)
        rows_of_file = datasets.Dataset.from_dict({"image": rows, "label": labels}, features)
        rows_of_file.to_parquet(folder / f"train-{number:05d}-of-{FILES:05d}.parquet")


def plan(hub: Hub, home: Path, **options: Any) -> dict[str, Any]:
    hub.requests.clear()
    command = [sys.executable, "-c", PLAN, json.dumps({"workers": 2, "progress": False, **options})]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | hub.environment(home), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_little_of_a_large_source_is_read(hub: Hub, tmp_path: Path) -> None:
    figures = plan(hub, tmp_path, source="ours/large", recipe="copy")
    source = figures["source"]
    assert source["size_bytes"] > 1.9e9
    assert source["rows"] == 300 * COPIES * FILES
    assert source["rows_looked_at"] >= 400
    assert hub.sent_bytes < 0.01 * source["size_bytes"], hub.sent_bytes
    assert figures["network_images_per_s"] > 0
    assert any("so large that only the first rows were read" in each for each in source["warnings"])
    low, high = figures["size_bytes_interval"]
    assert low < source["size_bytes"] + 1_536 * source["rows"] < high  # a tar's headers, and files with labels


@pytest.mark.parametrize("kind", ["tars", "images"])
def test_other_kinds(kind: str, hub: Hub, tmp_path: Path) -> None:
    figures = plan(hub, tmp_path, source=f"ours/{kind}", recipe="resize:64")
    rows = {"tars": 300, "images": 40}[kind]
    low, high = figures["source"].get("rows_interval", [rows, rows])
    assert low <= rows <= high
    assert figures["source"]["rows"] == pytest.approx(rows, rel=0.1)
    assert figures["samples"] == pytest.approx(rows, rel=0.1)
