"""The README's Python blocks run as they stand there, with smaller numbers; its training loop survives a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import wdsremux
from tests.conftest import TRAIN, needs
from tests.support.launch import ids, output, seen, start
from tests.support.readme import block, blocks, replaced

pytestmark = pytest.mark.system

SMALL = {'"cifar10-256", batch_size=256': '"cifar10-256", batch_size=32, size=64'}
LOOP = replaced(block("CHECKPOINT ="), SMALL | {"= 90, 100,": "= 2, 2,"})
SETUP = LOOP[: LOOP.index("if os.path.exists(CHECKPOINT):")].replace("= 2, 2,", "= 1, 2,")
LOADERS = replaced(block("test = wdsremux.DataLoader"), SMALL)
READERS = block("webdataset.WebDataset(")
#: Words of each block -> the script that it becomes after what it goes on from.
SCRIPTS = {
    "webdataset.WebDataset(": READERS + "assert (len(rows), sum(1 for _ in samples)) == (300, 300)\n",
    "pipeline_def": READERS + block("pipeline_def") + "assert len(images) == len(labels) == 256\n",
    "create_dataset": block("create_dataset") + "assert len(rows) >= 300\n",  # timm fills up the last batch
    "simclr": block("simclr") + "images, labels = next(iter(train))\nassert images.shape[1:] == (3, 224, 224)\n",
    "lightning": SETUP + LOADERS + replaced(block("import lightning"), {"devices=8": "devices=1"}),
    "Accelerator": SETUP + LOADERS + block("Accelerator()"),
    "LoaderTrainer": SETUP + LOADERS + block("LoaderTrainer"),
    "train.sampler": SETUP + LOADERS + block("train.sampler"),
}
#: These have tests of their own, here; the loaders are in those of the trainers.
OTHERS = ("CHECKPOINT =", "places365", "v2.Compose", "A.Compose", "test = wdsremux.DataLoader")


@pytest.fixture
def place(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as its reader has it, with a converted set under the README's name."""
    (tmp_path / "cifar10-256").symlink_to(converted)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    return tmp_path


def script(place: Path, text: str) -> Path:
    (place / "script.py").write_text(text)
    return place / "script.py"


def test_every_block_is_tried() -> None:
    for text in blocks():
        assert sum(words in text for words in (*SCRIPTS, *OTHERS)) == 1, text


@pytest.mark.parametrize("words", SCRIPTS)
def test_a_block(place: Path, words: str) -> None:
    if words == "pipeline_def":
        needs("nvidia.dali", "DALI")
    output(script(place, SCRIPTS[words]), folder=place)


def test_the_notebook_cell(place: Path, sample: Path) -> None:
    cell = replaced(
        block("places365"), {"ORG/places365": str(sample), "/content/drive/MyDrive/places-256": str(place / "places")}
    )
    output(script(place, cell), folder=place)
    assert wdsremux.manifest(place / "places").nsamples == TRAIN


@pytest.mark.parametrize("words", ["v2.Compose", "A.Compose"])
def test_a_recipe(place: Path, sample: Path, words: str) -> None:
    recipe = script(place, block(words))
    manifest = wdsremux.convert(sample, place / "baked", recipe=f"{recipe}:bake", limit=40, workers=1)
    assert (manifest.nsamples, manifest.nrejects) == (40, 0)


def test_the_training_loop_killed_in_mid_epoch(converted: Path, tmp_path: Path) -> None:
    """Nine steps an epoch. Of the five of the second epoch that were begun, the checkpoint knows four."""
    whole, broken = (folder_of(converted, tmp_path / name) for name in ("whole", "broken"))
    output(whole / "script.py", folder=whole, watch=whole / "watch")
    killed = start(broken / "script.py", folder=broken, watch=broken / "before", kill="0:14")
    assert killed.returncode == -9, killed.stderr
    output(broken / "script.py", folder=broken, watch=broken / "after")
    undisturbed, before, after = seen(whole / "watch"), seen(broken / "before"), seen(broken / "after")
    kept = [line for line in before if line.epoch == 0 or line.position <= 4 * 32]
    assert len(kept) == len(before) - 1
    assert min((line.epoch, line.position) for line in after) == (1, 5 * 32)
    for epoch in range(2):
        assert ids([*kept, *after], "train", epoch) == ids(undisturbed, "train", epoch)
    assert_same(checkpoint(whole), checkpoint(broken))


def folder_of(converted: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "cifar10-256").symlink_to(converted)
    script(folder, LOOP)
    return folder


def checkpoint(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return loaded


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same weights, to the bit, and the same place."""
    assert one["loader"] == other["loader"]
    assert one["loader"]["epoch"] == 2
    assert one["model"].keys() == other["model"].keys()
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
