"""Recipes of the user's through the whole conversion: from a file, a script, a prompt, a notebook's cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import SCRIPTS, WriteSource, jpeg
from tests.support.reading import check_split, digests, read_split

pytestmark = pytest.mark.system

ROWS = 40
PATIENCE_S = 120.0


@pytest.fixture
def source(write_source: WriteSource) -> Path:
    """Rough pictures in four row groups, labelled 0 to 39."""
    rng = np.random.default_rng(0)
    images = [jpeg(rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)) for _ in range(ROWS)]
    return write_source(images, range(ROWS), rows_a_group=10)


def run(
    *command: Any, text: str | None = None, hash_seed: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        input=text,
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def convert(source: Path, out: Path, *options: Any, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    sizes = ("--samples-per-task", 10, "--samples-per-shard", 5)
    return run(sys.executable, "-m", "wdsremux", "convert", source, out, *sizes, *options, hash_seed=hash_seed)


def done(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stderr
    return process.stderr


def recipe_of(out: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads((out / "train" / "index.json").read_text())["recipe"]
    return recipe


def test_the_forum_recipe(source: Path, tmp_path: Path) -> None:
    """The same bytes with any number of workers, and at each run; with another seed, none of the pictures."""
    outs = [tmp_path / name for name in ("one", "three", "other")]
    recipe = ("--recipe", SCRIPTS / "forum_recipe.py:bake")
    done(convert(source, outs[0], *recipe, "--workers", 1))
    done(convert(source, outs[1], *recipe, "--workers", 3, hash_seed=1))
    done(convert(source, outs[2], *recipe, "--seed", 1))
    assert digests(outs[0]) == digests(outs[1])
    check_split(outs[0] / "train", ROWS)
    one, other = (read_split(out / "train") for out in (outs[0], outs[2]))
    assert len(one) == ROWS
    assert all(
        other[key]["cls"] == content["cls"] and other[key]["jpg"] != content["jpg"] for key, content in one.items()
    )
    assert recipe_of(outs[0])["name"] == "forum_recipe.py:bake"


def test_rows_dropped_and_multiplied(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "parts.py"
    file.write_text(
        "def bake(batch):\n"
        "    rows = [row for row in batch['__row__'] for _ in range(batch['label'][row] % 3)]\n"
        "    return {'image': [batch['image'][row] for row in rows], '__row__': rows}\n"
    )
    out = tmp_path / "out"
    done(convert(source, out, "--recipe", f"{file}:bake", "--batch-size", 7))
    found = [int(content["cls"]) for content in read_split(out / "train").values()]
    assert sorted(found) == sorted(label for label in range(ROWS) for _ in range(label % 3))
    assert json.loads((out / "train" / "index.json").read_text())["ndropped"] == len(range(0, ROWS, 3))
    assert {key for key in read_split(out / "train") if key.count("-") == 2} == {
        f"{label // 10:06d}-{label % 10:06d}-1" for label in range(2, ROWS, 3)
    }


def test_an_edited_recipe_is_refused_at_a_resume(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.py"
    text = "def bake(batch):\n    return {'image': batch['image']}\n"
    file.write_text(text)
    plain, versioned = tmp_path / "plain", tmp_path / "versioned"
    done(convert(source, plain, "--recipe", f"{file}:bake"))
    done(convert(source, versioned, "--recipe", f"{file}:bake", "--recipe-version", "1"))
    file.write_text(text + "# a comment\n")
    refused = convert(source, plain, "--recipe", f"{file}:bake")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "the code of recipe recipe.py:bake, or its --recipe-version, changed since the conv" in refused.stderr
    done(convert(source, versioned, "--recipe", f"{file}:bake", "--recipe-version", "1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise KeyError('x')", r"recipe recipe.py:bake failed on rows 0 to 9 of fragment"),
        ("return 3", "returned a int. Return a dict of columns"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_recipe_that_fails_stops_the_run_in_one_sentence(
    source: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "recipe.py").write_text(f"def bake(batch):\n    {text}\n")
    failed = convert(source, tmp_path / "out", "--recipe", f"{tmp_path / 'recipe.py'}:bake")
    assert failed.returncode == 1
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    if text.startswith("raise"):
        traced = convert(source, tmp_path / "out", "--recipe", f"{tmp_path / 'recipe.py'}:bake", "--debug")
        assert "recipe.py" in traced.stderr
        assert f"    {text}" in traced.stderr


SCRIPT = """
import functools, sys
import wdsremux
from neighbour import LEVELS, turn

NAMES = {"a", "b", "c"}

def make(times, names):
    @wdsremux.recipe(images="tensor")
    def bake(batch):
        assert names == {"a", "b", "c"}
        images = [LEVELS[0] + turn(image, times) for image in batch["image"]]
        return {"image": images, "label": [label + len(names) for label in batch["label"]]}
    return bake

class Baker:
    def __init__(self, inner):
        self.inner = inner
    def __call__(self, batch):
        return self.inner(batch)

flip = lambda batch: {"image": [image.transpose(0) for image in batch["image"]]}
closure = make(1, NAMES)
recipes = {"closure": closure, "lambda": flip, "object": Baker(flip), "partial": functools.partial(Baker(flip))}
for name, recipe in recipes.items():
    wdsremux.convert(sys.argv[1], f"{sys.argv[2]}/{name}", recipe=recipe, workers=2)
