"""A conversion killed again and again, at moments drawn over its whole life: the same files as if nothing had been.

A few kills here; with WDSREMUX_SOAK=1, hundreds. Each story is drawn by a seed that its name holds, but two workers are
never twice at the same place.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil  # type: ignore[import-untyped]
import pytest

from tests.support import tracing
from tests.support.hub import Hub
from tests.support.killing import PATIENCE_S, check_words, gone, killed, running, servers, until_it_ends, workers
from tests.support.reading import check_split, sha256
from tests.support.small import ROWS, command, files_of, some_wait, write_small
from tests.support.soak import soaking
from tests.support.tracing import Strike

pytestmark = pytest.mark.system
KILLS = {"local": 140, "hub": 80, "mending": 60} if soaking() else {"local": 3, "hub": 1, "mending": 2}
#: Who dies: all processes, mostly; the first one alone; a worker; the one that workers are forked from.
VICTIMS = ["all"] * 7 + ["parent", "worker", "server"]
#: What may stand there when a run was killed, beside files that are whole.
UNFINISHED = re.compile(
    r"(?:.*/)?\.[^/]*\.partial|train/\.wdsremux/task-\d{6}-[^/]+/.*|(?:train/\.wdsremux/|\.)lock"
    r"|train/\.wdsremux/asked\.json"  # it says where OUT is
)
JOURNAL = re.compile(r"train/\.wdsremux/")
BETWEEN = "SIGKILL between writing a file and renaming it"
MENDING = "SIGKILL while a finished split is repaired, or removed by --overwrite"
ROWS_OF_TABLE = {
    "all": ("SIGKILL of all processes of a conversion", "same bytes after the same command"),
    "parent": ("SIGKILL of the main process of a conversion alone", "workers end; same bytes after the same command"),
    "worker": (
        "SIGKILL of one worker, or of the server that workers are forked from",
        "the run continues by itself; same bytes",
    ),
}


@dataclass(frozen=True, slots=True)
class Story:
    kind: str  #: a source, or "mending"
    seed: int
    kills: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.seed}-{self.kills}"


def stories(kind: str) -> list[Story]:
    """As many kills as are due, in stories of three to six."""
    random, left = Random(kind), KILLS[kind]
    told: list[Story] = []
    while left:
        told.append(Story(kind, len(told), min(left, random.randint(3, 6))))
        left -= told[-1].kills
    return told


@dataclass(slots=True)
class Place:
    """Where a conversion is killed, and what shall stand there in the end."""

    source: str | Path
    out: Path
    whole: Path  #: OUT of a run that nothing disturbed
    environment: dict[str, str]
    mending: bool
    logs: Path
    tried: list[str] = field(default_factory=list)  #: who died, or between what

    @property
    def lacking(self) -> int:
        """How many files have yet to come, locks not counted; one or more renames each."""
        return len(self._expected - files_of(self.out))

    @property
    def _expected(self) -> set[str]:
        """Files that there shall be in the end. Mending makes no records of tasks of which nothing is lost."""
        names = {name for name in files_of(self.whole) if not UNFINISHED.fullmatch(name)}
        return {name for name in names if not JOURNAL.match(name)} if self.mending else names

    def begin(self, random: Random) -> None:
        """An empty place; or a finished split that lacks files."""
        shutil.rmtree(self.out, ignore_errors=True)
        if not self.mending:
            return
        shutil.copytree(self.whole, self.out)
        if random.random() < 0.5:
            shutil.rmtree(self.out / "train/.wdsremux")
        names = sorted(path.name for path in (self.out / "train").glob("[!.]*") if path.name != "index.json")
        for name in random.sample(names, random.randint(3, 12)):
            (self.out / "train" / name).unlink()

    def check_so_far(self) -> None:
        """Whatever has its final name is what it shall be."""
        for name in sorted(files_of(self.out)):
            if not UNFINISHED.fullmatch(name):
                assert sha256(self.out / name) == sha256(self.whole / name), name

    def check(self) -> None:
        """All is there, and nothing else."""
        self.check_so_far()
        assert self._expected <= files_of(self.out) <= files_of(self.whole)
        check_split(self.out / "train", ROWS)


@pytest.fixture(scope="module")
def small(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("small"), sample)


@pytest.fixture(scope="module")
def hub(small: Path) -> Iterator[Hub]:
    with Hub({"ours/small": small}) as hub:
        yield hub


def finish(source: str | Path, out: Path, environment: dict[str, str]) -> None:
    with running(command(source, out), environment) as process:
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    check_words(said)


@pytest.fixture(scope="module")
def undisturbed(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    finish(small, out, {})
    return out


@pytest.fixture(scope="module")
def undisturbed_hub(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    finish("ours/small", folder / "out", hub.environment(folder / "home"))
    return folder / "out"


@pytest.mark.parametrize("story", stories("local"), ids=str)
def test_from_this_machine(
    small: Path, undisturbed: Path, tmp_path: Path, story: Story, tally: Callable[[str, str], None]
) -> None:
    live_through(story, Place(small, tmp_path / "out", undisturbed, {}, False, tmp_path / "logs"), tally)


@pytest.mark.parametrize("story", stories("hub"), ids=str)
def test_from_the_hub(
    hub: Hub, undisturbed_hub: Path, tmp_path: Path, story: Story, tally: Callable[[str, str], None]
) -> None:
    environment = hub.environment(tmp_path / "home")
    live_through(
        story, Place("ours/small", tmp_path / "out", undisturbed_hub, environment, False, tmp_path / "logs"), tally
    )


@pytest.mark.parametrize("story", stories("mending"), ids=str)
def test_while_a_finished_split_is_mended(
    small: Path, undisturbed: Path, tmp_path: Path, story: Story, tally: Callable[[str, str], None]
) -> None:
    live_through(story, Place(small, tmp_path / "out", undisturbed, {}, True, tmp_path / "logs"), tally)


@pytest.mark.parametrize("number", range(1, 76, 6) if soaking() else [30])
def test_while_a_finished_split_is_removed(
    small: Path, undisturbed: Path, tmp_path: Path, number: int, tally: Callable[[str, str], None]
) -> None:
    """What is left of it is never taken for a part of what was to come in its place."""
    place = Place(small, tmp_path / "out", undisturbed, {}, False, tmp_path / "logs")
    shutil.copytree(undisturbed, place.out)
    other = [*command(small, place.out), "--quality", "50"]
    strike = Strike("after", "unlink", number)
    with running([*other, "--overwrite"], tracing.environment(place.out, place.logs, strike)) as process:
        gone(process)
        assert process.returncode == -9
    with running(other) as process:
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "was started with quality 90, but this run asks for 50" in said
    finish(place.source, place.out, place.environment)
    place.check()
    tally(MENDING, ROWS_OF_TABLE["all"][1])


def live_through(story: Story, place: Place, tally: Callable[[str, str], None]) -> None:
    random = Random(f"{story}")
    place.begin(random)
    while len(place.tried) < story.kills:
        if random.random() < 0.5:
            killed_at_a_call(place, random)
        else:
            killed_from_outside(place, random)
        place.check_so_far()
        if not place.lacking:
            finish(place.source, place.out, place.environment)
            place.check()
            place.begin(random)
    finish(place.source, place.out, place.environment)
    place.check()
    for victim in place.tried:
        fault, outcome = ROWS_OF_TABLE.get(victim, (BETWEEN, ROWS_OF_TABLE["all"][1]))
        tally(MENDING if place.mending else fault, ROWS_OF_TABLE["all"][1] if place.mending else outcome)


def killed_at_a_call(place: Place, random: Random) -> None:
    """All processes die when one of them is about to rename or sync a file, or has just done so."""
    when, call = random.choice([("before", "rename"), ("before", "rename"), ("after", "rename"), ("before", "fsync")])
    log = place.logs / str(len(place.tried))
    strike = Strike(when, call, random.randint(1, place.lacking))
    with running(
        command(place.source, place.out), place.environment | tracing.environment(place.out, log, strike)
    ) as process:
        gone(process)
        assert process.returncode == -9, process.stderr and process.stderr.read()
    _, partial = tracing.struck(log)
    if call == "rename":
        assert Path(partial).exists() == (when == "before"), partial
    place.tried.append("between" if (when, call) == ("before", "rename") else "all")


def killed_from_outside(place: Place, random: Random) -> None:
    """Some process dies when some more files have their names; or a little later, when a shard waits for its own."""
    lacking = place.lacking + 1 - random.randint(1, place.lacking)
    waits = random.random() < 0.4
    victim = random.choice(VICTIMS)
    with running(command(place.source, place.out), place.environment) as process:
        if not until_it_ends(lambda: has_come(place, lacking, waits), process):
            gone(process)
            assert process.returncode == 0
            return
        if victim in ("all", "parent"):
            killed(process, whole=victim == "all")
            check_words(process.communicate(timeout=PATIENCE_S)[1])
            place.tried.append(victim)
            return
        for chosen in (workers if victim == "worker" else servers)(process)[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
                chosen.kill()
                place.tried.append("worker")
        _, said = process.communicate(timeout=PATIENCE_S)
        gone(process)
        assert process.returncode == 0, said
        check_words(said)


def has_come(place: Place, lacking: int, waits: bool) -> bool:
    if place.lacking >= lacking:
        return False
    return not waits or some_wait(place.out)
