"""Others read what we write: webdataset, datasets, DALI and tarfile give back every row, label and byte."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import WriteSource
from tests.support.reading import read_split
from wdsremux.format import keys, samples

Rows = dict[str, tuple[int, bytes]]  #: label and image by key


@pytest.fixture(scope="module")
def copied(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with its own bytes, both splits."""
    import wdsremux

    out = tmp_path_factory.mktemp("copied")
    for split in ("train", "test"):
        wdsremux.convert(sample, out, split=split, recipe="copy", workers=2, samples_per_shard=40)
    return out


def source_rows(sample: Path, split: str) -> Rows:
    """What the parquet files hold, under the keys that it should get."""
    found: Rows = {}
    fragment = 0
    for path in sorted(sample.glob(f"data/{split}-*.parquet")):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            for row, (image, label) in enumerate(
                zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True)
            ):
                found[f"{fragment:06d}-{row:06d}"] = (label, image["bytes"])
            fragment += 1
        file.close()
    return found


def tars(out: Path, split: str) -> list[str]:
    return [str(path) for path in sorted((out / split).glob("*.tar"))]


def by_tarfile(out: Path, split: str, tmp_path: Path) -> Rows:
    return {key: (int(content["cls"]), content["jpg"]) for key, content in read_split(out / split).items()}


def by_webdataset(out: Path, split: str, tmp_path: Path) -> Rows:
    return {row["__key__"]: (int(row["cls"]), row["jpg"]) for row in read_webdataset(tars(out, split))}


def read_webdataset(paths: list[str]) -> list[dict[str, Any]]:
    import webdataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files to the garbage collector
        rows = list(webdataset.WebDataset(paths, shardshuffle=False))
        gc.collect()
    return rows


def by_datasets(out: Path, split: str, tmp_path: Path) -> Rows:
    import datasets

    rows = datasets.load_dataset(str(out), split=split, cache_dir=str(tmp_path / "cache"))
    assert len(rows) == rows.num_rows
    undecoded = rows.cast_column("jpg", datasets.Image(decode=False))
    return {row["__key__"]: (row["cls"], row["jpg"]["bytes"]) for row in undecoded}


def by_dali(out: Path, split: str, tmp_path: Path) -> Rows:
    """Without keys, which DALI does not give: the order is that of the tars, so the table tells them."""
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from nvidia.dali import fn, pipeline_def

    table = samples.read(out / split / samples.NAME)
    paths = tars(out, split)

    @pipeline_def(batch_size=7, num_threads=1, device_id=None)  # type: ignore[untyped-decorator,unused-ignore]
    def pipeline() -> Any:
        read: Any = fn.readers.webdataset  # typed as if it might give nothing
        images, labels = read(
            paths=paths,
            index_paths=[path.removesuffix(".tar") + ".idx" for path in paths],
            ext=["jpg", "cls"],
            missing_component_behavior="error",
            name="reader",
        )
        return images, labels

    pipe = pipeline()
    pipe.build()
    assert pipe.epoch_size("reader") == len(table)
    batches = [pipe.run() for _ in range(-(-len(table) // 7))]
    images = [np.array(image).tobytes() for batch in batches for image in batch[0]]
    labels = [int(np.array(label).tobytes()) for batch in batches for label in batch[1]]
    named = [keys.key(row["fragment"], row["row"], row["part"]) for row in table]
    return {key: (label, image) for key, label, image in zip(named, labels, images, strict=False)}


READERS = {"tarfile": by_tarfile, "webdataset": by_webdataset, "datasets": by_datasets, "dali": by_dali}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_row_comes_back(copied: Path, sample: Path, tmp_path: Path, reader: str, split: str) -> None:
    found, wanted = READERS[reader](copied, split, tmp_path), source_rows(sample, split)
    assert len(found) == len(wanted) == {"train": 300, "test": 60}[split]
    assert found.keys() == wanted.keys()
    for key, (label, image) in wanted.items():
        assert found[key][0] == label
        assert found[key][1] == image


def test_pixels_are_those_that_datasets_decodes(converted: Path, tmp_path: Path) -> None:
    """The table's offsets lead to the very picture that others see under its key."""
    import datasets

    from wdsremux import codec

    rows = datasets.load_dataset(str(converted), split="test", cache_dir=str(tmp_path / "cache"))
    seen = {row["__key__"]: np.asarray(row["jpg"]) for row in rows}
    index = json.loads((converted / "test" / "index.json").read_bytes())
    for row in samples.read(converted / "test" / samples.NAME):
        with open(converted / "test" / index["shards"][row["shard"]]["url"], "rb") as file:
            pixels = codec.decode(os.pread(file.fileno(), int(row["size"]), int(row["offset"])))
        assert pixels.shape == (row["height"], row["width"], 3)
        assert np.array_equal(pixels, seen[keys.key(row["fragment"], row["row"])])
    assert len(seen) == 60


def test_datasets_streams_both_splits(copied: Path) -> None:
    import datasets

    streams = datasets.load_dataset(str(copied), streaming=True)
    assert {split: sum(1 for _ in stream) for split, stream in streams.items()} == {"train": 300, "test": 60}


def test_timm_finds_the_shards(copied: Path) -> None:
    """As timm's reader looks for them: `_info.json` beside the splits, with names and lengths."""
    info = json.loads((copied / "_info.json").read_text())["splits"]
    assert list(info) == ["test", "train"]
    for split, entry in info.items():
        assert [str(copied / name) for name in entry["filenames"]] == tars(copied, split)
        assert sum(entry["shard_lengths"]) == entry["num_samples"] == {"train": 300, "test": 60}[split]


def test_timm_reads_every_sample(copied: Path) -> None:
    """In a process of its own: timm leaves the tars open."""
    pytest.importorskip("timm", reason="timm is not installed")
    script = "import sys; from timm.data import create_dataset; "
    script += "rows = create_dataset('wds/ours', root=sys.argv[1], split='test', batch_size=7, is_training=False); "
    script += "print(len(rows), *sorted(label for _, label in rows))"
    done = subprocess.run([sys.executable, "-c", script, str(copied)], capture_output=True, text=True, check=True)
    length, *labels = map(int, done.stdout.split())
    assert length == 60
    assert labels == sorted(samples.read(copied / "test" / samples.NAME)["label"].tolist())


def test_unlabelled_samples(write_source: WriteSource, tmp_path: Path) -> None:
    import wdsremux
    from tests.conftest import tiny_jpeg

    wdsremux.convert(write_source([tiny_jpeg(i) for i in range(20)]), tmp_path / "out", recipe="copy", workers=1)
    rows = read_webdataset(tars(tmp_path / "out", "train"))
    found = {row["__key__"]: row["jpg"] for row in rows if "cls" not in row}
    assert found == {keys.key(0, i): tiny_jpeg(i) for i in range(20)}
