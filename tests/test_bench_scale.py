"""The benchmark of scale: it runs at a tiny size, ends what takes too much, and writes its table."""

from __future__ import annotations

import sys
from pathlib import Path

import bench_scale
import pytest
from bench_scale import BEGIN, CHAINS, END, STEPS, Bounds, Cost

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")


@pytest.mark.system
def test_every_step_is_measured_and_written_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    monkeypatch.setattr(
        "sys.argv", ["bench_scale.py", str(tmp_path / "sets"), "--sizes", "20000:10", "--page", str(page)]
    )
    bench_scale.main()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert all(f"| {words} |" in text for words in STEPS.values())
    assert "over" not in text
    assert "not measured" not in text
    assert not list((tmp_path / "sets").iterdir())


@pytest.mark.system
def test_a_step_that_takes_too_much_is_ended(tmp_path: Path) -> None:
    found = bench_scale.measured("plan", 3_000_000, 10, tmp_path, Bounds(60.0, 1e6))
    assert str(found["plan"]) == "over 0 GB"
    assert "save" not in found
    found = bench_scale.measured("plan", 3_000_000, 10, tmp_path, Bounds(0.02, 6e9))
    assert str(found["plan"]) == "over 0 s"


def test_steps_and_chains_name_the_same() -> None:
    assert sorted(STEPS) == sorted(name for names in CHAINS.values() for name in names)


def test_costs_are_told_with_their_units() -> None:
    costs = [Cost(0.00064, 100), Cost(1.5, 2_000_000), Cost(61.2, 3_000_000_000)]
    assert [str(cost) for cost in costs] == ["0.64 ms, under 1 MB", "1.50 s, 2 MB", "61 s, 3,000 MB"]
