"""The house: imports run one way, conversion and loading do not know each other, and importing the package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wdsremux

PACKAGE = Path(wdsremux.__file__).parent
COMMON = {"wdsremux.errors", "wdsremux.files", "wdsremux.rng", "wdsremux.codec", "wdsremux.format"}
#: What may import what, by the longest prefix; anything may import itself. `__init__` and `api` are the front door.
ALLOWED: dict[str, set[str]] = {
    "wdsremux.errors": set(),
    "wdsremux.rng": set(),
    "wdsremux.files": {"wdsremux.errors"},
    "wdsremux.codec": {"wdsremux.errors"},
    "wdsremux.format": {"wdsremux.errors"},
    "wdsremux.conversion.source": COMMON,
    "wdsremux.conversion.plan": {"wdsremux.rng"},
    "wdsremux.conversion.recipe": COMMON | {"wdsremux.conversion.source"},
    "wdsremux.conversion": COMMON | {"wdsremux.conversion"},
    "wdsremux.loading.order": {"wdsremux.errors", "wdsremux.rng"},
    "wdsremux.loading.augment": {"wdsremux.errors", "wdsremux.rng", "wdsremux.loading.order"},
    "wdsremux.loading.world": {"wdsremux.errors"},
    "wdsremux.loading.buffers": set(),
    "wdsremux.loading": COMMON | {"wdsremux.loading"},
    "wdsremux.display": {"wdsremux.conversion"},
    "wdsremux.api": {"wdsremux.conversion", "wdsremux.format", "wdsremux.display"},
    "wdsremux.cli": {"wdsremux.api", "wdsremux.display", "wdsremux.errors", "wdsremux.conversion.report"},
    "wdsremux.__main__": {"wdsremux.cli"},
    "wdsremux": {"wdsremux.api", "wdsremux.loading"},
}


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return {name for name in found if name.split(".")[0] == "wdsremux"}


def _inside(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    room = max((name for name in ALLOWED if _inside(module, name)), key=len)
    if room == "wdsremux" and module != "wdsremux":
        pytest.fail(f"{module} has no room in ALLOWED")
    for imported in _imports(MODULES[module]) - {"wdsremux"}:
        allowed = any(_inside(imported, name) for name in ALLOWED[room] | {room})
        assert allowed, f"{module} imports {imported}"


@pytest.mark.parametrize(("half", "other"), [("conversion", "loading"), ("loading", "conversion")])
def test_the_halves_do_not_know_each_other(half: str, other: str) -> None:
    for module, path in MODULES.items():
        if _inside(module, f"wdsremux.{half}"):
            assert not any(_inside(name, f"wdsremux.{other}") for name in _imports(path)), module


def test_only_the_codec_names_image_libraries() -> None:
    for module, path in MODULES.items():
        names = {node.names[0].name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)}
        froms = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert module == "wdsremux.codec" or not {"PIL", "simplejpeg"} & (names | froms), module


def test_import_is_light() -> None:
    code = "import sys, wdsremux; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "wdsremux" in loaded
    assert not loaded & {"torch", "nvidia.dali", "datasets", "webdataset", "numpy", "pyarrow", "PIL", "typer", "rich"}


def test_public_names_are_whole() -> None:
    for name in wdsremux.__all__:
        assert getattr(wdsremux, name) is not None
    assert set(wdsremux.__all__) <= set(dir(wdsremux))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = wdsremux.nothing
