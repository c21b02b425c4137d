"""The page of benchmarks: what they found, under the names that people know."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bench_readme
import pytest


def spread(median: float) -> dict[str, float]:
    return {"median": median, "low": median - 1, "high": median + 1}


def converter(images_per_s: float) -> dict[str, Any]:
    return {
        "images_per_s": spread(images_per_s),
        "marginal_images_per_s": spread(2 * images_per_s),
        "cpu_ms": spread(2.5),
        "peak_pss_bytes": 901_000_000,
        "bytes_an_image": 19_000.0,
        "psnr_db": 42.587,
    }


HEADER = {
    "date": "2026-11-26T07:00:00Z",
    "machine": {"cpu": "Some CPU", "cores": 2, "system": "Linux"},
    "versions": {"python": "3.11.7", "torch": "2.14.1"},
    "peers": {"torch": "2.14.1", "litdata": "0.2.76"},
}
CONVERT = {
    **HEADER,
    "settings": {"rounds": 5, "peer_rounds": 3, "few": 60},
    "sizes": {
        "small": {
            "images": 3_000,
            "converters": {"map+codec": converter(500), "wdsremux": converter(614)},
            "limits": {"codec": {"cpu_ms": spread(1.8)}, "entropy": {"cpu_ms": spread(0.5)}},
        }
    },
}
LOAD = {
    **HEADER,
    "settings": {"rounds": 5, "batch": 256, "size": 224, "images": 2_560},
    "contenders": {
        "peer-webdataset-v2": {"images_per_s": spread(1_063), "first_epoch_images_per_s": spread(700)},
        "auto-float-cl": {
            "images_per_s": spread(3_376),
            "first_epoch_images_per_s": spread(2_900),
            "first_batch_s": spread(0.256),
            "peak_pss_bytes": 1_018_000_000,
        },
    },
    "cold": {"auto-float-cl": {"first_epoch_images_per_s": spread(2_000)}},
    "store": {},
    "large": {"auto-float-cl": {"images_per_s": spread(3_000), "first_epoch_images_per_s": spread(9)}},
}


@pytest.fixture
def found(tmp_path: Path) -> list[str]:
    """The command line of what was found, and of a page."""
    (tmp_path / "convert.json").write_text(json.dumps(CONVERT))
    (tmp_path / "load.json").write_text(json.dumps(LOAD))
    return [str(tmp_path / name) for name in ("convert.json", "load.json", "benchmarks.md")]


def test_tables(found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(found[-1])
    page.write_text(f"before\n{bench_readme.BEGIN}\nof another day\n{bench_readme.END}\nafter\n")
    drawn: list[Path] = []
    monkeypatch.setattr(bench_readme, "draw", lambda convert, load, picture: drawn.append(picture))
    monkeypatch.setattr(sys, "argv", ["bench_readme.py", *found])
    bench_readme.main()
    text = page.read_text()
    assert text.startswith(f"before\n{bench_readme.BEGIN}\n")
    assert text.endswith(f"{bench_readme.END}\nafter\n")
    assert "of another day" not in text
    assert "| **`wdsremux convert`**, 2 workers | 614 | 1,228 | 2.50 | 901 | 19.0 | 42.59 |\n" in text
    assert text.index("`wdsremux convert`**, 2") < text.index("`save_to_disk`, with our codec | 500")
    assert "| entropy decoding alone |  |  | 0.50 |  |  |  |" in text
    assert "| **`wdsremux.DataLoader`**, float channels_last | 3,376 | 2,900 | 0.26 | 1,018 |\n" in text
    assert text.index("| 3,376 |") < text.index("| webdataset, torchvision v2 | 1,063 | 700 |  |  |")
    assert "| cold page cache | **`wdsremux.DataLoader`**, float channels_last | 2,000 |" in text
    assert "| photographs of 1,500-3,000 px | **`wdsremux.DataLoader`**, float channels_last | 3,000 |" in text
    assert "Measured 2026-11-26 on two cores of a machine with Some CPU" in text
    assert "torch 2.14.1, litdata 0.2.76." in text
    assert drawn == [page.parent / "speed.svg"]


def test_a_page_without_a_place(found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path(found[-1]).write_text("nothing here\n")
    monkeypatch.setattr(sys, "argv", ["bench_readme.py", *found])
    with pytest.raises(SystemExit, match="has no place for the table"):
        bench_readme.main()
    assert Path(found[-1]).read_text() == "nothing here\n"


def test_every_contender_has_words() -> None:
    import bench_contenders
    import bench_convert
    import bench_converters

    for name in [*bench_contenders.CONTENDERS, *bench_convert.OURS, *bench_converters.PEERS]:
        assert name.partition("+")[0] in bench_readme.WORDS
    assert set(bench_readme.PICTURED) <= set(bench_readme.WORDS)
