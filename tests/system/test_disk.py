"""A disk that is full, read-only or gone; a set that was copied, renamed, linked to: nothing is lost."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wdsremux
from tests.support.places import (
    PAGE_BYTES,
    ROWS,
    Stopped,
    command,
    convert,
    fill,
    loaded,
    read_only,
    run,
    sentence,
    small_disk,
    stop_halfway,
    without_rights,
)
from tests.support.reading import check_split, digests
from tests.support.soak import soaking, tries
from wdsremux.conversion.events import Event, Finished, Planned, Progress
from wdsremux.errors import ConversionError, OutputError, SpaceError, WdsremuxError

pytestmark = pytest.mark.system
Tally = Callable[[str, str], None]
FULL = (
    "a full disk, while writing the plan, a shard and the manifest",
    "a clear error; after making room, the same bytes",
)
SEALED = ("a read-only disk or folder", "a finished set can be read and verified; otherwise a clear error")
GONE = ("OUT removed or renamed during the run", "a clear error, no hang; the same command resumes")
MOVED = ("OUT copied, renamed or linked, its times lost, a clock set back", "resumes; same bytes")
TWO = ("two conversions at once, into one split or two", "one is refused or finds the split finished; same bytes")


# Full


def attempt(
    source: Path, out: Path, left_bytes: int, after_rows: int = 0, container: str = "tar"
) -> WdsremuxError | None:
    """Convert on a disk that is full but for so many bytes once so many rows are baked; gives what came of it."""
    ballast: list[Path] = []
    rows = 0

    def tell(event: Event) -> None:
        nonlocal rows
        if isinstance(event, Planned | Progress):
            rows += event.rows_done if isinstance(event, Planned) else event.rows
            if rows >= after_rows and not ballast:
                ballast.append(fill(out.parent, left_bytes))

    try:
        convert(source, out, tell, container=container)
    except WdsremuxError as error:
        return error
    finally:
        for file in ballast:
            file.unlink()
    return None


def test_full_at_the_plan(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    with small_disk(tmp_path / "disk") as disk:
        ballast = fill(disk)
        with pytest.raises(ConversionError, match=r"train cannot be written to: No space left on device\. Run"):
            convert(source, disk / "out")
        ballast.unlink()
        assert not (disk / "out/train/.wdsremux/plan.json").exists()
        convert(source, disk / "out")
        assert digests(disk / "out") == digests(undisturbed)
    tally(*FULL)


@pytest.mark.parametrize("container", ["tar", "parquet"])
def test_full_in_mid_shard(
    source: Path,
    undisturbed: Path,
    tmp_path: Path,
    tally: Tally,
    container: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Before the first, where the estimate stops the run; or in the last task's shards, indexes, and record."""
    if container != "tar":
        undisturbed = tmp_path / "undisturbed"
        convert(source, undisturbed, container=container)
    task_bytes = sum(path.stat().st_size for path in undisturbed.glob("train/train-*")) // 3
    told = set()
    with small_disk(tmp_path / "disk") as disk:
        assert isinstance(attempt(source, disk / "out", 0, container=container), SpaceError)
        rounds = itertools.repeat(range(0, task_bytes, PAGE_BYTES if soaking() else task_bytes // 4), 3)
        for left_bytes in itertools.chain.from_iterable(rounds):
            if left_bytes == 0 and "task" in told:
                break  # else this process was too late to fill the disk under the workers' hands
            error = attempt(source, disk / "out", left_bytes, ROWS, container)
            if error is None:
                shutil.rmtree(disk / "out")
                continue
            assert "No space left on device" in str(error)
            assert f"{disk}/out/train" in str(error)
            told.add(str(error).partition(" ")[0])
            tally(*FULL)
        assert "task" in told
        convert(source, disk / "out", container=container)
        assert digests(disk / "out") == digests(undisturbed)
        assert not list(disk.glob("out/train/.wdsremux/task-*-*")), "left half-written"
    said = capfd.readouterr().err
    assert "Exception ignored" not in said
    assert "Traceback" not in said


def test_full_at_the_manifest(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    """Page by page: the table, the rejects, the manifest, the card. Nothing is baked twice."""
    with small_disk(tmp_path / "disk") as disk:
        convert(source, disk / "out")
        for name in ("train/index.json", "train/samples.npy", "train/rejects.jsonl", "README.md", "_info.json"):
            (disk / "out" / name).unlink()
        failed = 0
        while (error := attempt(source, disk / "out", failed * PAGE_BYTES)) is not None:
            assert "cannot be written to: No space left on device" in str(error)
            failed += 1
            tally(*FULL)
        assert 3 <= failed < 20
        assert digests(disk / "out") == digests(undisturbed)
        assert wdsremux.verify(disk / "out") == []


# Read-only


def test_a_finished_set_on_a_read_only_disk(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    events: list[Event] = []
    with read_only(undisturbed, tmp_path / "disk") as out:
        convert(source, out, events.append)
        assert [isinstance(event, Finished) and event.already for event in events] == [True]
        assert wdsremux.verify(out, decode=True) == []
        assert loaded(out) == list(range(ROWS))
        with pytest.raises(OutputError, match="was started with seed 0, but this run asks for 1"):
            convert(source, out, seed=1)
    tally(*SEALED)


@pytest.mark.parametrize("begun", [False, True])
def test_an_unfinished_one_is_refused(
    source: Path, undisturbed: Path, tmp_path: Path, tally: Tally, begun: bool
) -> None:
    (tmp_path / "out").mkdir()
    if begun:
        stop_halfway(source, tmp_path / "out")
    with (
        read_only(tmp_path / "out", tmp_path / "disk") as out,
        pytest.raises(WdsremuxError, match="train cannot be written to: Read-only file system"),
    ):
        convert(source, out)
    convert(source, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(undisturbed)
    tally(*SEALED)


READ = """
import sys, wdsremux
from tests.support.places import ROWS, convert, loaded
out, source = sys.argv[1:]
assert wdsremux.verify(out) == []
assert loaded(out) == list(range(ROWS))
convert(source, out)
"""


def test_a_folder_without_a_write_bit(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    places = [out, *out.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = run([*without_rights(), sys.executable, "-c", READ, str(out), str(source)])
        assert (done.returncode, done.stderr) == (0, "")
        done = run([*without_rights(), *command(source, tmp_path / "out", "--overwrite")])
        assert "train cannot be written to: Permission denied" in sentence(done)
    finally:
        for path in places:
            path.chmod(0o755)
    assert digests(out) == digests(undisturbed)
    tally(*SEALED)


# Gone


@pytest.mark.parametrize("place", ["", "train", "train/.wdsremux"])
@pytest.mark.parametrize("renamed", [False, True])
def test_taken_away_during_the_run(
    source: Path, undisturbed: Path, tmp_path: Path, tally: Tally, place: str, renamed: bool
) -> None:
    """Removed, or renamed: a shell in another window. Nothing hangs, and nobody is told that it is finished."""
    out, taken = tmp_path / "out", False

    def tell(event: Event) -> None:
        nonlocal taken
        if isinstance(event, Progress) and not taken:
            taken = True
            if renamed:
                (out / place).rename(tmp_path / "other")
            else:
                shutil.rmtree(out / place, ignore_errors=True)  # workers may be writing into it

    began_s = time.monotonic()
    with pytest.raises(ConversionError, match=r"No such file or directory.*Run the same command again to resume"):
        convert(source, out, tell, workers=2)
    assert time.monotonic() - began_s < 20
    assert not (out / "train/index.json").exists()
    if not renamed:
        shutil.rmtree(out / place, ignore_errors=True)  # what a worker wrote while the rest was being removed
    convert(source, out)
    assert digests(out) == digests(undisturbed)
    if renamed and not place:
        convert(source, tmp_path / "other")
        assert digests(tmp_path / "other") == digests(undisturbed)
    tally(*GONE)


# Moved


def copied(out: Path, other: Path) -> Path:
    return shutil.copytree(out, other)


def copied_without_times(out: Path, other: Path) -> Path:
    return shutil.copytree(out, other, copy_function=shutil.copyfile)


def renamed(out: Path, other: Path) -> Path:
    return out.rename(other)


def linked(out: Path, other: Path) -> Path:
    other.symlink_to(out)
    return other


def split_linked(out: Path, other: Path) -> Path:
    renamed(out / "train", other)
    (out / "train").symlink_to(other)
    return out


def shards_linked(out: Path, other: Path) -> Path:
    other.mkdir()
    for path in out.glob("train/*.tar"):
        path.rename(other / path.name).chmod(0o444)
        path.symlink_to(other / path.name)
    return out


def from_the_future(out: Path, other: Path) -> Path:
    """A clock set back: whatever is written from now on looks older than all that is there."""
    for path in out.rglob("*"):
        os.utime(path, (2**31, 2**31))
    return out


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "move", [copied, copied_without_times, renamed, linked, split_linked, shards_linked, from_the_future]
)
def test_moved(
    source: Path,
    undisturbed: Path,
    tmp_path: Path,
    tally: Tally,
    move: Callable[[Path, Path], Path],
    finished: bool,
) -> None:
    out, events = tmp_path / "out", list[Event]()
    (convert if finished else stop_halfway)(source, out)
    moved = move(out, tmp_path / "other")
    assert convert(source, moved, events.append) == []
    if finished:
        assert [isinstance(event, Finished) and event.already for event in events] == [True]
    else:
        assert next(event for event in events if isinstance(event, Planned)).rows_done >= ROWS // 3
    assert digests(moved) == digests(undisturbed)
    assert wdsremux.verify(moved) == []
    assert loaded(moved) == list(range(ROWS))
    tally(*MOVED)


def test_the_source_through_a_link(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "folder").symlink_to(source)
    (tmp_path / "files/pictures/data").mkdir(parents=True)
    for path in (source / "data").iterdir():
        (tmp_path / "files/pictures/data" / path.name).symlink_to(path)
    for place in ("folder", "files/pictures"):
        out = tmp_path / f"out-{place[:5]}"
        stop_halfway(source, out)
        assert convert(tmp_path / place, out) == []
        assert digests(out) == digests(undisturbed)
        tally(*MOVED)


def test_a_link_that_leads_nowhere(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="train cannot be written to: File exists"):
        convert(source, tmp_path / "out")


# Two at once


def test_two_conversions_at_once(source: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    """Two into one split and one into another, begun at once: each is written once, and the card names both."""
    both = shutil.copytree(source, tmp_path / "pictures")
    shutil.copy(next(both.glob("data/train-*")), both / "data/test-00000-of-00001.parquet")
    alone = digests(undisturbed)
    for number in range(tries(1, 20)):
        out = tmp_path / f"out{number}"
        running = [
            subprocess.Popen(command(both, out, "--split", split), stderr=subprocess.PIPE, text=True)
            for split in ("train", "train", "test")
        ]
        said = [process.communicate(timeout=120)[1] for process in running]
        for process, text in zip(running, said, strict=True):
            assert "Traceback" not in text
            assert process.returncode == 0 or "another process is converting into" in text.splitlines()[-1]
        first, second, other = (process.returncode for process in running)
        assert sorted((first, second)) in ([0, 0], [0, 1])
        assert other == 0
        tars = {name: digest for name, digest in digests(out).items() if name.startswith("train/train-")}
        assert tars == {name: digest for name, digest in alone.items() if name.startswith("train/train-")}
        assert wdsremux.verify(out) == []
        check_split(out / "test", ROWS)
        card = (out / "README.md").read_text()
        assert "split: train" in card
        assert "split: test" in card
        tally(*TWO)


def test_it_stops_when_told(source: Path, tmp_path: Path) -> None:
    """What these tests stand on: the stop leaves a task done, and others not."""
    stop_halfway(source, tmp_path / "out")
    assert 1 <= len(list(tmp_path.glob("out/train/.wdsremux/task-*.json"))) <= 2
    assert issubclass(Stopped, Exception)
