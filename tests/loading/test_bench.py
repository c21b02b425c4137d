"""`wdsremux bench`: real loaders, each way tried, and what is advised by what was seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ConvertTiny, needs
from wdsremux import cli
from wdsremux.errors import FormatError
from wdsremux.loading.backends import CPU, GPU
from wdsremux.loading.bench import Outcome, Way, advice, measure, ways

FLOAT = Way("torchvision", CPU, torch.float32, torch.contiguous_format)
LAST = Way("torchvision", CPU, torch.float32, torch.channels_last)
BYTES = Way("torchvision", CPU, torch.uint8, torch.channels_last)


def outcome(way: Way, images_per_s: float, *, read: float = 0.1, copy: float = 0.0) -> Outcome:
    return Outcome(way=way, images_per_s=images_per_s, read=read, decode=1 - read - copy, copy=copy)


def test_every_way_works_here(converted: Path, backend: str) -> None:
    mine = [way for way in ways() if way.backend == backend]
    assert {(way.dtype, way.memory_format) for way in mine} == {
        (torch.float32, torch.contiguous_format),
        (torch.float32, torch.channels_last),
        (torch.uint8, torch.channels_last),
    }
    for way in mine:
        seen = measure(converted, "test", way, batch_size=16, size=64, seconds=0.1)
        assert seen.failure is None
        assert seen.images_per_s > 0
        assert 0 < seen.first_s < 60
        assert seen.read + seen.decode + seen.copy == pytest.approx(1)


def test_a_set_smaller_than_a_batch(convert_tiny: ConvertTiny) -> None:
    assert measure(convert_tiny(3), "train", FLOAT, batch_size=256, size=8, seconds=0.05).images_per_s > 0


def test_a_set_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"contains no finished split: index\.json is missing"):
        measure(tmp_path, "train", FLOAT)


def test_a_way_that_does_not_work_says_why(converted: Path) -> None:
    """A backend that is lost meanwhile, as by an `nvidia.dali` that cannot be loaded."""
    needs("nvidia.dali", "DALI")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("dali", "dali_pipelines"):
            patch.delitem(sys.modules, f"wdsremux.loading.backends.{module}", raising=False)
        patch.setitem(sys.modules, "nvidia.dali", None)
        seen = measure(converted, "test", Way("dali", CPU, torch.uint8, torch.channels_last), batch_size=4)
    assert seen.failure is not None
    assert "dali" in seen.failure.lower()


def test_advice_names_the_quickest() -> None:
    said = advice([outcome(FLOAT, 900), outcome(LAST, 1_000), Outcome(way=BYTES, failure="no")])
    assert said[0] == f"Fastest: {LAST.arguments} (1,000 images/s)."
    assert said[1].startswith("Bottleneck: JPEG decoding, 1,000 images/s on ")
    assert len(said) == 2


def test_advice_tells_floats_from_bytes() -> None:
    said = advice([outcome(FLOAT, 900), outcome(BYTES, 1_000)])
    assert said[:2] == [
        f"Fastest with normalized floats: {FLOAT.arguments} (900 images/s).",
        f"Fastest of all, if your own code normalizes: {BYTES.arguments} (1,000 images/s).",
    ]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (outcome(LAST, 9, read=0.9), "Bottleneck: reading."),
        (outcome(LAST, 9, copy=0.8), "Bottleneck: copying to the device. "),
        (
            Outcome(way=Way("dali", GPU, torch.uint8, torch.channels_last), images_per_s=1_200, decode=1),
            "Bottleneck: JPEG decoding, 1,200 images/s on the GPU.",
        ),
    ],
)
def test_advice_says_what_bounds_it(seen: Outcome, words: str) -> None:
    assert advice([seen])[-1].startswith(words)


def test_advice_where_nothing_works() -> None:
    assert advice([Outcome(way=FLOAT, failure="no")]) == [
        "No backend works on this machine. The reasons are listed above."
    ]


def test_the_command(converted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wdsremux", "bench", str(converted), "--split", "test", "--seconds", "0.05"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert "images/s" in printed
    for way in ways():
        assert way.backend in printed
    assert "Fastest" in printed
