"""What is printed of a set and of a trial: in words that a person can use, and no wider than a terminal."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import pytest
import torch
from rich.console import Console

from wdsremux import reports
from wdsremux.format.underway import Underway
from wdsremux.inspection.info import ClassCount, SplitInfo
from wdsremux.inspection.verify import Checked
from wdsremux.loading.backends import CPU, GPU
from wdsremux.loading.bench import Outcome, Way


def split(classes: int, **changes: Any) -> SplitInfo:
    values: dict[str, Any] = {
        "split": "train",
        "source": {"name": "flowers", "kind": "parquet", "revision": "ab"},
        "recipe": {"name": "copy"},
        "options": {"quality": 90, "subsampling": "420"},
        "seed": 0,
        "nsamples": 3,
        "nrejects": 0,
        "ndropped": 0,
        "nshards": 1,
        "size_bytes": 5_000_000,
        "labels": [ClassCount(label, f"class {label}", 7) for label in range(classes)],
        "environment": {"torch": "2.11", "wdsremux": "0.2"},
        "worst_mixing": 12.4,
        "well_mixed": None,
    }
    return SplitInfo(**values | changes)


def test_of_many_classes_the_first_and_the_last_are_listed() -> None:
    lines = reports.info_text(split(1_000)).splitlines()
    assert "classes   1,000" in lines
    listed = [line for line in lines if " class " in line]
    assert [line.split()[0] for line in listed] == [*map(str, range(10)), *map(str, range(990, 1_000))]
    assert "          … 980 more; --json or --verbose lists them all" in lines
    assert sum(" class " in line for line in reports.info_text(split(1_000), verbose=True).splitlines()) == 1_000
    assert sum(" class " in line for line in reports.info_text(split(21)).splitlines()) == 21


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"well_mixed": True},
            "mixing    well shuffled: each shard has about the same share of each class as the whole split",
        ),
        (
            {"well_mixed": False},
            'mixing    poorly shuffled: one shard has 12 times the average share of a class; use window="all" to train',
        ),
        ({"well_mixed": False, "worst_mixing": 1.44}, "one shard has 1.4 times the average share"),
        ({"labels": [ClassCount(-1, None, 10)]}, "labels    none"),
        ({"nshards": 1}, "samples   3 in 1 shard, 5.0 MB"),
    ],
)
def test_words(changes: dict[str, Any], words: str) -> None:
    assert words in reports.info_text(split(3, **changes))


def test_what_is_too_small_to_tell_is_not_told() -> None:
    assert "mixing" not in reports.info_text(split(3))
    flat = reports.info_text(split(0, labels=[ClassCount(-1, None, 10)]))
    assert "classes" not in flat
    assert "-1" not in flat


def test_versions_are_told_if_asked_for() -> None:
    assert "torch" not in reports.info_text(split(3))
    assert reports.info_text(split(3), verbose=True).endswith("\nmade with torch 2.11, wdsremux 0.2")


def test_an_unfinished_split() -> None:
    assert reports.underway_text(Underway("va\nlid", 30_000, 8_000, 15, 4)) == (
        "split     va\\nlid\n"
        "state     unfinished: 8,000 of 30,000 rows done in 4 of 15 tasks; run the same conversion again to resume"
    )


def test_what_was_checked() -> None:
    assert (
        reports.checked_text(Checked([], 2, 30, 66, 320_500_000)) == "2 splits, 30 shards, 66 files, 320.5 MB checked"
    )


WAYS = [
    Way(backend, decode, dtype, memory_format)
    for backend in ("torchvision", "dali")
    for decode in (CPU, GPU)
    for dtype, memory_format in (
        (torch.float32, torch.contiguous_format),
        (torch.float32, torch.channels_last),
        (torch.uint8, torch.channels_last),
    )
]


def test_the_table_of_a_trial_fits_80_columns() -> None:
    """And no word of it is cut."""
    outcomes = [
        Outcome(way=way, images_per_s=12_345.6, decoder=way.decoder, first_s=123.4, read=1, decode=1, copy=1)
        for way in WAYS
    ]
    outcomes.append(Outcome(way=WAYS[-1], failure="no such library"))
    console = Console(file=io.StringIO(), width=80)
    console.print(reports.outcomes_table("places (train)", outcomes))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2 + len(outcomes)
    assert max(map(len, lines)) <= 80
    assert "…" not in console.file.getvalue()
    for way, line in zip(WAYS, lines[2:], strict=False):
        assert line.startswith(way.decoder)
        assert all(word in line for word in (way.pixels, "12,346", "100%", "123.4 s"))
    assert reports.failures(outcomes) == ["dali, gpu, uint8 channels_last: no such library"]


def test_outcomes_for_programs() -> None:
    (found,) = json.loads(json.dumps(reports.outcomes_json([Outcome(way=WAYS[0], images_per_s=3.5)])))
    assert found["way"] == {
        "backend": "torchvision",
        "decode": "cpu",
        "dtype": "float32",
        "memory_format": "contiguous_format",
    }
    assert found["images_per_s"] == 3.5
    assert set(found) == {field.name for field in dataclasses.fields(Outcome)}
