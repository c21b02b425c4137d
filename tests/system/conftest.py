"""A source of small pictures, and what a conversion makes of it where nothing goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.places import ROWS, convert, write_pictures
from tests.support.reading import check_split


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("source") / "pictures")


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    convert(source, out)
    check_split(out / "train", ROWS)
    return out
