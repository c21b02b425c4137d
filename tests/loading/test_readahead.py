"""Reading ahead: the same bytes, sooner; bounded in memory, and nothing left behind."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.support.splits import write_split
from wdsremux import machine
from wdsremux.errors import FormatError
from wdsremux.loading.order import ALL, Order
from wdsremux.loading.reader import Reader, disk_probe, open_shards, shard_cache, skip_log
from wdsremux.loading.reader import readahead as readahead_module
from wdsremux.loading.reader.open_shards import Disk
from wdsremux.loading.reader.readahead import Part, ReadAhead
from wdsremux.loading.reader.shard_cache import WholeShards

SHARDS, EACH = 12, 24
PLENTY = 2**34
STEP = 16


class SlowDisk(Disk):
    """Each read that does not go on where the last one of that file ended waits for a seek, as on a spinning disk."""

    def __init__(self, seek_s: float = 2e-3) -> None:
        self.seek_s = seek_s
        self.seeks = 0
        self._ends: dict[int, int] = {}

    def open(self, path: str | os.PathLike[str]) -> int:
        descriptor = super().open(path)
        self._ends.pop(descriptor, None)
        return descriptor

    def read(self, descriptor: int, into: memoryview, offset: int) -> int:
        if self._ends.get(descriptor) != offset:
            self.seeks += 1
            time.sleep(self.seek_s)
        count = super().read(descriptor, into, offset)
        self._ends[descriptor] = offset + count
        return count

    def hint(self, descriptor: int, offset: int, size: int) -> None:
        """One arm: nothing is gained by asking for much at once."""


class HintedDisk(Disk):
    """Notes what is hinted."""

    def __init__(self) -> None:
        self.hinted: list[tuple[str, int, int]] = []
        self._names: dict[int, str] = {}

    def open(self, path: str | os.PathLike[str]) -> int:
        descriptor = super().open(path)
        self._names[descriptor] = Path(path).name
        return descriptor

    def hint(self, descriptor: int, offset: int, size: int) -> None:
        self.hinted.append((self._names[descriptor], offset, size))
        super().hint(descriptor, offset, size)


@pytest.fixture(autouse=True)
def images_are_not_small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """But where a test is of those that are."""
    if "small" not in request.node.name:
        monkeypatch.setattr(readahead_module, "SMALL_SAMPLE_BYTES", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_split(tmp_path, shards=(EACH,) * SHARDS)


@contextmanager
def reading(
    folder: Path,
    disk: Disk,
    *,
    window: int | str = 4,
    lanes: int = 1,
    part: Part | None = None,
    memory: int = PLENTY,
    on_error: str = "raise",
) -> Iterator[tuple[Reader, Order, ReadAhead]]:
    with closing(Reader(folder, on_error=on_error, disk=disk)) as reader:
        order = Order(tuple(shard.nsamples for shard in reader.manifest.shards), 0, window=window, lanes=lanes)
        with closing(ReadAhead(reader, order, part, memory)) as readahead:
            yield reader, order, readahead


def epoch_bytes(reader: Reader, order: Order, readahead: ReadAhead | None, number: int = 0) -> list[bytes]:
    """Every image of an epoch, read in steps."""
    epoch, found = order.epoch(number), []
    for start in range(0, order.nsamples, STEP):
        if readahead is not None:
            readahead.at(epoch, start)
        encoded = reader.read(epoch[np.arange(start, min(start + STEP, order.nsamples))])
        found += [encoded.image(i).tobytes() for i in range(len(encoded))]
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(1e-3)


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("wdsremux")]


# Whole shards, on slow disks


def test_whole_shards_are_read_where_single_reads_are_slow(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same bytes in every epoch, for a few seeks a shard, and the reason is logged."""
    caplog.set_level(logging.INFO, "wdsremux")
    slow = SlowDisk()
    with reading(folder, slow) as (reader, order, readahead):
        plain = [epoch_bytes(reader, order, None, number) for number in range(2)]
        single = slow.seeks
        slow.seeks = 0
        assert [epoch_bytes(reader, order, readahead, number) for number in range(2)] == plain
        assert readahead.whole is not None
        assert not readahead.hints
    assert single > 500
    assert slow.seeks < 200  # one a shard and epoch, but for the first window
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert len(texts) == 1
    assert texts[0].startswith(f"{folder}: reading one sample takes ")
    assert texts[0].endswith("Whole shards are read ahead into memory")


