"""What a loader says of its own work."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import pytest

import wdsremux
from wdsremux.format import samples
from wdsremux.loading.stats import Cost, Meter, Tally


def test_sums_are_of_batches_that_were_handed_out(converted: Path) -> None:
    sizes = samples.read(converted / "train" / samples.NAME)["size"]
    with wdsremux.DataLoader(converted, 32, size=32, fields=("image", "id")) as loader:
        assert str(loader.stats()) == "No batches yet."
        taken = [int(number) for _, (_, ids) in zip(range(3), loader, strict=False) for number in ids]
        stats = loader.stats()
        assert stats.epoch == stats.total
        assert (stats.epoch.batches, stats.epoch.images, stats.epoch.skipped) == (3, 96, 0)
        assert stats.epoch.nbytes == int(sizes[taken].sum())


def test_the_last_epoch_and_all_of_them(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 32, size=32) as loader:
        for count in (9, 9, 2):
            for _ in zip(range(count), loader, strict=False):
                pass
        stats = loader.stats()
    assert (stats.epoch.batches, stats.total.batches) == (2, 20)
    assert stats.total.images == 20 * 32
    assert asdict(stats)["epoch"]["images"] == 64  # for loggers


def test_seconds_are_those_of_a_clock(converted: Path) -> None:
    begun = time.perf_counter()
    with wdsremux.DataLoader(converted, 32, size=32, num_threads=1) as loader:
        for _ in loader:
            time.sleep(0.02)
        epoch = loader.stats().epoch
    assert 9 * 0.02 < epoch.seconds <= time.perf_counter() - begun
    assert 0 < epoch.wait_s < epoch.seconds - 9 * 0.02 + 0.01
    assert epoch.read_s > 0
    assert epoch.decode_s > 0
    assert epoch.copy_s == 0


def test_a_slow_caller_is_bound_by_itself(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 32, size=32) as loader:
        for _ in range(2):  # what the first batch of all waits for, on a busy machine, is no measure
            for _ in loader:
                time.sleep(0.2)
        assert loader.stats().epoch.bound == "training"


@pytest.mark.parametrize(
    ("stage", "word", "bottleneck"),
    [
        ("read", "reading", "reading"),
        ("decode", "decoding", "JPEG decoding"),
        ("copy", "copying", "copying to the device"),
    ],
)
def test_one_line_says_what_bounds(stage: str, word: str, bottleneck: str) -> None:
    meter = Meter()
    meter.begin()
    meter.handed(Cost(nbytes=5_000_000, skipped=3, **{f"{stage}_s": 2.0}), 200, 3.0, 1.0)
    meter.ended(1.0)
    line = str(meter.stats())
    assert "\n" not in line
    assert line.startswith(
        f"Bottleneck: {bottleneck}, 40 images/s. 200 images (3 skipped), 5 MB in 5.0 s, of which 60.0% "
    )
    assert f"{word} 2.0 s" in line


def test_one_image() -> None:
    """And a caller that never waits: its own work is the bottleneck."""
    meter = Meter()
    meter.begin()
    meter.handed(Cost(), 1, 0.0, 1.0)
    assert str(meter.stats("dali, gpu")) == (
        "Bottleneck: your training, 1 images/s. 1 image, 0 MB in 1.0 s, of which 0.0% was spent waiting for data "
        "(reading 0.0 s, decoding 0.0 s, copying 0.0 s). Decoder: dali, gpu."
    )


def test_tallies_add_up() -> None:
    one, other = Tally(batches=1, images=2, read_s=0.5), Tally(batches=3, images=4, wait_s=1.5)
    assert one + other == Tally(batches=4, images=6, read_s=0.5, wait_s=1.5)