"""


def test_a_script_without_a_guard(source: Path, tmp_path: Path) -> None:
    """Run twice, from two folders and with two hash seeds: the same bytes and the same hashes of recipes."""
    for number in (0, 1):
        folder = tmp_path / f"folder {number}"
        folder.mkdir()
        (folder / "script.py").write_text(SCRIPT)
        (folder / "neighbour.py").write_text(
            "LEVELS = [0]\ndef turn(image, times):\n    return image.rot90(times, (1, 2))\n"
        )
        done(run(sys.executable, folder / "script.py", source, folder / "out", hash_seed=number))
    first, second = tmp_path / "folder 0" / "out", tmp_path / "folder 1" / "out"
    names = ("closure", "lambda", "object", "partial")
    assert [digests(first / name) for name in names] == [digests(second / name) for name in names]
    identities = [recipe_of(first / name) for name in names]
    assert len({identity["sha256"] for identity in identities}) == 4
    assert [identity["name"] for identity in identities] == ["make.<locals>.bake", "<lambda>", "Baker", "Baker"]
    assert [identity["images"] for identity in identities] == ["tensor", "pil", "pil", "pil"]
    samples = read_split(first / "closure" / "train")
    assert sorted(int(content["cls"]) for content in samples.values()) == list(range(3, ROWS + 3))


TYPED = """
import wdsremux
EDGE = {{"top", "left"}}
def half(image):
    return image.resize((image.width // 2, image.height // len(EDGE)))

def bake(batch):
    return {{"image": [half(image) for image in batch["image"]]}}

manifest = wdsremux.convert({source!r}, {out!r}, recipe=bake, workers=1)
"""


def typed(source: Path, out: Path) -> str:
    return TYPED.format(source=str(source), out=str(out))


@pytest.mark.parametrize("program", ["python", "ipython"])
def test_typed_at_a_prompt(source: Path, tmp_path: Path, program: str) -> None:
    """In a new process the same lines go on with the same OUT; a changed one is refused."""
    command: list[Any] = [sys.executable, "-i", "-q"]
    if program == "ipython":
        pytest.importorskip("IPython", reason="IPython is not installed")
        command = [sys.executable, "-m", "IPython", "--quick", "--no-banner", "--simple-prompt", "--colors=nocolor"]
    out = tmp_path / "out"
    text = typed(source, out)
    for hash_seed in (1, 2):
        process = run(*command, text=text + "\nprint('rows', manifest.nsamples)\n", hash_seed=hash_seed, cwd=tmp_path)
        assert f"rows {ROWS}" in process.stdout, process.stderr
    assert recipe_of(out)["name"] == "bake"
    process = run(*command, text=text.replace('"left"', '"right"') + "\nprint('rows', manifest.nsamples)\n")
    assert "OutputError" in process.stderr + process.stdout
    assert "recipe" in process.stderr + process.stdout


def test_cells_of_a_notebook(source: Path, tmp_path: Path) -> None:
    """A recipe that is spread over cells, one of them run again, with a stack of a library's."""
    pytest.importorskip("IPython", reason="IPython is not installed")
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    cells = [
        "import torch\nfrom torchvision.transforms import v2\nimport wdsremux",
        "stack = v2.Compose([v2.RandomResizedCrop(24), v2.RandomHorizontalFlip(), v2.ToImage()])",
        "class Blend:\n    def __init__(self, share):\n        self.share = share\n"
        "    def __call__(self, image):\n        return (image * self.share).to(torch.uint8)",
        "blend = Blend(0.5)\ndef augment(image):\n    return blend(stack(image))",
        "@wdsremux.recipe(images='tensor')\ndef bake(batch):\n"
        "    return {'image': [augment(image) for image in batch['image']]}",
        "blend = Blend(float(os.environ['SHARE']))",
        "manifest = wdsremux.convert(source, out, recipe=bake, workers=2)\nprint('rows', manifest.nsamples)",
    ]
    script = tmp_path / "notebook.py"
    script.write_text(
        "import json, sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "source, out, cells = sys.argv[1:]\n"
        "shell.run_cell(f'import os; source, out = {source!r}, {out!r}')\n"
        "for cell in json.loads(cells):\n"
        "    shell.run_cell(cell, store_history=True)\n"
    )

    def notebook(out: Path, share: float, hash_seed: int) -> str:
        os.environ["SHARE"] = str(share)
        process = run(sys.executable, script, source, out, json.dumps(cells), hash_seed=hash_seed, cwd=tmp_path)
        return process.stdout + process.stderr

    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    assert f"rows {ROWS}" in (said := notebook(first, 0.5, 1)), said
    assert f"rows {ROWS}" in notebook(second, 0.5, 2)
    assert f"rows {ROWS}" in notebook(third, 0.25, 1)
    assert digests(first) == digests(second)
    assert recipe_of(first)["sha256"] != recipe_of(third)["sha256"]


def test_a_file_may_vanish_after_the_start(source: Path, tmp_path: Path) -> None:
    """Workers get the recipe by value: a script that removes its recipe's file in the first event still ends well."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "first.py").write_text("import second\ndef bake(batch):\n    return second.same(batch)\n")
    (folder / "second.py").write_text("def same(batch):\n    return {'image': batch['image']}\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import shutil, sys, wdsremux\n"
        "from wdsremux.conversion.events import Planned\n"
        "def tell(event):\n"
        "    if isinstance(event, Planned):\n"
        "        shutil.rmtree(sys.argv[3])\n"
        "wdsremux.convert(sys.argv[1], sys.argv[2], recipe=f'{sys.argv[3]}/first.py:bake', workers=2, tell=tell)\n"
    )
    done(run(sys.executable, script, source, tmp_path / "out", folder))
    assert not folder.exists()
    assert len(read_split(tmp_path / "out" / "train")) == ROWS
