"""What a person and other libraries ask of a loader: pictures to look at, classes, a few words on what it is."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sample_source import CLASSES

import wdsremux
from tests.conftest import TRAIN, ConvertTiny, WriteSource, tiny_jpeg
from wdsremux.errors import FormatError, OptionError
from wdsremux.format import samples


def test_a_sample_to_look_at(converted: Path) -> None:
    """The picture as it was baked, and the label of the sample table; the loader goes on meanwhile."""
    with wdsremux.DataLoader(converted, 30, shuffle=False, augment="eval", size=32, fields=("label", "id")) as loader:
        batches = iter(loader)
        labels, ids = next(batches)
        for label, number in zip(labels.tolist(), ids.tolist(), strict=True):
            picture, its_label = loader.dataset[number]
            assert isinstance(picture, Image.Image)
            assert min(picture.size) == 256
            assert its_label == label
        assert len(list(batches)) == len(loader) - 1


def test_indices(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 30) as loader:
        first, last = loader.dataset[0], loader.dataset[TRAIN - 1]
        assert loader.dataset[-1][0].tobytes() == last[0].tobytes()
        assert loader.dataset[-TRAIN][0].tobytes() == first[0].tobytes()
        assert loader.dataset[np.int64(0)][1] == first[1]  # numpy's integers have __index__
        for wrong in (TRAIN, -TRAIN - 1):
            with pytest.raises(IndexError):
                _ = loader.dataset[wrong]
        parts: Any = slice(0, 3)
        with pytest.raises(OptionError, match=r"^Invalid index \(got slice\(0, 3, None\)\)\. Supported: an integer"):
            _ = loader.dataset[parts]
        assert len(list(itertools.islice(iter(loader.dataset), 3))) == 3


def test_a_damaged_sample_is_named(converted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(converted / "train", out / "train")
    row = samples.read(out / "train" / samples.NAME)[3]
    shard = out / "train" / wdsremux.manifest(out).shards[int(row["shard"])].url
    content = bytearray(shard.read_bytes())
    content[int(row["offset"]) + int(row["size"]) // 2] ^= 1
    shard.write_bytes(content)
    with wdsremux.DataLoader(out, 30) as loader:
        assert loader.dataset[2]
        with pytest.raises(FormatError, match=r"is damaged: its CRC-32 is wrong"):
            _ = loader.dataset[3]


def test_classes(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 30) as loader:
        names = loader.classes
        assert names is not None
        assert names == loader.dataset.classes == wdsremux.manifest(converted).classes
        assert loader.class_to_idx == {name: number for number, name in enumerate(names)}
        assert loader.dataset.targets.dtype == np.int64
        assert set(loader.dataset.targets.tolist()) <= set(range(len(names)))


def test_the_number_of_classes(
    converted: Path, convert_tiny: ConvertTiny, write_source: WriteSource, tmp_path: Path
) -> None:
    """Of names, of integers without names, and of no labels at all."""
    with wdsremux.DataLoader(converted, 30) as loader:
        assert loader.num_classes == loader.dataset.num_classes == len(CLASSES)
    with wdsremux.DataLoader(convert_tiny(7), 2) as loader:
        assert loader.classes is None
        assert loader.class_to_idx == {}
        assert loader.num_classes == 7
        assert type(loader.num_classes) is int
    wdsremux.convert(write_source([tiny_jpeg(i) for i in range(5)]), tmp_path / "bare", recipe="copy", workers=1)
    with wdsremux.DataLoader(tmp_path / "bare", 2) as loader:
        assert (loader.classes, loader.class_to_idx, loader.num_classes) == (None, {}, 0)


def test_a_class_without_samples_counts(write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(i) for i in range(4)], [0, 1, 0, 1], classes=["a", "b", "c"])
    wdsremux.convert(source, tmp_path / "out", recipe="copy", workers=1)
    with wdsremux.DataLoader(tmp_path / "out", 2) as loader:
        assert loader.num_classes == 3


def test_a_few_words_on_it(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 30, size=64) as loader:
        text = repr(loader)
        assert f"{converted / 'train'}: {TRAIN} images, " in text
        assert "batches of 30, 64 x 64 pixels, image, label" in text
        assert "\n" not in text
        assert "\n" not in repr(loader.dataset)
        shown = loader._repr_html_()
    assert shown.startswith("<table>")
    assert f"{TRAIN} images" in shown


def test_what_a_notebook_shows_is_escaped(converted: Path, tmp_path: Path) -> None:
    out = tmp_path / "<b>cats & dogs"
    out.mkdir()
    (out / "train").symlink_to(converted / "train")
    with wdsremux.DataLoader(out, 30) as loader:
        assert "&lt;b&gt;cats &amp; dogs" in loader._repr_html_()


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_samples_without_a_label_are_told_of(tmp_path: Path, count: int, recwarn: pytest.WarningsRecorder) -> None:
    """Before training, where cross_entropy would end it; not where none has one, nor where labels are not asked for."""
    picture = Image.new("RGB", (8, 8))
    table = {"image": [picture] * 8, "label": [None] * count + [1] * (8 - count)}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict(table, features=features).save_to_disk(str(tmp_path / "source"))
    wdsremux.convert(tmp_path / "source", tmp_path / "out", recipe="copy", workers=1)
    recwarn.clear()
    wdsremux.DataLoader(tmp_path / "out", 4, fields=("image",)).close()
    assert not recwarn.list
    if count in (0, 8):
        wdsremux.DataLoader(tmp_path / "out", 4).close()
        assert not recwarn.list
        return
    with pytest.warns(UserWarning, match=rf" has samples without a label \({count} of 8\)\. Their label is -1") as told:
        wdsremux.DataLoader(tmp_path / "out", 4).close()
    assert told[0].filename == __file__
    assert samples.NO_LABEL == -1
    logits, labels = torch.zeros(8, 2), torch.tensor([-1] * count + [1] * (8 - count))
    assert torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1) > 0  # the advice works


def test_the_epoch_that_comes_next(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 50, fields=("id",)) as loader:
        assert loader.epoch == 0
        next(iter(loader))
        state = loader.state_dict()
        assert loader.epoch == 1  # a loop that was left begins the next
        list(loader)
        assert loader.epoch == 2
        loader.load_state_dict(state)
        assert loader.epoch == 0  # a resume goes on in its own
