"""What the documentation shows runs as it is shown, with smaller numbers: the Python blocks of README and docs/, the
examples, the notebooks, and the commands of the quick start. All of it runs from an installed wheel, away from the
checkout; what needs a GPU, Slurm or the Hub is type-checked. The README's training loop survives a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import docs_notebooks
import pyarrow.parquet as pq
import pytest
import torch
from sample_source import CLASSES

import wdsremux
from tests.conftest import ROOT, needs
from tests.support import dists
from tests.support.dists import Environment
from tests.support.launch import TIMEOUT_S, ids, output, seen, start
from tests.support.page_scripts import Trial, block_with, cells, files, left_out, of_page, replaced, script
from tests.support.pages import blocks, commands

pytestmark = pytest.mark.system

EXAMPLES = ROOT / "examples"
HUB = "AI-Lab-Makerere/beans"  #: of the commands that need the Hub
SMALL = {"batch_size=64": "batch_size=32", "size=128": "size=32"}
LOOP = replaced(block_with("README.md", "CHECKPOINT =").text, SMALL | {"= 3, 100,": "= 2, 2,"})
SETUP = LOOP[: LOOP.index("if os.path.exists(CHECKPOINT):")].replace("= 2, 2,", "= 1, 2,")
CUDA = "needs a GPU"
#: Several conversions of one script share a fork server, which would load torch for each.
HOLD = "from wdsremux.conversion.engines import forkserver; held = forkserver.hold(); held.__enter__()"
#: For mypy: libraries without types are no fault of the page, and the code of torchvision need not be read.
UNTYPED = "[mypy]\ndisable_error_code = import-untyped\n[mypy-torchvision.*]\nfollow_imports = skip\n"
AGAIN = "assert train.epoch == 1; train.set_epoch(0)"  #: the page's next loop trains from the beginning, too
TRIALS = {
    "api.md": Trial(
        {'"photos-256"': '"made-256"'},
        after={"except wdsremux": "assert wdsremux.manifest('made-256').nsamples == 40"},
    ),
    "augmentation.md": Trial(
        after={"brightness": "images, _ = next(iter(train)); assert images.shape == (256, 3, 224, 224)"},
    ),
    "clusters.md": Trial(
        {"/shared/places-256": "photos-256"},
        before="import wdsremux",
        after={"lanes": "assert len(train) == 1"},
        left_out={"SLURM_LOCALID": f"{CUDA}, and Slurm"},
    ),
    "containers.md": Trial(
        {"ethz/food101": "photos"},
        before=HOLD,
        after={
            'container="parquet"': "assert wdsremux.manifest('food-64').container == 'parquet'",
            "load_dataset": "assert rows.column_names == ['image', 'label']",
            "pd.concat": "assert len(table) == 40",
        },
    ),
    "format.md": Trial(
        after={
            "nsamples": "assert manifest.nsamples == 300",
            "load_dataset": "assert len(rows) == 300",
            "to_tuple": "assert sum(1 for _ in samples) == 300",
            "pipeline_def": "pipe = images_and_labels(); pipe.build(); assert len(pipe.run()[0]) == 256",
            "create_dataset": "assert len(rows) >= 300",  # timm fills up the last batch
        }
    ),
    "index.md": Trial({"beans-256": "photos-256"}, after={"DataLoader": "assert images.shape == (256, 3, 224, 224)"}),
    "planning.md": Trial(after={"figures": "assert figures['size_bytes'] > 1e5 and figures['alternatives']"}),
    "preview.md": Trial(
        after={"wdsremux.preview": "assert Path('strong.png').stat().st_size > 10_000"},
        before="from pathlib import Path",
    ),
    "loader.md": Trial(
        {"90": "2"},
        after={
            "channels_last": "assert images.is_contiguous(memory_format=torch.channels_last)",
            "class_to_idx": "torch.save({'loader': loader.state_dict()}, 'checkpoint.pt')",
            "checkpoint": "assert loader.epoch == 2",
            "stats.epoch.images": "assert stats.total.skipped == 0",
        },
    ),
    "migrating.md": Trial(
        {"batch_size=256": "batch_size=16", "num_workers=16": "num_workers=1", ".cuda(non_blocking=True)": ".float()"},
        after={"MixUp": "assert labels.shape == (16, 10)"},
    ),
    "notebooks.md": Trial(
        {
            "ORG/places365": "photos",
            "/content/drive/MyDrive/places-256": "places-256",
            "/tmp/trial": "trial",
            "limit=1_000": "limit=20",
            "batch_size=256": "batch_size=16",
        },
        before=HOLD,
        after={"MyDrive": "assert manifest.nsamples == 40", "make_grid": "assert images.dtype == torch.uint8"},
    ),
    "quickstart.md": Trial(
        SMALL | {"= 3, 100,": "= 1, 2,"},
        after={"CHECKPOINT =": "assert os.path.exists(CHECKPOINT)", "inference_mode": "assert len(test.dataset) == 10"},
    ),
    "recipes.md": Trial(
        before=HOLD,
        after={
            "autocontrast": "import wdsremux as w; made = lambda f: w.convert('photos', f.__name__, recipe=f)",
            "from recipe": "assert wdsremux.manifest('photos-prepared').nsamples == 40",
            "tensor": "assert made(halve).nsamples == 40",
            "halves": "assert made(halves).nsamples == 80",
            "v2.Compose": "assert wdsremux.manifest('photos-augmented').nsamples == 40",
            "stack(image) for image": "prepare.__name__ = 'with_v2'; assert made(prepare).nsamples == 40",
            "A.Compose": "prepare.__name__ = 'with_albumentations'; assert made(prepare).nsamples == 40",
        },
    ),
    "sharing.md": Trial(
        {"ORG/places-256": "photos-256", '"places-256"': '"photos-256"'},
        after={"streaming": "assert sum(1 for _ in rows) == 300"},
        left_out={"snapshot_download": "needs the Hub"},
    ),
    "sources.md": Trial(
        {'"photos-256", ': '"kept-256", batch_size=20, '},
        before="import wdsremux; wdsremux.convert('sample', 'kept-256', keep='row', limit=20, workers=1)",
        after={"json": "assert next(iter(loader))[2][0].keys() == {'row'}"},
    ),
    "trainers.md": Trial(
        {"batch_size=256": "batch_size=32, size=32", "devices=8": "devices=1"},
        before="from setup import *",
        after={
            "lightning": AGAIN,
            "Accelerator": AGAIN,
            "train.sampler": AGAIN,
            "LoaderTrainer": "assert trainer.state.global_step == len(train) == 9",
        },
        left_out={"DistributedDataParallel": CUDA},
    ),
}


@pytest.fixture(scope="module")
def photos(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs as the documentation speaks of it: 40 in photos/train, and 10 in photos/test."""
    folder = tmp_path_factory.mktemp("photos")
    for split, step in (("train", 7), ("test", 6)):
        (file,) = (sample / "data").glob(f"{split}-*.parquet")
        rows = pq.read_table(file).to_pylist()[::step][: 40 if split == "train" else 10]
        for number, row in enumerate(rows):
            path = folder / split / CLASSES[row["label"]] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(row["image"]["bytes"])
    return folder


