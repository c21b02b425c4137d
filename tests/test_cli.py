"""The command line: what it says, where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wdsremux
from tests.conftest import ConvertTiny, WriteSource, tiny_jpeg
from tests.support.reading import check_split, digests
from wdsremux import cli
from wdsremux.errors import OptionError, WdsremuxError


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the console script in this process."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["wdsremux", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return Result(caught.value.code, *capsys.readouterr())

    return call


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"wdsremux {wdsremux.__version__}\n", "")


def test_help_needs_nothing_heavy() -> None:
    code = "import sys; from wdsremux.commands import app; app(['convert', '--help'], standalone_mode=False)"
    code += "; assert not {'torch', 'datasets', 'webdataset'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--samples-per-shard" in done.stdout
    assert done.stderr == ""


def test_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "wdsremux", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"wdsremux {wdsremux.__version__}\n"


def see(folder: Path, out: str = "out") -> str:
    """How the last line of a conversion ends: with where the split is."""
    return f"; see {folder / out / 'train'}"


def test_convert_says_what_it_does(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(i) if i != 7 else b"" for i in range(1_200)], range(1_200))
    arguments = ("convert", source, tmp_path / "out", "--recipe", "copy", "--workers", 1)
    done = run(*arguments)
    assert (done.code, done.out) == (0, "")
    first, last = done.err.splitlines()
    assert first == f"wdsremux: {source} (train): 1,200 rows in 1 task for 16 shards"
    rest = last.removeprefix(f"wdsremux: {source} (train): 1,199 images in 16 shards, ")
    assert re.fullmatch(
        r"\d\.\d MB before, \d\.\d MB after, [\d,]+ images/s, 1 reject", rest.removesuffix(see(tmp_path))
    )
    again = run(*arguments)
    assert again.code == 0
    assert again.err == f"wdsremux: {source} (train): already converted, 1,199 images in 16 shards{see(tmp_path)}\n"


def test_every_option_arrives(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    images = [tiny_jpeg(i) for i in range(40)]
    row = {"row": (datasets.Value("int64"), list(range(40)))}
    source = write_source(images, range(40), split="valid", rows_a_group=10, columns=row)
    options: dict[str, Any] = {
        "split": "valid",
        "image-column": "image",
        "label-column": "label",
        "recipe": "square:8",
        "quality": 80,
        "subsampling": "444",
        "samples-per-shard": 7,
        "samples-per-task": 20,
        "seed": 5,
        "workers": 2,
        "engine": "local",
        "max-rejects": "0",
        "keep": "row",
        "limit": 30,
        "patience": 5.0,
        "batch-size": 10,
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    flags += ["--no-shuffle", "--strict", "--fast", "--restart-rows"]
    assert run("convert", source, tmp_path / "out", *flags).code == 0
    made = wdsremux.manifest(tmp_path / "out", "valid")
    assert (made.split, made.seed, made.recipe["name"]) == ("valid", 5, "square:8")
    assert made.options == {
        "fast": True,
        "restart_rows": True,
        "image_column": "image",
        "label_column": "label",
        "keep": ["row"],
        "quality": 80,
        "subsampling": "444",
        "samples_per_shard": 7,
        "samples_per_task": 20,
        "shuffle": False,
        "limit": 30,
    }
    by_function = tmp_path / "api"
    by_name: dict[str, Any] = {name.replace("-", "_"): value for name, value in options.items()}
    wdsremux.convert(source, by_function, shuffle=False, strict=True, fast=True, restart_rows=True, **by_name)
    assert wdsremux.manifest(by_function, "valid") == made


# info


def test_info(run: Run, converted: Path) -> None:
    done = run("info", converted)
    assert (done.code, done.err) == (0, "")
    assert "samples   300 in 12 shards" in done.out
    assert "recipe    resize:256, quality 90, subsampling 420, seed 0" in done.out
    assert "mixing    well shuffled: each shard has about the same share of each class as the whole split" in done.out
    assert "       2         30  chelsea" in done.out
    assert done.out.count("split     ") == 2


def test_what_is_not_taken_and_not_labelled_is_told(run: Run, tmp_path: Path) -> None:
    """In lines of their own, and in the last one; `info` says it, too."""
    for name in ("train/1.jpg", "train/2.jpg", "test/3.jpg", "train/notes.txt", ".hidden"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(tiny_jpeg(1))
    done = run("convert", tmp_path / "photos", tmp_path / "out")
    note, _, last = done.err.splitlines()
    assert note == (
        "wdsremux: files of photos that are not converted: 1 in other splits (test); 1 hidden (.hidden); "
        "1 of another kind (train/notes.txt)"
    )
    assert last.endswith(f"0 rejects, labels: none{see(tmp_path)}")
    assert run("convert", tmp_path / "photos", tmp_path / "out").err.endswith(
        f"in 2 shards, labels: none{see(tmp_path)}\n"
    )
    assert "labels    none" in run("info", tmp_path / "out").out


def test_rows_without_a_label_are_counted(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(i) for i in range(4)], [0, None, -1, 1], classes=["cat", "dog"])
    assert run("convert", source, tmp_path / "out").err.endswith(
        f"0 rejects, 2 images without a label{see(tmp_path)}\n"
    )
    assert "classes   2, and 2 samples without a label" in run("info", tmp_path / "out").out
    nulls = write_source([tiny_jpeg(i) for i in range(2)], [None, None], name="nulls")
    assert run("convert", nulls, tmp_path / "null").err.endswith(
        f"labels: none (every label is null){see(tmp_path, 'null')}\n"
    )


def test_splits_that_disagree_are_told(run: Run, convert_tiny: ConvertTiny, write_source: WriteSource) -> None:
    """As version 0.1.0 made them."""
    out = convert_tiny(3)
    other = write_source([tiny_jpeg(0)] * 2, ["a", "b"], name="other", split="test")
    assert run("convert", other, out.parent / "two", "--split", "test").code == 0
    (out.parent / "two" / "test").rename(out / "test")
    for command in ("info", "verify"):
        done = run(command, out)
        assert (done.code, "the splits test, train number their classes differently" in done.err) == (0, True)


def test_columns_to_keep_may_be_given_twice(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    more = {name: (datasets.Value("int64"), [1, 2]) for name in "abc"}
    source = write_source([tiny_jpeg(i) for i in range(2)], columns=more)
    assert run("convert", source, tmp_path / "out", "--keep", "a,b", "--keep", "c").code == 0
    assert wdsremux.manifest(tmp_path / "out").options["keep"] == ["a", "b", "c"]


def test_info_json(run: Run, converted: Path) -> None:
    done = run("info", converted, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert list(found) == ["test", "train"]
    assert found["train"]["nsamples"] == 300
    assert found["train"]["labels"][2] == {"label": 2, "name": "chelsea", "samples": 30}
    assert found["train"]["worst_mixing"] > 1


# Errors: one sentence, what and what to do


def sentence(done: Result, code: int) -> str:
    assert done.code == code
    assert done.out == ""
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("wdsremux: ")
    assert lines[0].endswith(".")
    assert not lines[0].endswith("..")
    return lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--recipe", "crop:7"),
        ("--quality", "101"),
        ("--subsampling", "411"),
        ("--split", "a/b"),
        ("--split", "train[:10%]"),
        ("--classes", "a"),
        ("--samples-per-shard", "0"),
        ("--samples-per-task", "-3"),
        ("--workers", "0"),
        ("--engine", "spark"),
        ("--max-rejects", "many"),
    ],
)
def test_wrong_options_exit_with_2(run: Run, tmp_path: Path, arguments: tuple[str, str]) -> None:
    done = sentence(run("convert", tmp_path / "nowhere", tmp_path / "out", *arguments), 2)
    assert f"Invalid {arguments[0][2:].replace('-', '_')} (got " in done
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [["convert"], ["convert", "a"], ["info"], ["frobnicate"], ["convert", "a", "b", "--x"]]
)
def test_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert "Usage: " in done.err
    assert "Traceback" not in done.err


def test_bad_sources_exit_with_1(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    """One sentence each, and OUT is not even made."""
    out = tmp_path / "out"
    two: dict[str, Any] = {"thumbnail": (datasets.Image(), [{"bytes": tiny_jpeg(0), "path": None}] * 3)}
    source = write_source([tiny_jpeg(0)] * 3)
    doubled = write_source([tiny_jpeg(0)] * 3, name="doubled", columns=two)
    (tmp_path / "text" / "data").mkdir(parents=True)
    pq.write_table(pa.table({"caption": ["a", "b"], "n": [1, 2]}), tmp_path / "text" / "data" / "train.parquet")

    def refused(*arguments: object) -> str:
        return sentence(run("convert", *arguments), 1)

    assert "does not exist" in refused(tmp_path / "nowhere", out)
    assert "no file matches" in refused(source / "*.tar", out)
    assert "has no split 'valid'. Its splits (from the names of shards): train" in refused(
        source, out, "--split", "valid"
    )
    assert "has no column 'x'. Its columns: image" in refused(source, out, "--image-column", "x")
    assert "not a single label" in refused(source, out, "--label-column", "image")
    assert "has no column 'x'" in refused(source, out, "--keep", "x")
    assert "--keep cannot store" in refused(source, out, "--keep", "image")
    assert "has no image column. Its columns: caption (string), n (int64)" in refused(tmp_path / "text", out)
    assert "2 image columns: image, thumbnail. Choose one with --image-column" in refused(doubled, out)
    assert "no --revision 'main'" in refused(source, out, "--revision", "main")
    assert not out.exists()


def test_bad_outs_exit_with_1(run: Run, write_source: WriteSource, convert_tiny: ConvertTiny, tmp_path: Path) -> None:
    """One sentence each, and what OUT holds stays as it is."""
    source = write_source([tiny_jpeg(0)] * 3)
    (tmp_path / "file").write_text("mine")
    assert "cannot be written to" in sentence(run("convert", source, tmp_path / "file"), 1)
    assert "does not exist" in sentence(run("info", tmp_path / "out"), 1)
    assert "out cannot be read: No such file" in sentence(run("verify", tmp_path / "out"), 1)
    (tmp_path / "theirs" / "train").mkdir(parents=True)
    (tmp_path / "theirs" / "train" / "notes.txt").write_text("mine")
    assert "wdsremux did not write, such as notes.txt" in sentence(run("convert", source, tmp_path / "theirs"), 1)
    assert [path.name for path in (tmp_path / "theirs").rglob("*")] == ["train", "notes.txt"]
    tiny = convert_tiny(3)
    before = digests(tiny)
    assert "was started with" in sentence(run("convert", source, tiny), 1)
    assert digests(tiny) == before
    (tiny / "train" / "index.json").write_text("{}")
    assert "is not a wdsremux manifest" in sentence(run("info", tiny), 1)


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="no folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_to(run: Run, write_source: WriteSource) -> None:
    done = run("convert", write_source([tiny_jpeg(0)] * 3), "/sys/kernel/out")
    assert "/sys/kernel/out/train cannot be written to: " in sentence(done, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on the size of files")
def test_a_disk_that_takes_no_more(sample: Path, tmp_path: Path) -> None:
    """A real fault of writing, in a worker: one sentence, nothing half-written under a final name, and it goes on."""
    command = [sys.executable, "-m", "wdsremux", "convert", str(sample), str(tmp_path / "out"), "--workers", "2"]
    script = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); "
    script += f"sys.argv[1:] = {command[3:]!r}; runpy.run_module('wdsremux', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("wdsremux: task 0: ")
    assert last.endswith("Run the same command again to resume.")
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "out" / "train").iterdir()] == [".wdsremux"]
    wdsremux.convert(sample, tmp_path / "out", workers=2)
    check_split(tmp_path / "out" / "train", 300)


def test_verify(run: Run, convert_tiny: ConvertTiny) -> None:
    out = convert_tiny(100)
    sizes = [path.stat().st_size for path in (out / "train").iterdir() if path.is_file()]
    looked_at = f"1 split, 3 shards, {len(sizes)} files, {sum(sizes) / 1e6:,.1f} MB checked"
    assert run("verify", out) == (0, f"{out} is undamaged: {looked_at}\n", "")
    assert run("verify", out, "--decode") == (0, f"{out} is undamaged: {looked_at}, every image decoded\n", "")
    assert run("verify", out, "--quiet") == (0, "", "")
    (out / "train" / "train-000001.tar").unlink()
    (out / "train" / "stray.txt").write_text("x")
    done = run("verify", out, "--split", "train")
    assert done.code == 1
    assert [line.split(":")[0] for line in done.out.splitlines()] == ["train/train-000001.tar", "train/stray.txt"]
    assert "run the same conversion again" in done.err


def test_damaged_parquet_exits_with_1(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(0)] * 3)
    next(source.glob("data/*.parquet")).write_bytes(b"PAR1")
    done = run("convert", source, tmp_path / "out")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("wdsremux: ")
    assert "cannot be read as parquet" in last
    assert "Traceback" not in done.err


def test_too_many_rejects_exit_with_1(run: Run, write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(0), b"", tiny_jpeg(2)])
    done = run("convert", source, tmp_path / "out", "--recipe", "copy", "--workers", 1, "--max-rejects", 0)
    assert done.code == 1
    planned, last = done.err.splitlines()
    assert "3 rows in 1 task for 3 shards" in planned
    assert last == (
        "wdsremux: 1 row could not be converted, and 0 are allowed, for example 1.jpg: empty: 0 bytes. "
        f"It is listed in {tmp_path / 'out/train/.wdsremux/rejects.jsonl'}. "
        "Check the source, or allow more with --max-rejects and run the same command again."
    )


def test_debug_shows_the_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["wdsremux", "convert", "a", str(tmp_path), "--quality", "0", "--debug"])
    with pytest.raises(OptionError, match="Invalid quality"):
        cli.main()


def test_ctrl_c_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wdsremux.api.run", interrupted)
    done = run("convert", tmp_path, tmp_path)
    assert done.code == 130
    assert done.err == "wdsremux: Stopped. Run the same command again to resume.\n"


def test_exit_codes_of_all_errors() -> None:
    """Wrong by the command line alone is 2; all else is 1."""

    def family(kind: type[WdsremuxError]) -> set[type[WdsremuxError]]:
        return {kind}.union(*map(family, kind.__subclasses__()))

    assert {kind for kind in family(WdsremuxError) if kind.exit_code == 2} == {OptionError}
    assert {kind.exit_code for kind in family(WdsremuxError)} == {1, 2}