def test_the_next_window_is_in_memory_when_it_begins(folder: Path) -> None:
    """Also over the end of an epoch; what was used up is freed."""
    with reading(folder, SlowDisk()) as (reader, order, readahead):
        for number in range(2):
            epoch = order.epoch(number)
            for window in (epoch.window(0, start) for start in (0, 4 * EACH, 8 * EACH)):
                readahead.at(epoch, window.start)
                whole = readahead.whole
                assert whole is not None
                following = epoch.after(window) or order.epoch(number + 1).window(0, 0)
                wanted = set(window.shards) | set(following.shards)
                wait_for(lambda wanted=wanted, whole=whole: set(whole) == wanted)  # type: ignore[misc]
                sizes = [reader.manifest.shards[shard].size_bytes for shard in wanted]
                assert whole.size_bytes == sum(sizes)
                assert reader.held is whole
        whole = readahead.whole
    assert whole is not None
    assert whole.size_bytes == 0
    assert reader.held == {}
    assert ours() == []


def test_memory_stays_within_its_bound(folder: Path) -> None:
    """Where a window does not fit into half of it, the rest is read one by one."""
    largest = max(path.stat().st_size for path in folder.glob("*.tar"))
    memory = 4 * 4 * largest  # of which a quarter is the bound, and half of that two shards of four
    with reading(folder, SlowDisk(), memory=memory) as (reader, order, readahead):
        plain, seen = epoch_bytes(reader, order, None), []
        epoch = order.epoch(0)
        for start in range(0, order.nsamples, STEP):
            readahead.at(epoch, start)
            encoded = reader.read(epoch[np.arange(start, start + STEP)])
            assert [encoded.image(i).tobytes() for i in range(STEP)] == plain[start : start + STEP]
            assert readahead.whole is not None
            seen.append(readahead.whole.size_bytes)
        assert 0 < max(seen) <= memory // 4


