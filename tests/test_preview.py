"""`wdsremux preview`: what is shown is what a loader gives, and any set can be shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import wdsremux
from tests.conftest import ConvertTiny, WriteSource, jpeg, needs, tiny_jpeg
from wdsremux.errors import FormatError, OptionError
from wdsremux.loading.augment import Augment
from wdsremux.showing.shown import EPOCHS, gather

needs("matplotlib", "matplotlib")


EVERYTHING = Augment(jitter=0.8, grayscale=0.5, blur=0.5, degrees=20, erasing=0.5)


@pytest.mark.parametrize("augment", [Augment(), EVERYTHING], ids=["crop and flip", "everything"])
def test_what_is_shown_is_what_a_loader_gives(converted: Path, augment: Augment) -> None:
    shown = gather(converted, "train", 5, augment, 48)
    form: dict[str, Any] = {"size": 48, "dtype": torch.uint8, "backend": "torchvision", "device": "cpu"}
    fields = ("image", "id", "key", "label")
    with wdsremux.DataLoader(converted, 60, augment=augment, fields=fields, shuffle=False, **form) as loader:
        for epoch in range(EPOCHS):
            loader.set_epoch(epoch)
            found = {
                key: (image, label)
                for images, _, keys, labels in loader
                for image, key, label in zip(images, keys, labels, strict=True)
            }
            for number, key in enumerate(shown.drawn.keys):
                image, label = found[key]
                assert np.array_equal(shown.drawn.trained[epoch][number], image.permute(1, 2, 0).numpy())
                assert shown.drawn.labels[number] == label
        assert loader.classes is not None
        assert shown.names == [loader.classes[label] for label in shown.drawn.labels.tolist()]
        for key, pixels in zip(shown.drawn.keys, shown.drawn.stored, strict=True):
            number = [loader.dataset.split.key(i) for i in range(len(loader.dataset))].index(key)
            assert np.array_equal(np.asarray(loader.dataset[number][0]), pixels)


def test_counts_are_of_all_samples(write_source: WriteSource, tmp_path: Path) -> None:
    pictures = [jpeg(np.full((8, 8 + number % 3, 3), 70, np.uint8)) for number in range(30)]
    labels = [0] * 20 + [2] * 9 + [1]
    source = write_source([*pictures, b"no image", b"", b"\xff\xd8cut"], [*labels, 0, 0, 0], classes=["a", "b", "c"])
    wdsremux.convert(source, tmp_path / "out", recipe="copy", max_rejects=3)
    shown = gather(tmp_path / "out", "train", 12, Augment(), 8)
    assert len(shown.names) == 12
    assert [(each.name, each.samples) for each in shown.classes] == [("a", 20), ("c", 9), ("b", 1)]
    assert sorted(shown.longer_sides.tolist()) == [8] * 10 + [9] * 10 + [10] * 10
    assert sum(count for _, count in shown.reasons) == 3
    assert sum(shown.file_bytes) == sum(map(len, pictures))


def picture_of(out: Path, **options: Any) -> np.ndarray[Any, Any]:
    """What is drawn; warnings, such as of a letter that is missing, are errors."""
    made = wdsremux.preview(out, **options)
    assert made._repr_png_() == made.png
    with Image.open(io.BytesIO(made.png)) as image:
        assert image.info["Software"] == "wdsremux preview"
        return np.asarray(image.convert("RGB"))


NAMES = {
    "a thousand": [f"n{number:08d}" for number in range(1000)],
    "long": [f"a name of {'very ' * 20}many words, number {number}" for number in range(10)],
    "not Latin": ["猫", "कुत्ता", "собака", "γάτα", "قطة", "고양이", "🐈", "$x^2$", "a_b^c", "\\alpha"],
    "one": ["all"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_classes_of_any_names(names: list[str], write_source: WriteSource, tmp_path: Path) -> None:
    count = max(20, len(names))
    source = write_source(
        [tiny_jpeg(number) for number in range(count)], [n % len(names) for n in range(count)], classes=names
    )
    wdsremux.convert(source, tmp_path / "out", recipe="copy")
    assert picture_of(tmp_path / "out", n=4, size=8).std() > 10


def test_letters_that_no_font_has(write_source: WriteSource, tmp_path: Path) -> None:
    """A box each is drawn, and it is said: a hieroglyph."""
    source = write_source([tiny_jpeg(0)] * 2, [0, 1], classes=["a\U00013000b", "plain"])
    wdsremux.convert(source, tmp_path / "out", recipe="copy")
    (note,) = wdsremux.preview(tmp_path / "out").notes
    assert note.startswith("no font on this machine has 1 letter of the names; boxes stand for them. Install ")


def test_small_greys_without_labels(write_source: WriteSource, tmp_path: Path) -> None:
    greys = [np.full((28, 28), number * 9, np.uint8) for number in range(25)]
    files = []
    for grey in greys:
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "PNG")
        files.append(file.getvalue())
    wdsremux.convert(write_source(files), tmp_path / "out", recipe="resize:32")
    assert gather(tmp_path / "out", "train", 2, Augment(), 28).names == ["no label"] * 2
    assert picture_of(tmp_path / "out", augment=None, size=28).std() > 10


def test_fewer_samples_than_are_to_be_shown(convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(3)
    assert np.array_equal(picture_of(out, size=8), picture_of(out, n=3, size=8))
    assert len(picture_of(out, n=1, size=8)) < len(picture_of(out, size=8))


def test_what_cannot_be_shown(sample: Path, convert_tiny: ConvertTiny, tmp_path: Path) -> None:
    out = convert_tiny(30)
    with pytest.raises(FormatError, match="looks like a source, not a converted set"):
        wdsremux.preview(sample)
    with pytest.raises(FormatError, match="contains no finished split 'valid', only train"):
        wdsremux.preview(out, "valid")
    for options in ({"n": 0}, {"size": "8"}, {"augment": "none"}, {"split": 3}):
        with pytest.raises(OptionError, match=f"Invalid {next(iter(options))} "):
            wdsremux.preview(out, **options)
    shard = out / "train" / "train-000000.tar"
    content = bytearray(shard.read_bytes())
    content[content.index(b"\xff\xd8") + 30] ^= 255
    shard.write_bytes(content)
    with pytest.raises(FormatError, match="is damaged: its CRC-32"):
        wdsremux.preview(out)
    shard.unlink()
    with pytest.raises(FormatError, match=r"train-000000\.tar cannot be opened"):
        wdsremux.preview(out)
