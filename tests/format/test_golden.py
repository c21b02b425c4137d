"""The bytes on disk, once and for all: a fixed source copied gives fixed files, whatever the versions of libraries.

If a digest moves, every split that was ever written is of another format: raise the format's version, or undo it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wdsremux
from tests.conftest import WriteSource
from tests.support.reading import check_split, digests, read_split

#: An 8x8 grey baseline JPEG, written once by libjpeg; `copy` keeps it to the byte.
JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c39"
    "33383740485c4e404457453738506d51575f626768673e4d71797064785c656763ffc0000b080008000801011100ffc400140001000000"
    "00000000000000000000000005ffc40014100100000000000000000000000000000000ffda0008010100003f0031ffd9"
)

GOLDEN = {
    "train/rejects.jsonl": "32c883ec9af64afb51f8b1987945dd5719aded838178cf02c3029479dda0f0a0",
    "train/samples.npy": "fc0753099f76b9ac2ba12e96cc2e04dd441b46a0beac63da6b428c39d2b4700d",
    "train/train-000000.idx": "b0b0ba487ca837e0d7be5b47e41326fcf8f330b1dfce8d0efb1fa713767d90a1",
    "train/train-000000.tar": "6fab55bb8a827f2ea9fa0f526a758eb770d40c62dff26efb2752d5baaa4c780d",
    "train/train-000001.idx": "f73d7b5ad5b1e63f3a17127b22b50598d89fa9c5539b22538c935f541045accf",
    "train/train-000001.tar": "bba34842b1199842cd1a3d1b14da840bb1fb356dca07f932d07d43c6db7f9d4b",
    "train/train-000002.idx": "eb6c868825fd6cd9e4a973ed20d81ebee2de6e936e2a569ce8c8abc4b27aa4cc",
    "train/train-000002.tar": "581a9518e6cd8e95512aca6ddbffcd04e5076b57f92a6571ae76012dd6fd9407",
    "train/train-000003.idx": "b659f0c7637ebdc14388dccdf602a918fee18402fc2f4c7694e3286b118e63f6",
    "train/train-000003.tar": "132320bd2a27849d8bfc03ec855f71a059142a6f6fb358b6a0965358a132f4db",
}


def picture(number: int) -> bytes:
    """That JPEG with a comment: another one for each number, and of another size."""
    comment = f"{'picture ' * (number % 5)}{number}".encode()
    return JPEG[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + JPEG[2:]


@pytest.fixture
def golden(write_source: WriteSource, tmp_path: Path) -> Path:
    images: list[bytes | None] = [picture(i) for i in range(50)]
    images[5], images[23], images[31] = b"", b"text in disguise", None
    labels = [i % 3 if i != 40 else -1 for i in range(50)]
    source = write_source(images, labels, classes=["a", "b", "c"], rows_a_group=10, files=2)
    out = tmp_path / "out"
    sizes: dict[str, Any] = {"samples_per_shard": 20, "samples_per_task": 30}
    wdsremux.convert(source, out, recipe="copy", workers=1, max_rejects="3", seed=7, **sizes)
    return out


def test_golden(golden: Path) -> None:
    found = digests(golden)
    del found["train/index.json"]  # it names library versions
    assert found == GOLDEN


def test_contract(golden: Path) -> None:
    check_split(golden / "train", 50)
    samples = read_split(golden / "train")
    assert len(samples) == 47
    for key, content in samples.items():
        fragment, row = map(int, key.split("-"))
        number = fragment // 3 * 25 + fragment % 3 * 10 + row  # two files of 25 rows, in groups of 10
        assert content == {"jpg": picture(number)} | ({"cls": b"%d" % (number % 3)} if number != 40 else {})


def test_contract_of_photographs(converted: Path) -> None:
    check_split(converted / "train", 300)
    check_split(converted / "test", 60)
