"""The distributions of this checkout, and an environment that has its wheel installed and knows no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

#: What a wheel is made of, beside the package.
SETTINGS = frozenset({"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg", "setup.py"})


def tracked() -> frozenset[str]:
    """The files of the checkout, relative to it."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: what belongs to it is not known")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return frozenset(name for name in listed.split("\0") if (ROOT / name).is_file())


def of_package() -> frozenset[str]:
    """The files that a wheel is made of; known without git, too."""
    modules = (path for path in (ROOT / "wdsremux").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return SETTINGS | {path.relative_to(ROOT).as_posix() for path in modules}


def build(files: Iterable[str], folder: Path, *options: str) -> None:
    """Write distributions of these files into a folder: by default both, with "--wheel" that one.

    Made from a copy, as a build leaves files beside its sources, and with the setuptools that is installed here.
    """
    checkout = folder / "checkout"
    for name in files:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)
    _run(sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", folder, checkout, folder=folder)


@dataclass(frozen=True)
class Environment:
    """A virtual environment in which a wheel is installed."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    @property
    def packages(self) -> Path:
        """Where pip installed it."""
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder)}))

    def variables(self) -> dict[str, str]:
        """Of a process in it, as `activate` sets them; nothing leads it to the checkout."""
        passed = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return passed | {"VIRTUAL_ENV": str(self.folder), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}


def install(wheel: Path, folder: Path) -> Environment:
    """An environment in that folder, which takes all but the wheel from the one that runs.

    A folder that is named in a .pth file is searched, but its own .pth files are not read: so a package that is
    installed here in editable mode is not found.
    """
    made = Environment(folder)
    _run(sys.executable, "-m", "venv", "--without-pip", folder, folder=wheel.parent)
    pip = (sys.executable, "-m", "pip", "--python", made.python, "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=wheel.parent)
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (made.packages / "dependencies.pth").write_text("".join(f"{place}\n" for place in sorted(places)))
    return made


def _run(*command: str | Path, folder: Path) -> None:
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
