"""Surroundings that a program does not ask for: no home, no place for temporary files, closed streams, odd names."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wdsremux
from tests.conftest import open_files
from tests.support.places import (
    ROOT,
    ROWS,
    command,
    convert,
    fill,
    loaded,
    picture,
    run,
    sentence,
    small_disk,
    write_pictures,
)
from tests.support.reading import check_split, digests
from tests.support.splits import write_split
from wdsremux import cli
from wdsremux.errors import FormatError, SourceError, WdsremuxError

pytestmark = pytest.mark.system
Tally = Callable[[str, str], None]
BARE = ("few file descriptors; no HOME, TMPDIR, working directory, locale or terminal", "same bytes, or a clear error")
NAMED = (
    "spaces, line breaks, raw bytes, 200 characters in the names of SOURCE and OUT",
    "same bytes, or a clear error",
)


def environment(**changes: str | None) -> dict[str, str]:
    """This process's, with some variables changed or (None) taken out."""
    return {name: value for name, value in (os.environ | changes).items() if value is not None}


# Folders that a system ought to have


@pytest.mark.parametrize(
    "changes",
    [
        {"HOME": None, "XDG_CACHE_HOME": None, "TMPDIR": "/nowhere"},
        {"LC_ALL": "C", "LANG": None, "TERM": None, "COLUMNS": "1"},
    ],
    ids=["no home, no TMPDIR", "locale C"],
)
def test_little_around(
    source: Path, undisturbed: Path, tmp_path: Path, tally: Tally, changes: dict[str, str | None]
) -> None:
    out = tmp_path / "ünïcode 漢字"
    done = run(command(source, out), env=environment(**changes))
    assert done.returncode == 0, done.stderr
    assert digests(out) == digests(undisturbed)
    tally(*BARE)


def test_a_full_disk_for_temporary_files(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    """Nothing large is put there: the spool lies in OUT."""
    with small_disk(tmp_path / "disk", 2**16) as disk:
        fill(disk)
        done = run(command(source, tmp_path / "out"), env=environment(TMPDIR=str(disk)))
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "out") == digests(undisturbed)
    tally(*BARE)


def no_file_at_all() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize("fault", ["nowhere to write", "a long name"])
def test_no_place_for_sockets(source: Path, tmp_path: Path, tally: Tally, fault: str) -> None:
    options: dict[str, Any] = {"preexec_fn": no_file_at_all}
    if fault == "a long name":
        (tmp_path / ("y" * 120)).mkdir()
        options = {"env": environment(TMPDIR=str(tmp_path / ("y" * 120)))}
    said = sentence(run(command(source, tmp_path / "out"), **options))
    assert said.startswith("wdsremux: no worker process can be started: ")
    assert "Set TMPDIR to a writable folder with a short name" in said
    tally(*BARE)


def test_a_home_that_cannot_be_written_to(source: Path, tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "home").write_text("")
    clear: dict[str, str | None] = {"HF_HOME": None, "HF_DATASETS_CACHE": None, "XDG_CACHE_HOME": None}
    home = environment(**clear, HOME=str(tmp_path / "home"))
    said = sentence(run(command(source, tmp_path / "out"), env=home))
    assert "home/.cache/huggingface/datasets, the cache folder of `datasets`, cannot be written to: Not a dir" in said
    assert said.endswith("Set HF_HOME to a folder that is writable.")
    tally(*BARE)


