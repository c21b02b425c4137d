"""Folders of files, and what a conversion finds in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import tiny_jpeg
from wdsremux.conversion.source import retry
from wdsremux.conversion.source.base import Opened, Survey
from wdsremux.conversion.source.finding import listing
from wdsremux.conversion.source.kinds.images import image_survey as images
from wdsremux.errors import SourceError

FAULTS = retry.Faults((OSError,))


def write(root: Path, names: Iterable[str]) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"---\nlicense: mit\n---\n" if name == "README.md" else tiny_jpeg(number))
    return root


def found(folder: Path, split: str = "train") -> Opened:
    opened = listing.find(str(folder), folder, split)
    assert opened is not None
    return opened


def surveyed(folder: Path, split: str = "train") -> Survey:
    return images.survey(found(folder, split), FAULTS)


def labels(survey: Survey) -> list[int | None]:
    return [label for _, values in survey.reader.values("label") for label in values.to_pylist()]


def refused(folder: Path, split: str = "train") -> str:
    with pytest.raises(SourceError) as caught:
        surveyed(folder, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)
