"""Switches of `datasets` are flipped for as long as we need them, and are then what they were."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from huggingface_hub import logging as hub_logging

from wdsremux.conversion.datasets_quirks import one_try, quiet, without_torch

VARIABLES = ("DATASETS_VERBOSITY", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_VERBOSITY")


def switches() -> list[object]:
    return [
        datasets.logging.get_verbosity(),
        hub_logging.get_verbosity(),
        datasets.utils.are_progress_bars_disabled(),
        datasets.config.TORCH_AVAILABLE,
        datasets.config.STREAMING_READ_MAX_RETRIES,
        *map(os.environ.get, VARIABLES),
    ]


def test_all_are_flipped_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = switches()
    with contextlib.suppress(KeyError), quiet(), without_torch(), one_try():
        assert datasets.logging.get_verbosity() == logging.CRITICAL
        assert hub_logging.get_verbosity() == logging.ERROR
        assert datasets.utils.are_progress_bars_disabled()
        assert datasets.config.STREAMING_READ_MAX_RETRIES == 1
        assert all(name in os.environ for name in VARIABLES)  # for workers
        raise KeyError
    assert switches() == before


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASETS_VERBOSITY", "info")
    before = datasets.logging.get_verbosity()
    with quiet():
        assert os.environ["DATASETS_VERBOSITY"] == "info"
        assert datasets.logging.get_verbosity() == before
    assert os.environ["DATASETS_VERBOSITY"] == "info"


def test_the_module_loads_none_of_the_libraries_itself() -> None:
    """Or the server of workers, which begins to load them when a conversion begins, would begin later: 0.3 s."""
    code = "import sys, wdsremux.conversion.datasets_quirks; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"datasets", "huggingface_hub", "numpy", "pyarrow"} & set(run.stdout.split())


def test_notebooks_are_not_told_of_widgets() -> None:
    """Bars of these libraries are not drawn, so what they would be drawn with need not be there."""
    code = (
        "import sys, types; sys.modules |= {'ipywidgets': None, 'ipykernel.zmqshell': types.ModuleType('zmqshell')}\n"
        "from IPython.core.interactiveshell import InteractiveShell; InteractiveShell.instance()\n"
        "from wdsremux.conversion.datasets_quirks import quiet\n"
        "with quiet(): import datasets\n"
    )
    run = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert "IProgress" not in run.stderr
    loud = subprocess.run(
        [sys.executable, "-W", "always", "-c", code.replace("with quiet(): ", "")], capture_output=True, text=True
    )
    assert "IProgress not found" in loud.stderr


def test_conversions_from_python_are_quiet(sample: Path, tmp_path: Path) -> None:
    """Where the caller has loaded the library before, too."""
    code = (
        "import sys, datasets, wdsremux\n"
        "seen = []\n"
        "def tell(event): seen.append(datasets.utils.are_progress_bars_disabled())\n"
        "wdsremux.convert(sys.argv[1], sys.argv[2], workers=1, limit=4, recipe='copy', tell=tell)\n"
        "assert seen and all(seen) and not datasets.utils.are_progress_bars_disabled()\n"
    )
    command = [sys.executable, "-c", code, str(sample), str(tmp_path / "out")]
    subprocess.run(command, check=True)


LOADED_MEANWHILE = """
import os, warnings
from wdsremux.conversion.datasets_quirks import quiet
warnings.simplefilter("error", UserWarning)
with quiet():
    import datasets
    from huggingface_hub import logging as hub
    print(datasets.logging.get_verbosity(), hub.get_verbosity(), datasets.utils.are_progress_bars_disabled())
print(datasets.logging.get_verbosity(), hub.get_verbosity(), datasets.utils.are_progress_bars_disabled())
datasets.disable_progress_bars()
datasets.enable_progress_bars()  # which the environment at its loading would not allow, with a warning
print([name for name in os.environ if name in VARIABLES])
"""


def test_libraries_that_are_loaded_meanwhile_are_not_quiet_for_good() -> None:
    """As in a notebook that converts first, and works with `datasets` then."""
    variables = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    code = f"VARIABLES = {VARIABLES!r}\n{LOADED_MEANWHILE}"
    run = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["50 40 True", "30 30 False", "[]"]
