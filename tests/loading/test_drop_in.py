"""In place of torch's DataLoader, in all the ways people treat one."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wdsremux
from tests.conftest import TRAIN, ConvertTiny
from wdsremux.errors import OptionError
from wdsremux.loading.augment import Augment

EVERYTHING = Augment(
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grayscale=0.2, blur=0.5, erasing=0.25, degrees=15
)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize("augment", ["train", EVERYTHING], ids=["train", "everything"])
def test_ten_epochs_with_a_break_in_each(backend: str, converted: Path, augment: Any) -> None:
    """Threads, descriptors and memory stay where they were after the second."""
    found: list[tuple[int, int, float]] = []
    with wdsremux.DataLoader(converted, 32, size=64, augment=augment, backend=backend, num_threads=2) as loader:
        for epoch in range(10):
            loader.set_epoch(epoch)
            for number, _ in enumerate(loader):
                if number == epoch % 4:
                    break
            gc.collect()
            found.append((threading.active_count(), open_descriptors(), resident_mb()))
    threads, descriptors, memory = zip(*found[1:], strict=True)
    assert len(set(threads)) == 1
    assert max(descriptors) <= descriptors[0] + len(wdsremux.manifest(converted).shards)  # shards stay open
    assert max(descriptors[5:]) == min(descriptors[5:])
    assert np.mean(memory[-4:]) < np.mean(memory[:4]) + 50  # a batch is 1.6 MB; the allocator's arenas take turns


def test_loaders_side_by_side(backend: str, converted: Path) -> None:
    """Train and test in turns, two of the same, batches interleaved: each gives what it gives alone."""
    kinds: list[dict[str, Any]] = [
        {"split": "train", "augment": "train", "seed": 1},
        {"split": "test", "augment": "eval", "shuffle": False},
        {"split": "train", "augment": EVERYTHING, "seed": 2},
        {"split": "train", "augment": "train", "seed": 1},
    ]

    def opened(kind: dict[str, Any]) -> wdsremux.DataLoader:
        return wdsremux.DataLoader(converted, 20, size=32, backend=backend, num_threads=2, **kind)

    alone = []
    for kind in kinds:
        with opened(kind) as loader:
            alone.append([images for images, _ in loader][:3])
    with ExitStack() as stack:
        iterators: list[Iterator[Any]] = [iter(stack.enter_context(opened(kind))) for kind in kinds]
        together: list[list[torch.Tensor]] = [[] for _ in kinds]
        for _ in range(3):
            for number, iterator in enumerate(iterators):
                together[number].append(next(iterator)[0])
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_closing_one_leaves_the_other(backend: str, converted: Path) -> None:
    with wdsremux.DataLoader(converted, 20, size=32, backend=backend) as kept:
        batches = iter(kept)
        next(batches)
        with wdsremux.DataLoader(converted, 20, size=32, backend=backend) as other:
            next(iter(other))
        assert len(list(batches)) == len(kept) - 1


def test_the_sampler_says_which_epoch(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 30, fields=("id",)) as loader:
        assert loader.batch_sampler is None
        loader.sampler.set_epoch(3)
        third = torch.cat([ids for (ids,) in loader])
        loader.set_epoch(3)
        assert torch.equal(torch.cat([ids for (ids,) in loader]), third)
        sampler = loader.sampler
    del loader
    gc.collect()
    sampler.set_epoch(4)  # of a loader that is gone: nothing to tell


def test_a_batch_in_each_of_torchs_types_is_trained_on(converted: Path) -> None:
    layer = torch.nn.Conv2d(3, 4, 3)
    for dtype in (torch.float32, torch.bfloat16):
        with wdsremux.DataLoader(converted, 8, size=32, dtype=dtype, memory_format=torch.channels_last) as loader:
            images, labels = next(iter(loader))
        loss = layer.to(dtype)(images).mean((2, 3)).float()[:, 0].mean()
        torch.autograd.backward(loss)
        assert labels.dtype == torch.int64


def test_kept_columns_come_as_json(write_source: Any, tmp_path: Path) -> None:
    from tests.conftest import tiny_jpeg

    columns = {"caption": (__import__("datasets").Value("string"), [f"picture {i}" for i in range(40)])}
    source = write_source([tiny_jpeg(i) for i in range(40)], range(40), columns=columns)
    wdsremux.convert(source, tmp_path / "out", recipe="copy", keep=["caption"], workers=1)
    fields = ("json", "label", "image")
    with wdsremux.DataLoader(tmp_path / "out", 8, size=8, fields=fields, tail="even") as loader:
        for kept, labels, images in loader:
            assert [row["caption"] for row in kept] == [f"picture {label}" for label in labels]
            assert len(images) == len(kept)
    with wdsremux.DataLoader(tmp_path / "out", 8, fields=("json", "id"), shuffle=False) as loader:
        kept, ids = next(iter(loader))
        assert len(kept) == len(ids) == 8


def test_json_that_was_not_kept_is_refused(converted: Path) -> None:
    with pytest.raises(OptionError, match=r'has no columns for the field "json"\. Convert it with keep='):
        wdsremux.DataLoader(converted, fields=("image", "json"))


def test_a_kernel_larger_than_the_picture_is_refused_at_once(converted: Path) -> None:
    with pytest.raises(OptionError, match=r"^Invalid blur_kernel \(got 99 with size=32\)"):
        wdsremux.DataLoader(converted, size=32, augment=Augment(blur=1.0, blur_kernel=99))


def test_every_sample_is_seen_once_with_everything_on(backend: str, converted: Path) -> None:
    options: dict[str, Any] = {"size": 32, "augment": EVERYTHING, "backend": backend, "tail": "even"}
    with wdsremux.DataLoader(converted, 37, fields=("image", "id"), **options) as loader:
        batches = list(loader)
    assert sorted(torch.cat([ids for _, ids in batches]).tolist()) == list(range(TRAIN))
    assert all(np.isfinite(images.numpy()).all() for images, _ in batches)


def test_a_loader_made_but_not_begun_starts_nothing(convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(40)
    before = threading.active_count()
    with wdsremux.DataLoader(out, 8, num_threads=4) as loader:
        assert len(loader) == 5
        assert threading.active_count() == before
