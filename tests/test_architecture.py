"""The house: imports run one way, conversion and loading do not know each other, and importing the package is light."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import wdsremux
from wdsremux.format.containers import CONTAINERS

PACKAGE = Path(wdsremux.__file__).parent
COMMON = {
    "wdsremux.arguments",
    "wdsremux.html_table",
    "wdsremux.errors",
    "wdsremux.files",
    "wdsremux.machine",
    "wdsremux.rng",
    "wdsremux.codec",
    "wdsremux.format",
}
CONVERSION = "wdsremux.conversion"
#: The converter's modules, each with what it may import of the others: the way of the data, and nothing points back.
STAGES: dict[str, set[str]] = {
    "overlap": set(),
    "convert_options": set(),
    "environment": set(),
    "plan": set(),
    "record": set(),
    "events": {"plan"},
    "datasets_quirks": set(),
    "source": {"datasets_quirks"},
    "recipes": {"source"},
    "portions": {"plan"},
    "spool": {"recipes"},
    "shard_writer": {"plan", "spool"},
    "prefetch": {"source"},
    "row_stream": {"prefetch", "source", "plan", "portions"},
    "bake": {"record", "source", "recipes", "row_stream", "spool", "shard_writer", "plan", "portions", "events"},
    "gather": {"bake", "row_stream", "spool", "plan", "portions", "events"},
    "engines": {"bake", "gather", "row_stream", "plan", "portions", "events", "environment"},
    "spec": {"convert_options", "source", "recipes", "plan", "engines"},
    "reject_count": {"spec", "events", "journal", "plan"},
    "space": {"source", "plan", "portions", "events"},
    "request": {"convert_options"},
    "journal": {"record", "request", "plan", "environment", "source"},
    "folder": {"journal"},
    "classes": {"folder", "journal", "source"},
    "situation": {"folder", "presence"},
    "run": {
        "spec",
        "spool",
        "portions",
        "engines",
        "bake",
        "plan",
        "events",
        "environment",
        "journal",
        "request",
        "repair",
        "source",
        "recipes",
        "space",
        "reject_count",
    },
    "repair": {"record", "plan", "presence"},
    "presence": set(),
    "asked": {"convert_options", "events", "presence", "recipes"},
}
INSPECTION = "wdsremux.inspection"
LOADING = "wdsremux.loading"
#: The loader's, likewise.
LOADER: dict[str, set[str]] = {
    "world": set(),
    "device": set(),
    "output": set(),
    "stats": set(),
    "signature": set(),
    "accelerate_loop": set(),
    "facade": {"reader"},
    "order": set(),
    "state": set(),
    "buffers": {"output"},
    "reader": {"order"},
    "cautions": {"order", "reader"},
    "augment": {"order"},
    "transforms": {"augment", "output"},
    "backends": {"reader", "augment", "transforms", "output", "device", "buffers"},
    "options": {"augment", "backends", "device", "world", "output"},
    "feed": {"order", "reader", "augment", "backends", "device", "stats"},
    "session": {"options", "order", "reader", "augment", "backends", "device", "world", "feed"},
    "loader": {
        "session",
        "world",
        "feed",
        "options",
        "order",
        "output",
        "reader",
        "augment",
        "facade",
        "signature",
        "accelerate_loop",
        "state",
        "stats",
        "cautions",
    },
    "bench": {"device", "world", "backends", "loader"},
    "draws": {"augment", "backends", "device", "order", "output", "reader", "world"},
}
#: What may import what, by the longest prefix; anything may import itself. `__init__` and `api` are the front door.
ALLOWED: dict[str, set[str]] = {
    "wdsremux.errors": set(),
    "wdsremux.arguments": {"wdsremux.errors"},
    "wdsremux.rng": set(),
    "wdsremux.fine_times": set(),
    "wdsremux.html_table": set(),
    "wdsremux.machine": set(),
    "wdsremux.files": {"wdsremux.errors"},
    "wdsremux.codec": {"wdsremux.arguments", "wdsremux.errors"},
    "wdsremux.format": {"wdsremux.errors", "wdsremux.html_table"},
    "wdsremux.format.containers": {"wdsremux.errors", "wdsremux.files", "wdsremux.fine_times", "wdsremux.format"},
    "wdsremux.format.card": {"wdsremux.errors", "wdsremux.files", "wdsremux.format"},
    INSPECTION: COMMON,
    **{f"{CONVERSION}.{stage}": COMMON | {f"{CONVERSION}.{name}" for name in below} for stage, below in STAGES.items()},
    f"{CONVERSION}.plan": {"wdsremux.rng"},
    f"{CONVERSION}.source": {
        "wdsremux.arguments",
        "wdsremux.errors",
        "wdsremux.files",
        "wdsremux.fine_times",
        f"{CONVERSION}.datasets_quirks",
    },
    f"{CONVERSION}.job": COMMON | {CONVERSION},
    **{f"{LOADING}.{stage}": COMMON | {f"{LOADING}.{name}" for name in below} for stage, below in LOADER.items()},
    f"{LOADING}.order": {"wdsremux.arguments", "wdsremux.errors", "wdsremux.rng"},
    f"{LOADING}.augment": {"wdsremux.arguments", "wdsremux.errors", "wdsremux.rng", f"{LOADING}.order"},
    f"{LOADING}.transforms": {f"{LOADING}.augment", f"{LOADING}.output"},
    f"{LOADING}.backends.restart_rows": {"wdsremux.codec", f"{LOADING}.reader"},
    f"{LOADING}.backends.scratch": {"wdsremux.codec"},
    "wdsremux.terminal": {"wdsremux.errors"},
    "wdsremux.stopping": {"wdsremux.errors"},
    "wdsremux.display": {f"{CONVERSION}.events", "wdsremux.errors", "wdsremux.format", "wdsremux.terminal"},
    "wdsremux.python_names": {"wdsremux.errors", f"{CONVERSION}.convert_options"},
    "wdsremux.forecast": COMMON | {CONVERSION, f"{LOADING}.bench", f"{LOADING}.output"},
    "wdsremux.showing": COMMON | {INSPECTION, f"{LOADING}.augment", f"{LOADING}.draws"},
    "wdsremux.reports": {INSPECTION, f"{LOADING}.bench", "wdsremux.errors", "wdsremux.format"},
    "wdsremux.api": {
        CONVERSION,
        INSPECTION,
        "wdsremux.arguments",
        "wdsremux.errors",
        "wdsremux.format",
        "wdsremux.display",
        "wdsremux.python_names",
        f"{LOADING}.augment",
        "wdsremux.showing",
    },
    "wdsremux.planning": {
        CONVERSION,
        "wdsremux.arguments",
        "wdsremux.forecast",
        "wdsremux.python_names",
        "wdsremux.terminal",
    },
    "wdsremux.convert_command": {
        "wdsremux.api",
        "wdsremux.display",
        "wdsremux.errors",
        "wdsremux.stopping",
        f"{CONVERSION}.convert_options",
        f"{CONVERSION}.events",
    },
    "wdsremux.plan_command": {
        "wdsremux.planning",
        "wdsremux.convert_command",
        "wdsremux.stopping",
        "wdsremux.terminal",
        f"{CONVERSION}.convert_options",
    },
    "wdsremux.commands": {
        "wdsremux.plan_command",
        "wdsremux.convert_command",
        "wdsremux.reports",
        "wdsremux.stopping",
        "wdsremux.terminal",
        "wdsremux.errors",
        "wdsremux.format",
        INSPECTION,
        f"{LOADING}.bench",
        "wdsremux.api",
        "wdsremux.showing",
    },
    "wdsremux.cli": {"wdsremux.commands", "wdsremux.errors", "wdsremux.stopping"},
    "wdsremux.__main__": {"wdsremux.cli"},
    "wdsremux": {
        "wdsremux.api",
        "wdsremux.errors",
        "wdsremux.format",
        f"{CONVERSION}.events",
        f"{CONVERSION}.recipes",
        INSPECTION,
        "wdsremux.loading",
        "wdsremux.showing",
    },
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
    if module in (CONVERSION, INSPECTION, LOADING):
        assert not _imports(MODULES[module])
        return
    room = max((name for name in ALLOWED if _inside(module, name)), key=len)
    if room == "wdsremux" and module != "wdsremux":
        pytest.fail(f"{module} has no room in ALLOWED")
    for imported in _imports(MODULES[module]) - {"wdsremux"}:
        allowed = any(_inside(imported, name) for name in ALLOWED[room] | {room})
        assert allowed, f"{module} imports {imported}"


def test_stages_stand_in_a_line() -> None:
    """There is an order in which every stage imports only those before it."""
    assert list(TopologicalSorter(STAGES).static_order())
    assert list(TopologicalSorter(LOADER).static_order())


@pytest.mark.parametrize("kind", ["parquet", "arrow", "tars", "images"])
def test_kinds_of_source_are_named_in_their_table_only(kind: str) -> None:
    """They do not know each other, and what opens a source knows none of them."""
    room = f"{CONVERSION}.source.kinds.{kind}"
    for module, path in MODULES.items():
        if not _inside(module, room):
            assert not any(_inside(name, room) for name in _imports(path)), module


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_are_named_in_their_table_only(container: str) -> None:
    """Nothing else asks which one a set has, nor imports one."""
    plug = CONTAINERS[container].module
    for module, path in MODULES.items():
        if not _inside(module, "wdsremux.format.containers"):
            assert plug not in _imports(path), module
            compared = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Compare)]
            asked = {c.value for node in compared for c in ast.walk(node) if isinstance(c, ast.Constant)}
            assert not asked & {container}, module


def test_only_one_module_flips_switches_of_datasets() -> None:
    """Nobody else sets an attribute of it, or a variable that it reads."""
    for module, path in MODULES.items():
        if module == f"{CONVERSION}.datasets_quirks":
            continue
        text = path.read_text()
        assert not re.search(r"datasets\.(config|logging|utils)\.\w+|(en|dis)able_progress", text), module
        assert not re.search(r"[\"'](DATASETS|HF)_\w+[\"']", text), module


@pytest.mark.parametrize(("room", "other"), list(itertools.permutations([CONVERSION, INSPECTION, LOADING], 2)))
def test_the_rooms_around_the_format_do_not_know_each_other(room: str, other: str) -> None:
    for module, path in MODULES.items():
        if _inside(module, room):
            assert not any(_inside(name, other) for name in _imports(path)), module


def test_only_the_codec_names_image_libraries() -> None:
    for module, path in MODULES.items():
        names = {node.names[0].name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import)}
        froms = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert _inside(module, "wdsremux.codec") or not {"PIL", "cv2", "simplejpeg"} & (names | froms), module


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
        _ = wdsremux.nothing  # type: ignore[attr-defined]  # which mypy would call unused, if it took any name


def test_no_module_imports_itself_in_a_circle() -> None:
    """Imports inside functions and for typing alone are counted, too."""
    graph = {module: {name for name in _imports(path) if name in MODULES} for module, path in MODULES.items()}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("face", [module for module, path in MODULES.items() if path.name == "__init__.py"])
def test_the_face_of_a_package_only_re_exports(face: str) -> None:
    if face == "wdsremux":  # loads what it re-exports when it is asked for
        return
    for node in ast.parse(MODULES[face].read_text()).body:
        names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert names or text or isinstance(node, ast.ImportFrom), ast.unparse(node)


def test_no_name_of_a_file_stands_twice() -> None:
    """But that of types, `base.py`, and those of augmentations: drawn in one place, carried out in another."""
    mirrored = {path.name for path in (PACKAGE / "loading/augment").glob("*.py")}
    names = [path.name for path in MODULES.values() if path.name not in {"__init__.py", "base.py"} | mirrored]
    assert len(names) == len(set(names))


def test_no_name_of_a_class_stands_twice() -> None:
    names = [name for path in MODULES.values() for name in _class_names(path) if not name.startswith("_")]
    assert [name for name in names if names.count(name) > 1] == []


def _class_names(path: Path) -> list[str]:
    return [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


#: Where a user's options stand in full, one a line or two.
LISTINGS = {
    ("wdsremux.api", "convert"),
    ("wdsremux.convert_command", "convert"),
    ("wdsremux.loading.loader", "__init__"),
}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_one_thought_and_a_function_can_be_read_at_once(module: str) -> None:
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and (module, node.name) not in LISTINGS:
            assert (node.end_lineno or 0) - node.lineno < 50, node.name


def test_no_test_imports_a_test() -> None:
    """What several of them need stands in tests/support, or in conftest.py."""
    for path in Path(__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            assert not (module.startswith("tests.") and ".test_" in module), f"{path} imports {module}"