def test_a_working_directory_that_is_gone(
    source: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    def leave() -> None:
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()

    start = [sys.executable, "-c", "from wdsremux.cli import main; main()"]  # python -m would not find the package
    said = sentence(run([*start, *command(source, "out")[3:]], cwd=None, preexec_fn=leave))
    assert "the working directory does not exist any more. Change to one that exists" in said
    monkeypatch.chdir(tmp_path)
    leave()
    assert loaded(undisturbed) == list(range(ROWS))
    assert wdsremux.verify(undisturbed) == []
    tally(*BARE)


# Streams

LOOK = """
import os

def look(batch):
    with open({seen!r}, "a") as file:
        for number in range(3):
            print(os.readlink(f"/proc/self/fd/{{number}}"), file=file)
            os.write(number, b"noise of a library in C")
    return batch
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at descriptors as Linux shows them")
def test_streams_that_are_closed(source: Path, tmp_path: Path, tally: Tally) -> None:
    """What libraries print would otherwise go to whatever file is opened next, a shard perhaps."""
    seen, recipe = tmp_path / "seen", tmp_path / "recipe.py"
    recipe.write_text(LOOK.format(seen=str(seen)))

    def close() -> None:
        os.closerange(0, 3)

    arguments = command(source, tmp_path / "out", "--recipe", f"{recipe}:look")
    done = subprocess.run(arguments, cwd=ROOT, preexec_fn=close, timeout=60, check=False)
    assert done.returncode == 0
    assert set(seen.read_text().splitlines()) == {"/dev/null"}
    assert wdsremux.verify(tmp_path / "out") == []
    check_split(tmp_path / "out/train", ROWS)
    tally(*BARE)


def test_a_pipe_that_nobody_reads(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    """As with `2>&1 | head`: hours of work do not end with who watches them."""
    process = subprocess.Popen(command(source, tmp_path / "out"), cwd=ROOT, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(60) == 0
    assert digests(tmp_path / "out") == digests(undisturbed)
    tally(*BARE)


def test_answers_that_nobody_takes(undisturbed: Path, tally: Tally) -> None:
    for arguments in (["verify", str(undisturbed)], ["info", str(undisturbed), "--json"]):
        with open("/dev/full", "w") as full:
            done = run([sys.executable, "-m", "wdsremux", *arguments], capture_output=False, stdout=full, stderr=-1)
        assert "the operating system reported an error: [Errno 28] No space left on device" in sentence(done)
        process = subprocess.Popen([sys.executable, "-m", "wdsremux", *arguments], cwd=ROOT, stdout=-1, stderr=-1)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(60) == 1
        tally(*BARE)


# Descriptors


def test_few_descriptors_for_a_conversion(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    sizes = ("--samples-per-task", "10")
    said = sentence(run(command(source, tmp_path / "out", *sizes, "--workers", "9"), preexec_fn=few))
    assert "9 workers need more open files than the limit of 40 allows" in said
    done = run(command(source, tmp_path / "out", *sizes), preexec_fn=few)
    assert done.returncode == 0, done.stderr
    check_split(tmp_path / "out/train", ROWS)
    tally(*BARE)


@pytest.fixture
def limit_descriptors() -> Any:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def every_descriptor_taken() -> Iterator[None]:
    """The limit is on the number, so a count of what is open is not enough where numbers between are free."""
    gc.collect()  # or what others left open is closed in the middle
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors as Linux shows them")
def test_few_descriptors_for_a_loader(tmp_path: Path, tally: Tally, limit_descriptors: Callable[[int], None]) -> None:
    """A quarter of what is allowed; where the training has taken all, one sentence says what to do."""
    write_split(tmp_path, shards=[2] * 300)
    how: dict[str, Any] = {
        "size": 8,
        "backend": "torchvision",
        "augment": "eval",
        "tail": "even",
        "fields": ("image", "id"),
    }
    limit_descriptors(64)
    with wdsremux.DataLoader(tmp_path, 20, window="all", **how) as loader:
        seen, most = [], 0
        for _, ids in loader:
            seen += ids.tolist()
            most = max(most, sum(name.endswith(".tar") for name in open_files()))
    assert sorted(seen) == list(range(600))
    assert 1 <= most <= 16 + 1, "one is opened before another is closed"
    limit_descriptors(256)
    says = r"Too many open files\. Close other files, or raise .* `ulimit -n`"
    with (
        wdsremux.DataLoader(tmp_path, 20, **how) as loader,
        every_descriptor_taken(),
        pytest.raises(WdsremuxError, match=says),
    ):
        next(iter(loader))
    tally(*BARE)


# Names

NAMES = {
    "two  spaces": "two  spaces ",
    "quotes": "'\"$(echo)`;&",
    "unicode": "ünïcode 漢字 🙂",
    "a line break": "line\nbreak",
    "a terminal's codes": "\x1b[31mred\t\x07",
    "raw bytes": os.fsdecode(b"raw \xff\xfe"),
    "200 characters": "x" * 200,
    "a pattern": "[1]*?{a}",
    "an address": "a::zip:b%41#c?d=e",
    "a dash": "-dash",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_output(
    source: Path,
    undisturbed: Path,
    tmp_path: Path,
    tally: Tally,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / NAMES[name] / NAMES[name]
    convert(source, out)
    assert digests(out) == digests(undisturbed)
    assert loaded(out) == list(range(ROWS))
    for order in ("verify", "info"):
        monkeypatch.setattr(sys, "argv", ["wdsremux", order, str(out)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
    assert all(line.isprintable() for line in capfd.readouterr().out.splitlines())
    tally(*NAMED)


@pytest.mark.parametrize("kind", ["parquet", "images"])
@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_source(tmp_path: Path, tally: Tally, name: str, kind: str) -> None:
    """Only one that is not UTF-8 is refused, on one line, and nothing is half done."""
    source, out = tmp_path / NAMES[name] / "a" / NAMES[name], tmp_path / "out"
    source.parent.mkdir(parents=True)
    write_pictures(tmp_path / "written").rename(source)  # pyarrow writes under no odd name
    if kind == "images":
        shutil.rmtree(source)
        source.mkdir()
        for i in range(ROWS):
            (source / f"{i}.jpg").write_bytes(picture(i))
    if name == "raw bytes":
        with pytest.raises(SourceError, match="is not UTF-8"):
            convert(source, out)
        assert not out.exists()
    else:
        convert(source, out)
        check_split(out / "train", ROWS)
        assert wdsremux.verify(out) == []
    tally(*NAMED)


def test_a_file_whose_name_is_not_utf8_is_named(tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "pictures").mkdir()
    for i in range(20):
        (tmp_path / "pictures" / os.fsdecode(b"%d\xff.jpg" % i if i == 13 else b"%d.jpg" % i)).write_bytes(picture(i))
    with pytest.raises(SourceError, match=r"the name of 13\\udcff\.jpg in .*pictures is not UTF-8. Rename it"):
        convert(tmp_path / "pictures", tmp_path / "out")
    tally(*NAMED)


def test_the_loader_says_which_file_it_may_not_read(tmp_path: Path) -> None:
    folder = write_split(tmp_path)
    (folder / "index.json").unlink()
    (folder / "index.json").mkdir()
    with pytest.raises(FormatError, match=r"index\.json"):
        wdsremux.DataLoader(tmp_path, 2)
