"""What a conversion leaves of itself in the process that called it: nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import WriteSource, tiny_jpeg

pytestmark = pytest.mark.system
SNAPSHOT = """
import locale, logging, os, signal, sys, warnings
from multiprocessing import resource_tracker  # multiprocessing's own, which it keeps

def constants(module):
    return {name: repr(value) for name, value in vars(module).items() if name.isupper()}

def snapshot():
    import datasets, huggingface_hub.constants, torch
    return {
        "datasets": constants(datasets.config),
        "hub": constants(huggingface_hub.constants),
        "levels": {name: getattr(log, "level", None) for name, log in sorted(logging.root.manager.loggerDict.items())
                   if name.split(".")[0] != "wdsremux" and isinstance(log, logging.Logger) and log.level},
        "root": (logging.root.level, len(logging.root.handlers)),
        "signals": {str(number): repr(signal.getsignal(number)) for number in signal.valid_signals()},
        "environment": dict(os.environ),
        "torch": (torch.get_num_threads(), str(torch.get_default_dtype()), torch.initial_seed()),
        "warnings": [repr(each) for each in warnings.filters],
        "locale": locale.setlocale(locale.LC_ALL),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "descriptors": [name for name in sorted(os.listdir("/proc/self/fd"))
                        if int(name) != resource_tracker._resource_tracker._fd],
    }

def children():
    import psutil
    return [process.name() for process in psutil.Process().children(recursive=True)
            if "resource_tracker" not in " ".join(process.cmdline())]
"""


def run(tmp_path: Path, code: str, *arguments: object) -> str:
    script = tmp_path / "script.py"
    script.write_text(SNAPSHOT + textwrap.dedent(code))
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("kind", ["sound", "refused", "failing"])
def test_a_conversion_leaves_nothing_behind(kind: str, write_source: WriteSource, tmp_path: Path) -> None:
    images = [b"" if kind == "failing" else tiny_jpeg(i) for i in range(4)]
    source = write_source(images, range(4))
    code = """
        import wdsremux, wdsremux.conversion.job, datasets.packaged_modules
        before = snapshot()
        try:
            wdsremux.convert(sys.argv[1], sys.argv[2], recipe="copy", workers=1, max_rejects=0,
                             image_column=None if sys.argv[3] != "refused" else "none")
        except wdsremux.errors.WdsremuxError as error:
            print(type(error).__name__)
        after = snapshot()
        for name in before:
            if before[name] != after[name]:
                print(name, before[name], after[name])
        print(children())
    """
    ended = {"sound": "", "refused": "SourceError\n", "failing": "RejectError\n"}[kind]
    assert (
        run(tmp_path, "import wdsremux.errors\n" + textwrap.dedent(code), source, tmp_path / "out", kind)
        == f"{ended}[]\n"
    )


def test_a_fork_server_of_the_caller_s_own_stays(write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(0)], [0])
    code = """
        import multiprocessing, wdsremux
        def answer():
            return 42
        if __name__ == "__main__":
            context = multiprocessing.get_context("forkserver")
            with context.Pool(1) as pool:
                print(pool.apply(answer))
            wdsremux.convert(sys.argv[1], sys.argv[2], recipe="copy", workers=1)
            with context.Pool(1) as pool:
                print(pool.apply(answer))
            print(len(children()))
    """
    assert run(tmp_path, code, source, tmp_path / "out") == "42\n42\n1\n"


@pytest.mark.parametrize("how", ["pool", "daemon"])
def test_a_daemonic_process_is_told_what_to_do(how: str, write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(0)], [0])
    code = """
        import multiprocessing, wdsremux
        def convert(source, out):
            try:
                wdsremux.convert(source, out, recipe="copy")
            except Exception as error:
                print(type(error).__name__, error, flush=True)
        if __name__ == "__main__":
            if sys.argv[3] == "pool":
                with multiprocessing.Pool(1) as pool:
                    pool.apply(convert, sys.argv[1:3])
            else:
                process = multiprocessing.Process(target=convert, args=sys.argv[1:3], daemon=True)
                process.start()
                process.join()
    """
    told = run(tmp_path, code, source, tmp_path / "out", how)
    assert told.startswith("WorkerError this process is daemonic")
    assert "concurrent.futures.ProcessPoolExecutor" in told


def test_warnings_and_the_log(write_source: WriteSource, tmp_path: Path) -> None:
    """From Python warnings go to `warnings`, in the caller's name; the logger has them and the lines of progress."""
    import datasets

    odd = {"target": (datasets.Value("int64"), [1, 2])}
    source = write_source([tiny_jpeg(i) for i in range(2)], [0, 1], columns=odd)
    code = """
        import wdsremux
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wdsremux.convert(sys.argv[1], sys.argv[2], recipe="copy", workers=1)
        print(*((each.category.__name__, os.path.basename(each.filename)) for each in caught))
    """
    lines = run(tmp_path, code, source, tmp_path / "out").splitlines()
    assert lines[0].startswith("WARNING wdsremux column 'target' (int64) also looks like a label")
    assert [line.split()[0] for line in lines[1:3]] == ["INFO", "INFO"]
    assert lines[2].endswith(f"see {tmp_path / 'out' / 'train'}")
    assert lines[3] == "('ConversionWarning', 'script.py')"


@pytest.mark.parametrize("module", ["datasets", "files", "codec", "numpy_like", "pyarrow"])
@pytest.mark.parametrize("late", [False, True])
def test_a_recipe_s_neighbours_are_imported_as_python_would(
    module: str, late: bool, write_source: WriteSource, tmp_path: Path
) -> None:
    """Also where they are called like a library that we have loaded."""
    import wdsremux

    folder = tmp_path / "recipes"
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text("from .inner import SIDE\n")
    (folder / module / "inner.py").write_text("SIDE = 7\n")
    statement = f"import {module}"
    body = f"    return {{'image': [image.resize(({module}.SIDE, {module}.SIDE)) for image in batch['image']]}}\n"
    lines = [f"def bake(batch):\n    {statement}\n{body}"] if late else [f"{statement}\n\ndef bake(batch):\n{body}"]
    (folder / "recipe.py").write_text("".join(lines))
    source = write_source([tiny_jpeg(i) for i in range(70)], range(70))
    made = wdsremux.convert(source, tmp_path / "out", recipe=f"{folder / 'recipe.py'}:bake", workers=1)
    assert made.nsamples == 70
    with wdsremux.DataLoader(tmp_path / "out", 2, size=7, num_threads=1) as loader:
        assert {(int(w), int(h)) for w, h in loader.dataset.split.table[["width", "height"]].tolist()} == {(7, 7)}
