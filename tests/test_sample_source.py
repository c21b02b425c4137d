"""The built-in sample: laid out as on the Hub, sorted by class, and the same bytes whenever it is made."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
from datasets import ClassLabel, Image, load_dataset_builder
from PIL import Image as Pictures
from sample_source import CLASSES, jpeg, write_sample

from tests.conftest import TRAIN
from tests.support.reading import sha256


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sample(tmp_path / name, train=30, test=10)
    made = {name: sorted((tmp_path / name).glob("data/*.parquet")) for name in ("a", "b")}
    assert [sha256(path) for path in made["a"]] == [sha256(path) for path in made["b"]]
    assert len(made["a"]) >= 2
    assert not write_sample(tmp_path / "a", train=30, test=10)  # it is there already


def test_laid_out_as_on_the_hub(sample: Path) -> None:
    builder = load_dataset_builder(str(sample))
    assert set(builder.config.data_files) == {"train", "test"}
    files = [pq.ParquetFile(path) for path in builder.config.data_files["train"]]
    groups = [file.metadata.row_group(i).num_rows for file in files for i in range(file.num_row_groups)]
    assert sum(groups) == TRAIN
    assert max(groups) == 100
    features = next(iter(builder.as_streaming_dataset(split="train").features.items()))
    assert features == ("image", Image())
    labels = [label for file in files for label in file.read(["label"]).column(0).to_pylist()]
    rows = [row for file in files for row in file.read(["row"]).column(0).to_pylist()]
    assert labels == sorted(labels)
    assert set(labels) == set(range(len(CLASSES)))
    assert rows == list(range(TRAIN))
    assert builder.as_streaming_dataset(split="train").features["label"] == ClassLabel(names=list(CLASSES))


def test_pictures_are_photographs_of_the_promised_size() -> None:
    for label in range(len(CLASSES)):
        with Pictures.open(io.BytesIO(jpeg(label, "train", 7, 0))) as picture:
            assert picture.format == "JPEG"
            assert 400 <= min(picture.size) <= 700
            assert (
                len(picture.getcolors(picture.width * picture.height) or []) > 100
            )  # of the greys of a texture, at least
