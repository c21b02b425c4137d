"""Everything about the package is in setup.cfg, except for its description on a package index: that is the README
without what only works in a checkout, namely `make`, and pictures and links that are relative to it."""

from __future__ import annotations

import re
from pathlib import Path

import setuptools  # type: ignore[import-untyped]

TITLE = "# wdsremux\n"  #: what stands above it is for a checkout
RELATIVE = r"\((?!https?://|#)[^)]*\)"  #: where a picture or a link leads
PICTURE = re.compile(rf"^!\[[^]]*\]{RELATIVE}\n+", re.MULTILINE)
LINK = re.compile(rf"\[([^]]*)\]{RELATIVE}")


def description(readme: str) -> str:
    """The README for a package index: relative pictures are left out, and of a relative link the words remain."""
    return LINK.sub(r"\1", PICTURE.sub("", readme[readme.index(TITLE) :]))


setuptools.setup(long_description=description(Path(__file__).with_name("README.md").read_text(encoding="utf-8")))
