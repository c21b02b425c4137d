"""What goes to a package index: whole distributions, and metadata that mean there what they mean in a checkout."""

from __future__ import annotations

import configparser
import email
import re
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message

import pytest

from tests.conftest import ROOT
from tests.support import dists

pytest.importorskip("build", reason="build is not installed")


@dataclass(frozen=True)
class Built:
    """The distributions of this checkout."""

    checkout: frozenset[str]  #: its files, relative to it
    sdist: set[str]  #: of the source distribution, relative to its folder
    wheel: set[str]
    metadata: Message  #: of the wheel

    @property
    def description(self) -> str:
        return str(self.metadata.get_payload())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    files, folder = dists.tracked(), tmp_path_factory.mktemp("dist")
    dists.build(files, folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as tar:
        packed = {member.name.partition("/")[2] for member in tar if member.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Built(files, packed, set(archive.namelist()), email.message_from_bytes(archive.read(metadata)))


def test_the_sdist_holds_the_checkout(built: Built) -> None:
    """So the tests, with all that they read, can be run from it."""
    assert {"tests/conftest.py", "tests/data/recipe_hashes.json", "Makefile", "constraints.txt"} <= built.checkout
    added = {name for name in built.sdist if not name.startswith("wdsremux.egg-info/")} - {"PKG-INFO"}
    assert added == built.checkout


def test_the_wheel_holds_the_package_alone(built: Built) -> None:
    package = {name for name in built.checkout if name.startswith("wdsremux/")}
    assert "wdsremux/py.typed" in package
    assert {name for name in built.wheel if ".dist-info/" not in name} == package
    assert any(name.endswith("/licenses/LICENSE") for name in built.wheel)


def test_metadata(built: Built) -> None:
    assert built.metadata["Author"] == built.metadata["Maintainer"] == "The wdsremux authors"
    assert built.metadata["License-Expression"] == "Apache-2.0"
    assert built.metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in built.metadata.get_all("Classifier", [])
    assert {"dali", "examples", "notebook", "sample", "dev"} <= set(built.metadata.get_all("Provides-Extra", []))


def test_the_description_needs_no_checkout(built: Built) -> None:
    """Its first words are the title, and every picture and link has an address of its own."""
    assert built.description.startswith("# wdsremux\n")
    assert "```python\n" in built.description
    for address in re.findall(r"\]\(([^)]*)\)", re.sub(r"`[^`]*`", "", built.description)):
        assert address.startswith(("https://", "#")), address


def test_commands_that_install_an_extra_name_one_that_there_is() -> None:
    """In the README, and in errors, which all take their command from one place."""
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = set(setup["options.extras_require"])
    sources = [path.read_text() for path in (ROOT / "wdsremux").rglob("*.py")]
    assert sum(text.count("pip install") for text in sources) == 1
    named = {name for text in sources for name in re.findall(r"""install_command\(["'](.+?)["']\)""", text)}
    shown = set(re.findall(r'pip install "\.\[(.+?)\]"', (ROOT / "README.md").read_text()))
    assert {"dali", "torchcodec"} <= named <= extras
    assert {"dali", "examples", "ray", "torchcodec"} <= shown <= extras
