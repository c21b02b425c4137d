"""Shards that are missing, cut short, changed or exchanged: the right error, no hang, never a wrong label.

Each picture is of one colour, which says its label: a sample whose label is wrong would be seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wdsremux
from tests.conftest import jpeg
from wdsremux.errors import FormatError
from wdsremux.format import samples

COUNT, SHARD = 160, 20
Damage = Callable[[Path, list[Path]], None]


def colour(label: int) -> bytes:
    """A JPEG of 16 px in one colour."""
    return jpeg(np.full((16, 16, 3), [label, 255 - label, 60], np.uint8), quality=95)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 pictures in 8 shards of 20, all files of the same size, as both splits."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("colours")
    schema = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}).arrow_schema
    images = [colour(label) for label in range(COUNT)]
    longest = max(map(len, images))
    # A comment makes all files as long as each other, so that shards can be exchanged without a look at their size.
    images = [padded(image, longest + 8) for image in images]
    (folder / "source" / "data").mkdir(parents=True)
    for split, order in (("train", 1), ("test", -1)):
        rows = {
            "image": [{"bytes": data, "path": None} for data in images][::order],
            "label": list(range(COUNT))[::order],
        }
        pq.write_table(
            pa.table(rows, schema=schema),
            folder / "source" / "data" / f"{split}-00000-of-00001.parquet",
            row_group_size=20,
        )
        wdsremux.convert(
            folder / "source", folder / "out", split=split, recipe="copy", samples_per_shard=SHARD, workers=1
        )
    return folder / "out"


def padded(image: bytes, length: int) -> bytes:
    """The same JPEG with a comment that makes it so long."""
    spare = length - len(image)
    return image[:2] + b"\xff\xfe" + (spare - 2).to_bytes(2, "big") + b"." * (spare - 4) + image[2:]


@pytest.fixture
def out(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(sound, tmp_path / "out")
    return tmp_path / "out"


def shards(out: Path) -> list[Path]:
    return [out / "train" / shard.url for shard in wdsremux.manifest(out).shards]


def truncate(out: Path, tars: list[Path]) -> None:
    with open(tars[3], "r+b") as file:
        file.truncate(file.seek(0, 2) // 2)


def remove(out: Path, tars: list[Path]) -> None:
    tars[3].unlink()


def exchange(out: Path, tars: list[Path]) -> None:
    """With a shard of the same size."""
    assert tars[3].stat().st_size == tars[4].stat().st_size
    tars[3].rename(tars[3].with_suffix(".x"))
    tars[4].rename(tars[3])
    tars[3].with_suffix(".x").rename(tars[4])


def from_the_other_split(out: Path, tars: list[Path]) -> None:
    """The shard of that name of the test split: the same size, even the same keys."""
    other = out / "test" / tars[3].name.replace("train", "test")
    assert tars[3].stat().st_size == other.stat().st_size
    shutil.copy(other, tars[3])


def grow(out: Path, tars: list[Path]) -> None:
    with open(tars[3], "ab") as file:
        file.write(bytes(512))


DAMAGES: list[Damage] = [truncate, remove, exchange, from_the_other_split, grow]


def labels_are_right(images: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether each picture's colour is that of its label, as far as JPEG keeps it."""
    seen = images[:, 0].float().mean((1, 2))
    return bool((seen - labels).abs().max() < 3)


def epoch(out: Path, backend: str, **options: Any) -> tuple[list[int], int]:
    """The labels of an epoch in order, and how many samples were skipped."""
    seen: list[int] = []
    given: dict[str, Any] = {"size": 16, "augment": None, "dtype": torch.uint8, "backend": backend, "num_threads": 1}
    with wdsremux.DataLoader(out, 32, **given | options) as loader:
        for images, labels in loader:
            assert labels_are_right(images, labels)
            seen += labels.tolist()
        return seen, loader.stats().epoch.skipped


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_one_error_names_the_shard(out: Path, backend: str, damage: Damage) -> None:
    tars = shards(out)
    damage(out, tars)
    with pytest.raises(FormatError, match=rf"\A[^\n]*({tars[3].name}|{tars[4].name})[^\n]*\Z"):
        epoch(out, backend)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_skip_goes_on_with_what_is_sound(out: Path, backend: str, damage: Damage) -> None:
    tars = shards(out)
    table = samples.read(out / "train" / samples.NAME)
    damage(out, tars)
    seen, skipped = epoch(out, backend, on_error="skip")
    hit = {3, 4} if damage is exchange else {3}
    lost = sorted(table["label"][np.isin(table["shard"], list(hit))].tolist())
    assert skipped == len(lost) == SHARD * len(hit)
    assert len(seen) == COUNT
    assert sorted(set(range(COUNT)) - set(seen)) == lost


def flip(tar: Path, place: int) -> None:
    content = bytearray(tar.read_bytes())
    content[place] ^= 0x10
    tar.write_bytes(content)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.99])
def test_a_flipped_bit_is_found_with_verify_crc(out: Path, backend: str, part: float) -> None:
    row = samples.read(out / "train" / samples.NAME)[70]
    tar = shards(out)[int(row["shard"])]
    flip(tar, int(row["offset"]) + int(part * int(row["size"])))
    with pytest.raises(
        FormatError, match=rf"^sample 70 at byte {row['offset']} of .*{tar.name} is damaged: its CRC-32"
    ):
        epoch(out, backend, verify_crc=True)
    seen, skipped = epoch(out, backend, verify_crc=True, on_error="skip")
    assert skipped == 1
    assert set(range(COUNT)) - set(seen) == {int(row["label"])}


def test_what_the_decoder_stumbles_on_is_checked_without_being_asked(out: Path, backend: str) -> None:
    """The first two bytes say that it is a JPEG."""
    row = samples.read(out / "train" / samples.NAME)[71]
    tar = shards(out)[int(row["shard"])]
    flip(tar, int(row["offset"]))
    with pytest.raises(
        FormatError, match=rf"^sample 71 at byte {row['offset']} of .*{tar.name} is damaged: its CRC-32"
    ):
        epoch(out, backend)
    seen, skipped = epoch(out, backend, on_error="skip")
    assert skipped == 1
    assert set(range(COUNT)) - set(seen) == {int(row["label"])}


def test_a_batch_of_which_nothing_is_left_is_an_error(out: Path, backend: str) -> None:
    for tar in shards(out)[:-1]:
        tar.unlink()
    with pytest.raises(FormatError, match=r"train-000000\.tar cannot be opened"):
        epoch(out, backend, on_error="skip", shuffle=False)


def test_everything_sound_skips_nothing(out: Path, backend: str) -> None:
    seen, skipped = epoch(out, backend, on_error="skip", verify_crc=True)
    assert sorted(seen) == list(range(COUNT))
    assert skipped == 0