@pytest.fixture
def place(converted: Path, sample: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader has it: photographs, and a converted set."""
    for name, target in {"photos-256": converted, "photos": photos, "sample": sample}.items():
        (tmp_path / name).symlink_to(target)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    return tmp_path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel of this checkout."""
    pytest.importorskip("build", reason="build is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    dists.build(dists.of_package(), folder, "--wheel")
    (wheel,) = folder.glob("*.whl")
    return dists.install(wheel, folder / "environment")


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def command(installed: Environment, line: str, folder: Path) -> str:
    """What a command of a shell printed, which must succeed."""
    done = subprocess.run(
        line, shell=True, cwd=folder, env=installed.variables(), capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# The wheel


def test_the_wheel_is_what_runs(installed: Environment, tmp_path: Path) -> None:
    """In a script and in the command, and in what they start; not the checkout, whatever leads to it here."""
    lines = "import wdsremux, wdsremux.cli; print(wdsremux.__file__, wdsremux.cli.__file__)"
    for file in output(written(tmp_path, "where.py", lines), folder=tmp_path, environment=installed).split():
        assert Path(file).is_relative_to(installed.packages)
    place = command(installed, "command -v wdsremux", tmp_path)
    assert Path(place.strip()).is_relative_to(installed.folder)
    assert command(installed, "wdsremux --version", tmp_path).split()[-1] == wdsremux.__version__


# Pages


def test_every_page_is_tried() -> None:
    assert {block.page for block in blocks("python")} == {*TRIALS, "README.md"}
    assert len(of_page("README.md")) == 1  # it has tests of its own, below
    for page, trial in TRIALS.items():
        for words in (*trial.after, *trial.left_out):
            block_with(page, words)


@pytest.mark.parametrize("page", sorted(TRIALS.keys() - {"quickstart.md"}))
def test_a_page(installed: Environment, place: Path, page: str) -> None:
    """One script, whose lines are those of the page."""
    if page == "format.md":
        needs("nvidia.dali", "DALI")
    written(place, "setup.py", SETUP)
    for name, text in files(page):
        written(place, name, text)
    output(written(place, f"{page}.py", script(page, TRIALS[page])), folder=place, environment=installed)


def test_the_quick_start(installed: Environment, photos: Path, tmp_path: Path) -> None:
    """From an empty folder: its commands, and then its blocks, as one script. The README has the same commands."""
    page = "quickstart.md"
    (tmp_path / "photos").symlink_to(photos)
    shown = {name: [line for block, line in commands() if block.page == name] for name in (page, "README.md")}
    tried = [line for line in shown[page] if HUB not in line]
    assert len(tried) == 3
    assert shown["README.md"] == tried
    for line in tried:
        command(installed, line, tmp_path)
    output(written(tmp_path, "script.py", script(page, TRIALS[page])), folder=tmp_path, environment=installed)


def test_blocks_that_cannot_be_run_here_have_the_right_types(installed: Environment, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    written(tmp_path, "setup.py", SETUP)
    for page, trial in TRIALS.items():
        if trial.left_out:
            written(tmp_path, f"{page.removesuffix('.md')}.py", left_out(page, trial))
    checked = [path.name for path in tmp_path.glob("*.py")]
    assert len(checked) == 4
    settings = written(tmp_path, "mypy.ini", UNTYPED)
    options = [f"--config-file={settings}", "--cache-dir=cache", "--check-untyped-defs"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--python-executable={installed.python}", *checked],
        cwd=tmp_path, env=installed.variables(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# Examples


def test_the_training_loop_is_the_same_everywhere() -> None:
    loop = block_with("README.md", "CHECKPOINT =").text
    assert block_with("quickstart.md", "CHECKPOINT =").text == loop
    example = (EXAMPLES / "train_minimal.py").read_text()
    shown = [line for line in example[example.index("import os") :].splitlines() if "print(" not in line]
    assert "\n".join(shown).replace("import sys\n", "").replace("sys.argv[1]", '"photos-256"') == loop.rstrip()


def test_the_training_example(installed: Environment, place: Path) -> None:
    text = replaced((EXAMPLES / "train_minimal.py").read_text(), SMALL | {"= 3, 100,": "= 1, 2,"})
    done = output(written(place, "train.py", text), "photos-256", folder=place, environment=installed)
    assert "epoch 0, step 8: loss " in done


@pytest.mark.parametrize("name", ["recipe_v2.py:stack", "recipe_albumentations.py:prepare"])
def test_a_recipe(installed: Environment, place: Path, name: str) -> None:
    """Its pixels do not depend on batches and workers."""
    lines = [
        HOLD,
        f"import wdsremux; options = {{'recipe': {f'{EXAMPLES}/{name}'!r}}}",
        "wdsremux.convert('photos', 'one', workers=1, **options)",
        "wdsremux.convert('photos', 'two', workers=2, batch_size=9, **options)",
    ]
    output(written(place, "convert.py", "\n".join(lines)), folder=place, environment=installed)
    manifest, again = wdsremux.manifest(place / "one"), wdsremux.manifest(place / "two")
    assert (manifest.nsamples, manifest.nrejects) == (40, 0)
    assert [shard.sha256 for shard in again.shards] == [shard.sha256 for shard in manifest.shards]


def test_notebooks_are_as_the_script_writes_them() -> None:
    assert sorted(docs_notebooks.NOTEBOOKS) == sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
    for name, text in docs_notebooks.NOTEBOOKS.items():
        content = (EXAMPLES / name).read_text()
        assert cells(EXAMPLES / name) == [source for kind, source in docs_notebooks.cells(text) if kind == "code"]
        assert json.loads(content)["nbformat_minor"] == 5
        assert len(content) <= docs_notebooks.MOST_BYTES
        assert '"output_type": "error"' not in content


@pytest.mark.parametrize(("name", "values"), [("convert.ipynb", {}), ("train.ipynb", {"epoch, 6)": "epoch, 1)"})])
def test_a_notebook(installed: Environment, place: Path, name: str, values: dict[str, str]) -> None:
    """Its cells as one script. What it reads and writes lies beside the folder that it is in, in build/."""
    (place / "scripts").symlink_to(ROOT / "scripts")
    (place / "build").mkdir()
    (place / "build/notebook-source").symlink_to(place / "sample")
    (place / "examples").mkdir()
    text = replaced("\n".join([HOLD, *cells(EXAMPLES / name)]), values)
    output(written(place, "examples/notebook.py", text), folder=place / "examples", environment=installed)


# The loop


def test_the_training_loop_killed_in_mid_epoch(installed: Environment, converted: Path, tmp_path: Path) -> None:
    """Nine steps an epoch. Of the five of the second epoch that were begun, the checkpoint knows four."""
    whole, broken = (folder_of(converted, tmp_path / name) for name in ("whole", "broken"))
    output(whole / "script.py", folder=whole, watch=whole / "watch", environment=installed)
    killed = start(broken / "script.py", folder=broken, watch=broken / "before", kill="0:14", environment=installed)
    assert killed.returncode == -9, killed.stderr
    output(broken / "script.py", folder=broken, watch=broken / "after", environment=installed)
    undisturbed, before, after = seen(whole / "watch"), seen(broken / "before"), seen(broken / "after")
    kept = [line for line in before if line.epoch == 0 or line.position <= 4 * 32]
    assert len(kept) == len(before) - 1
    assert min((line.epoch, line.position) for line in after) == (1, 5 * 32)
    for epoch in range(2):
        assert ids([*kept, *after], "train", epoch) == ids(undisturbed, "train", epoch)
    assert_same(checkpoint(whole), checkpoint(broken))


def folder_of(converted: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "photos-256").symlink_to(converted)
    written(folder, "script.py", LOOP)
    return folder


def checkpoint(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return loaded


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same weights, to the bit, and the same place."""
    assert one["loader"] == other["loader"]
    assert one["loader"]["epoch"] == 2
    assert one["model"].keys() == other["model"].keys()
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
