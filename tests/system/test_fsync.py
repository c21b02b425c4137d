"""A power loss at any moment leaves whole files: what every process of a real conversion syncs, and in which order."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from tests.support import tracing
from tests.support.killing import PATIENCE_S, running
from tests.support.small import command, files_of, final_digests, write_small
from tests.support.tracing import Event

pytestmark = pytest.mark.system
LOCKS = {".lock", "train/.wdsremux/lock"}  #: nobody reads them
#: Files that say that others are whole: what they speak of must be on the disk before them.
_SPEAKS_OF_OTHERS = re.compile(r"train/(?:index\.json|\.wdsremux/task-\d+\.json)")


def traced(source: Path, out: Path, log: Path) -> list[Event]:
    """Convert, and return what was made, synced and renamed in OUT and the folder of the test."""
    with running(command(source, out), tracing.environment(log.parent, log)) as process:
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return tracing.events(log)


@pytest.fixture(scope="module")
def small(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("small"), sample)


def test_what_has_its_final_name_is_on_the_disk(small: Path, tmp_path: Path, tally: Callable[[str, str], None]) -> None:
    """In a conversion, and in one that mends: it makes each kind of file once more."""
    out = tmp_path / "here/out"
    events = traced(small, out, tmp_path / "log")
    renamed = {name(event, out) for event in events if event.call == "rename"}
    assert renamed == files_of(out) - LOCKS
    assert len({event.process for event in events if event.call == "rename"}) == 3  # two workers, and who waits
    before = final_digests(out)
    for lost in ("train-000003.tar", "train-000007.idx", "samples.npy", "rejects.jsonl"):
        (out / "train" / lost).unlink()
    mended = traced(small, out, tmp_path / "log again")
    assert final_digests(out) == before
    assert {f"train/{lost}" for lost in ("train-000003.tar", "train-000007.idx", "samples.npy", "rejects.jsonl")} <= {
        name(event, out) for event in mended if event.call == "rename"
    }
    for log in (events, mended):
        check_content_first(log)
        check_names_next(log, out)
    check_folders(events, out)
    tally("a power cut at any moment", "each file and its name was on the disk before anything relied on it")


def name(event: Event, out: Path) -> str:
    return str(Path(event.path).relative_to(out))


def check_content_first(events: list[Event]) -> None:
    """Each file was written beside its name, and synced as it was when it was renamed, by the same process."""
    synced = set()
    for event in events:
        state = (event.process, event.inode, event.size, event.mtime_ns)
        if event.call == "fsync":
            synced.add(state)
        assert event.call != "rename" or event.source != event.path, f"{event.path} is written where it stands"
        assert event.call != "rename" or state in synced, f"{event.source} is renamed before it is on the disk"


def check_names_next(events: list[Event], out: Path) -> None:
    """The folder of each renamed file is synced by the same process before it goes on to another folder or ends.

    And by that time, before anything that speaks of the file is renamed.
    """
    waiting: dict[int, list[Event]] = {}  #: renames that the disk may not know of yet, by process
    for event in events:
        mine = waiting.setdefault(event.process, [])
        folder = str(Path(event.path).parent)
        if event.call == "fsync" and event.folder:
            waiting[event.process] = [other for other in mine if str(Path(other.path).parent) != event.path]
        elif event.call == "rename":
            others = [*chain.from_iterable(waiting.values())] if name(event, out) == "train/index.json" else mine
            speaks = _SPEAKS_OF_OTHERS.fullmatch(name(event, out))
            late = [other for other in others if speaks or str(Path(other.path).parent) != folder]
            assert not late, f"{event.path} is renamed before the name of {late[0].path} is on the disk"
            mine.append(event)
    late = [*chain.from_iterable(waiting.values())]
    assert not late, f"the name of {late[0].path} never comes to the disk"


def check_folders(events: list[Event], out: Path) -> None:
    """The names of OUT and its folders are on the disk before the plan, with which work begins."""
    made = [event.path for event in events if event.call == "mkdir" and "task-" not in event.path]
    assert set(made) == {str(out.parent), str(out), str(out / "train"), str(out / "train/.wdsremux")}
    plan = next(i for i, event in enumerate(events) if event.call == "rename")
    assert name(events[plan], out) == "train/.wdsremux/plan.json"
    synced = {event.path for event in events[:plan] if event.call == "fsync" and event.folder}
    assert {str(Path(path).parent) for path in made} <= synced


def test_the_trace_sees_a_process_that_does_not_sync(tmp_path: Path) -> None:
    """Were the calls not seen in every process, the test above would pass whatever is done."""
    out = tmp_path / "out"
    out.mkdir()
    script = (
        "import os, pathlib, sys; p = pathlib.Path(sys.argv[1]); (p / 'a').write_bytes(b'1'); (p / 'a').rename(p / 'b')"
    )
    log = tmp_path / "log"
    with running([sys.executable, "-c", script, str(out)], tracing.environment(out, log)) as process:
        assert process.communicate(timeout=PATIENCE_S)[1] == ""
    events = tracing.events(log)
    assert [(event.call, event.size) for event in events] == [("rename", 1)]
    with pytest.raises(AssertionError, match="before it is on the disk"):
        check_content_first(events)
    with pytest.raises(AssertionError, match="never comes to the disk"):
        check_names_next(events, out)
