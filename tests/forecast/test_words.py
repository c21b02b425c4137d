"""What a plan recommends, and how it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wdsremux.conversion.spec import make_spec
from wdsremux.forecast.advice import advise
from wdsremux.forecast.choices import choices
from wdsremux.forecast.findings import Asked, Costs, Looked, Outlook, Today
from wdsremux.forecast.interval import Interval
from wdsremux.forecast.wording import brief, bytes_text, rounded, time_text


def names(short_side: int, jpegs: float = 1.0, **options: Any) -> list[str]:
    return [each.name for each in choices(make_spec("photos", "out", **options), short_side, jpegs)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (names(600), ["resize:256", "resize:224", "resize:320", "fast", "quality 80", "copy", "container parquet"]),
        (names(300), ["resize:256", "resize:224", "fast", "quality 80", "copy", "container parquet"]),
        (names(28, 0.0), ["resize:256", "resize:28", "quality 80", "container parquet"]),
        (names(28, 0.0, recipe="resize:28"), ["resize:28", "quality 80", "container parquet"]),
        (names(600, fast=True)[:4], ["resize:256, fast", "resize:224", "resize:320", "not fast"]),
        (names(600, recipe="square:64", quality=70)[:3], ["square:64, quality 70", "square:48", "square:96"]),
        (names(600, recipe="copy", container="parquet"), ["copy, container parquet", "container tar"]),
        (names(600, 0.9, recipe="copy"), ["copy", "quality 80", "container parquet"]),
        (names(600, recipe="mine.py:half"), ["mine.py:half", "quality 80", "container parquet"]),
        (names(600, recipe=lambda batch: batch)[1:], ["quality 80", "container parquet"]),
    ],
)  # fmt: skip
def test_what_is_worth_knowing(found: list[str], expected: list[str]) -> None:
    assert found == expected


def test_a_choice_is_a_conversion(tmp_path: Path) -> None:
    """Each can be asked for: no option of one contradicts another of what was asked for."""
    for asked in ({}, {"fast": True}, {"restart_rows": True}, {"recipe": "copy"}, {"recipe": "mine.py:half"}):
        options: dict[str, Any] = asked
        spec = make_spec("photos", tmp_path, **options)
        first, *others = choices(spec, 600, 0.6)
        assert not first.changes
        assert all(make_spec("photos", tmp_path, **{**options, **each.changes}) != spec for each in others)


def about(value: float) -> Interval:
    return Interval(value, 0.9 * value, 1.1 * value)


def outlook(name: str, gigabytes: float, images_per_s: float, short_side: int = 256, **changes: Any) -> Outlook:
    return Outlook(
        name=name,
        changes=changes,
        samples=Interval.exact(100_000),
        rejects=Interval(0, 0, 9),
        reasons={},
        short_side=short_side,
        size_bytes=about(gigabytes * 1e9),
        seconds=about(200),
        loader_images_per_s=about(images_per_s),
        decoder="torchvision, cpu",
        psnr_db=about(40),
    )


LOOKED = Looked(
    name="photos", split="train", splits=("train",), splits_how="", remote=False, rows=Interval.exact(100_000),
    fragments=9, size_bytes=10**10, rows_looked_at=400, places=400, bytes_looked_at=10**7, image_column="image",
    image_how="", label_column=None, label_how="", classes=None, classes_seen=0, unlabelled=Interval.exact(100_000),
    formats={"JPEG": 1.0}, width=(300, 500, 900), height=(200, 400, 900), image_bytes=about(10**5),
    warnings=(), notes=(),
)  # fmt: skip
COSTS = Costs(
    looked=LOOKED,
    asked=Asked(workers=2, engine="local", train_images_per_s=None, epochs=None),
    today=Today(about(500), 0.7, 2),
    network_images_per_s=None,
    size=224,
    expected=(
        outlook("resize:256", 1.5, 3_000),
        outlook("resize:224", 1.2, 3_600, recipe="resize:224"),
        outlook("quality 80", 1.1, 3_300, quality=80),
        outlook("container parquet", 1.4, 9_000, container="parquet"),
        outlook("copy", 10, 700, recipe="copy"),
    ),
)


def costs(speed: float | None = None, epochs: int | None = None, **others: Any) -> Costs:
    return replace(COSTS, asked=replace(COSTS.asked, train_images_per_s=speed, epochs=epochs), **others)


@pytest.mark.parametrize(
    ("given", "bound", "choice"),
    [
        (costs(), "decoding", "resize:256"),
        (costs(today=Today(about(500), 0.3, 2)), "augmentation", "resize:256"),
        (costs(network_images_per_s=60.0), "network", "resize:256"),
        (costs(100), "model", "resize:256"),
        (costs(2_500), "decoding", "resize:256"),
        (costs(3_550), "decoding", "resize:224"),  # and not the container, which makes no other images
        (costs(9_000), "decoding", "resize:224"),
        (costs(today=None), "decoding", "resize:256"),
    ],
)
def test_what_to_choose(given: Costs, bound: str, choice: str) -> None:
    found = advise(given)
    assert (found.bound, found.choice) == (bound, choice)
    assert all(sentence.endswith(".") and "  " not in sentence for sentence in found.sentences)


def test_images_are_not_to_be_enlarged() -> None:
    small = replace(LOOKED, width=(28, 28, 28), height=(28, 28, 28))
    own = outlook("resize:28", 0.2, 9_000, 28, recipe="resize:28")
    found = advise(costs(looked=small, expected=(COSTS.expected[0], own)))
    assert found.choice == "resize:28"
    assert "resize:256, which was asked for, enlarges most images" in found.sentences[1]
    assert advise(costs(looked=small, expected=(own,))).choice == "resize:28"


def test_when_it_has_paid_for_itself() -> None:
    """100,000 images: 200 s at 500 images/s, 50 s at 2,000. The conversion takes 200 s, and an epoch saves 150."""
    found = advise(costs(2_000, 10))
    assert found.epochs_to_pay == pytest.approx(200 / 150)
    assert found.sentences[-1] == (
        "An epoch takes 3.3 min now and 50 s after it: the conversion has paid for itself after 2 epochs. 10 epochs: "
        "33 min without it, 11.7 min with it."
    )
    assert "waits 75% of its time" in found.sentences[0]
    assert found.sentences[1].endswith("The model will not wait for data.")


def test_when_it_does_not_help() -> None:
    slow = advise(costs(100, 10))
    assert slow.epochs_to_pay is None
    assert slow.sentences[-1] == "The model is the slowest part already: converting will not make training faster."
    quick = advise(costs(today=Today(about(5_000), 0.7, 64)))
    assert quick.epochs_to_pay is None
    assert quick.sentences[-1] == "Converting will not make training faster on this machine."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rounded(1_234_567), "1,230,000"),
        (rounded(0.0123), "0.0123"),
        (rounded(0.56789), "0.57"),
        (rounded(0), "0"),
        (rounded(float("inf")), "unknown"),
        (bytes_text(Interval(1.98e9, 1.834e9, 2.1e9)), "1.98 GB (1.83 to 2.10)"),
        (bytes_text(Interval.exact(999)), "1,000 bytes"),
        (bytes_text(23e6), "23 MB"),
        (time_text(Interval(7_200, 7_000, 7_400)), "2.0 h (1.9 to 2.1)"),
        (time_text(0.5), "0.50 s"),
        (brief(bytes_text, Interval(2e9, 1.9e9, 2.2e9)), "2.0 GB ±10%"),
        (brief(bytes_text, Interval(2e9, 1.999e9, 2.001e9)), "2.0 GB"),
        (brief(rounded, Interval(0, 0, 0)), "0"),
    ],
)
def test_figures(text: str, expected: str) -> None:
    assert text == expected