@pytest.mark.parametrize("way", ["memory", "unknown", "window", "quick"])
def test_single_reads_stay(folder: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory does not allow whole shards, all is one window, or the disk is quick."""
    monkeypatch.setattr(machine, "available_bytes", lambda: None)
    disk = Disk() if way == "quick" else SlowDisk(1e-4 if way == "window" else 2e-3)
    with closing(Reader(folder, disk=disk)) as reader:
        order = Order((EACH,) * SHARDS, 0, window=ALL if way == "window" else 4)
        memory = {"memory": 100_000, "unknown": None}.get(way, PLENTY)
        with closing(ReadAhead(reader, order, available_bytes=memory)) as readahead:
            assert epoch_bytes(reader, order, readahead) == epoch_bytes(reader, order, None)
            assert readahead.whole is None
            assert ours() == []
            assert readahead.hints == (way != "window")


def test_small_images_of_a_small_window_are_read_whole(folder: Path) -> None:
    """On a quick disk as well: a read for each would cost more than it takes to decode them."""
    disk = SlowDisk(0)
    with reading(folder, disk) as (reader, order, readahead):
        plain = [epoch_bytes(reader, order, None, number) for number in range(2)]
        disk.seeks = 0
        readahead.at(order.epoch(0), 0)
        whole = readahead.whole
        assert whole is not None
        wait_for(lambda: len(whole) == 8)  # this window and the next; single reads until then
        assert [epoch_bytes(reader, order, readahead, number) for number in range(2)] == plain
    assert disk.seeks < 3 * SHARDS  # twice each, but for the window that an epoch ends and the next begins with


@pytest.mark.parametrize(
    ("option", "value"), [("SMALL_SAMPLE_BYTES", 500), ("SMALL_WINDOW_BYTES", 10_000), ("available_bytes", 100_000)]
)
def test_small_is_bounded(folder: Path, option: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if option != "available_bytes":
        monkeypatch.setattr(readahead_module, option, value)
    with reading(folder, Disk(), memory=value if option == "available_bytes" else PLENTY) as (_, order, readahead):
        readahead.at(order.epoch(0), 0)
        assert readahead.whole is None


def test_small_windows_stay_within_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where those that follow are far larger than the first: shard 0 is small, the others are not."""
    folder = write_split(tmp_path, shards=(1, EACH, EACH, EACH))
    small = (folder / "train-000000.tar").stat().st_size
    monkeypatch.setattr(readahead_module, "SMALL_WINDOW_BYTES", small)
    monkeypatch.setattr(readahead_module, "SMALL_SAMPLE_BYTES", small)
    with reading(folder, Disk(), window=1) as (_, order, readahead):
        number = next(n for n in range(100) if order.epoch(n).window(0, 0).shards == (0,))
        for start in range(order.nsamples):
            readahead.at(order.epoch(number), start)
            whole = readahead.whole
            assert whole is not None
            assert whole.size_bytes <= 2 * small


def test_small_shares_of_a_window_are_read_one_by_one(folder: Path) -> None:
    with reading(folder, Disk(), part=Part(rank=1, world=4)) as (_, order, readahead):
        readahead.at(order.epoch(0), 0)
        assert readahead.whole is None


def test_lanes_have_windows_of_their_own(folder: Path) -> None:
    """A rank whose lane is one of two holds that lane's shards only; one that reads both, those of both."""
    for part, lanes in ((Part(1, 2), range(1, 2)), (Part(0, 1), range(2))):
        with reading(folder, SlowDisk(), window=2, lanes=2, part=part) as (_, order, readahead):
            epoch = order.epoch(0)
            readahead.at(epoch, 0)
            whole = readahead.whole
            assert whole is not None
            windows = [epoch.window(lane, 0) for lane in lanes]
            windows += [after for window in windows if (after := epoch.after(window)) is not None]
            wanted = {shard for window in windows for shard in window.shards}
            wait_for(lambda wanted=wanted, whole=whole: set(whole) == wanted)  # type: ignore[misc]


def test_a_small_part_of_a_window_is_not_worth_whole_shards(folder: Path) -> None:
    """One of 64 ranks takes a sample of 64: on this disk, fewer than there are shards to seek in."""
    with reading(folder, SlowDisk(), part=Part(0, 64)) as (_, order, readahead):
        readahead.at(order.epoch(0), 0)
        assert readahead.whole is None
        assert not readahead.hints  # and for the page cache, it would be 63 too many


def missing(folder: Path, name: str) -> None:
    (folder / name).unlink()


def short(folder: Path, name: str) -> None:
    os.truncate(folder / name, 4096)


def long(folder: Path, name: str) -> None:
    with open(folder / name, "ab") as file:
        file.write(b"\0")


def another(folder: Path, name: str) -> None:
    other = "train-000000.tar" if name != "train-000000.tar" else "train-000001.tar"
    content = (folder / other).read_bytes()
    size = (folder / name).stat().st_size
    (folder / name).write_bytes(content[:size].ljust(size, b"\0"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (missing, "cannot be opened"),
        (short, "was changed after"),
        (long, "was changed after"),
        (another, "is damaged, or is another shard"),
    ],
    ids=["missing", "short", "long", "another"],
)
def test_a_bad_shard_is_found_in_memory_as_on_disk(
    folder: Path, damage: Callable[[Path, str], None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in the second window, which is waited for."""
    monkeypatch.setattr(skip_log, "LOG", skip_log.SkipLog())
    order = Order((EACH,) * SHARDS, 0, window=4)
    bad = order.epoch(0).window(0, 4 * EACH).shards[1]
    name = f"train-{bad:06d}.tar"
    damage(folder, name)
    with (
        reading(folder, SlowDisk()) as (reader, order, readahead),
        pytest.raises(FormatError, match=f"{name} {sentence}"),
    ):
        epoch_bytes(reader, order, readahead)
    with reading(folder, SlowDisk(), on_error="skip") as (reader, order, readahead):
        assert len(epoch_bytes(reader, order, readahead)) == order.nsamples
        assert readahead.whole is not None
        assert bad not in readahead.whole


def test_what_was_announced_is_waited_for(folder: Path) -> None:
    """What was not is read singly meanwhile; and nobody waits for a shard that cannot come."""
    with closing(Reader(folder)) as reader:
        (folder / "train-000003.tar").unlink()
        whole = WholeShards(reader.split, SlowDisk(0.05), PLENTY)
        with closing(whole):
            whole.hold([0, 1], [2, 3])
            assert 1 not in whole
            whole.hold([2, 3], [4])
            assert len(whole[2]) == reader.manifest.shards[2].size_bytes
            assert 3 not in whole
            assert set(whole) <= {2, 4}


def test_closing_does_not_wait_for_what_is_still_to_be_read(folder: Path) -> None:
    for use in (False, True):
        with closing(Reader(folder)) as reader:
            whole = WholeShards(reader.split, SlowDisk(0.2), PLENTY)
            start = time.monotonic()
            if use:
                whole.hold(list(range(SHARDS)), [])
            whole.close()
            assert time.monotonic() - start < 1.5
            assert ours() == []
            assert whole.size_bytes == 0


def test_closing_ends_in_the_middle_of_a_shard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does a window that is passed over: what is not wanted any more is not read to its end."""

    class Steady(Disk):
        def read(self, descriptor: int, into: memoryview, offset: int) -> int:
            time.sleep(0.02)
            return super().read(descriptor, into, offset)

    monkeypatch.setattr(shard_cache, "BLOCK_BYTES", 256)
    with closing(Reader(folder)) as reader:
        assert reader.manifest.shards[0].size_bytes > 256 * 60  # 1.2 s a shard
        whole = WholeShards(reader.split, Steady(), PLENTY)
        whole.hold([0, 1], [])
        time.sleep(0.1)
        start = time.monotonic()
        whole.close()
        assert time.monotonic() - start < 0.8


def test_a_reader_ahead_may_be_closed_unused(folder: Path) -> None:
    with reading(folder, Disk()) as (_, _, readahead):
        readahead.close()
        readahead.close()
        assert readahead.whole is None
    assert ours() == []


# The trial


def test_the_trial_of_a_quick_disk_is_quick(folder: Path) -> None:
    with closing(Reader(folder)) as reader:
        start = time.monotonic()
        speed = disk_probe.measure(reader, range(SHARDS))
        assert time.monotonic() - start < 0.5
        assert speed is not None
        assert 0 < speed.sample_s < 0.1


def test_the_trial_of_a_very_slow_disk_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_probe, "DEADLINE_S", 0.2)
    for known in (False, True):  # opening costs a read itself; then only the reads do
        disk = SlowDisk(0.0 if known else 0.1)
        with closing(Reader(folder, disk=disk)) as reader:
            if known:
                reader.read(np.arange(SHARDS * EACH))
            disk.seek_s = 0.1
            start = time.monotonic()
            speed = disk_probe.measure(reader, range(SHARDS))
            assert time.monotonic() - start < 1.0
        assert speed is not None
        assert 0.1 <= speed.sample_s < 0.3


def test_a_trial_that_meets_a_bad_shard_says_nothing(folder: Path) -> None:
    for path in folder.glob("*.tar"):
        path.unlink()
    with closing(Reader(folder)) as reader:
        assert disk_probe.measure(reader, range(SHARDS)) is None
        assert disk_probe.measure(reader, [0]) is None


# Hints, on quick disks


def hinted_ahead(disk: HintedDisk) -> list[tuple[str, int]]:
    """Whole pieces, as against single samples."""
    return [(name, offset) for name, offset, size in disk.hinted if size == readahead_module.HINT_BYTES]


@pytest.fixture
def small_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead_module, "HINT_BYTES", 4096)
    monkeypatch.setattr(readahead_module, "HINTS_A_STEP", 1_000)


def pieces(reader: Reader, numbers: tuple[int, ...]) -> set[tuple[str, int]]:
    about = [reader.manifest.shards[number] for number in numbers]
    return {(shard.url, offset) for shard in about for offset in range(0, shard.size_bytes, 4096)}


@pytest.mark.usefixtures("small_hints")
def test_the_next_window_is_hinted_bit_by_bit(folder: Path) -> None:
    disk = HintedDisk()
    with reading(folder, disk) as (reader, order, readahead):
        epoch = order.epoch(0)
        window = epoch.window(0, 0)
        following = epoch.after(window)
        assert following is not None
        wanted, counts = pieces(reader, following.shards), []
        for start in range(0, window.stop, STEP):
            readahead.at(epoch, start)
            counts.append(len(hinted_ahead(disk)))
        assert readahead.hints
        assert set(hinted_ahead(disk)) <= wanted
        assert len(hinted_ahead(disk)) > 0.7 * len(wanted)
        assert max(np.diff([0, *counts])) < 0.25 * len(wanted)
        done = len(hinted_ahead(disk))
        for start in range(8 * EACH, 12 * EACH, STEP):  # the last window, and then the next epoch's first
            readahead.at(epoch, start)
        assert set(hinted_ahead(disk)[done:]) <= pieces(reader, order.epoch(1).window(0, 0).shards)
        assert len(hinted_ahead(disk)) > done


@pytest.mark.usefixtures("small_hints")
def test_a_step_gives_a_few_hints_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a run is resumed late in a window."""
    monkeypatch.setattr(readahead_module, "HINTS_A_STEP", 2)
    disk = HintedDisk()
    with reading(folder, disk) as (_, order, readahead):
        for count in (2, 4, 6):
            readahead.at(order.epoch(0), 3 * EACH)
            assert len(hinted_ahead(disk)) == count


@pytest.mark.usefixtures("small_hints")
def test_hints_stay_within_a_bound(folder: Path) -> None:
    disk = HintedDisk()
    with reading(folder, disk, memory=8 * 5 * 4096) as (_, order, readahead):
        epoch = order.epoch(0)
        for start in range(0, 4 * EACH, STEP):
            readahead.at(epoch, start)
        assert len(hinted_ahead(disk)) == 5


@pytest.mark.usefixtures("small_hints")
def test_ranks_of_a_machine_share_the_hints(folder: Path) -> None:
    """They share its page cache, too."""
    found: list[tuple[str, int]] = []
    for rank in range(4):
        disk = HintedDisk()
        with reading(folder, disk, part=Part(rank, 4, 4)) as (_, order, readahead):
            for start in range(0, 4 * EACH, STEP):
                readahead.at(order.epoch(0), start)
            found += hinted_ahead(disk)
    assert len(found) == len(set(found)) > 0


def test_where_the_system_takes_no_hints_all_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(open_shards, "_ADVISE", None)
    with reading(folder, Disk()) as (reader, order, readahead):
        assert epoch_bytes(reader, order, readahead) == epoch_bytes(reader, order, None)


def test_few_descriptors_are_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_shards, "OPEN_SHARDS", 3)
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counts descriptors as Linux shows them")
    for disk in (Disk(), SlowDisk()):
        before, most = len(os.listdir("/proc/self/fd")), 0
        with reading(folder, disk) as (reader, order, readahead):
            epoch = order.epoch(0)
            for start in range(0, order.nsamples, STEP):
                readahead.at(epoch, start)
                reader.read(epoch[np.arange(start, start + STEP)])
                most = max(most, len(os.listdir("/proc/self/fd")))
        assert most - before <= 3 + 2  # and the table, and the shard under way
