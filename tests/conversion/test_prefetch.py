"""Reading ahead gives what reading in turn gives, keeps to its bounds, and leaves no thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsremux.conversion import prefetch
from wdsremux.conversion.prefetch import Reading
from wdsremux.conversion.source import Rows

BATCH_BYTES = 1_000


def batch(fragment: int, first: int, nbytes: int = BATCH_BYTES) -> Rows:
    """One row, which takes `nbytes` and the 8 of its two offsets."""
    return Rows(
        fragment=fragment,
        first=first,
        image_column="image",
        images=pa.array([b"\0" * (nbytes - 8)], pa.binary()),
        paths=pa.nulls(1, pa.string()),
        label_column=None,
        labels=pa.nulls(1, pa.int64()),
        kept=pa.table({}),
    )


def given_out(fragment: int, sizes: Sequence[int]) -> Iterator[Rows]:
    for first, nbytes in enumerate(sizes):
        yield batch(fragment, first, nbytes)


def reading(fragment: int, sizes: Sequence[int]) -> Reading:
    return Reading(partial(given_out, fragment, sizes), sum(sizes))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "wdsremux-reading"]


def settled() -> list[str]:
    """Threads that are left when those that end have had the time to."""
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    return threads()


@given(
    st.lists(st.lists(st.integers(8, 3_000), max_size=6), max_size=8),
    st.integers(1, 5),
    st.integers(0, 4_000),
    st.integers(0, 8_000),
)
def test_the_same_in_the_same_order(
    fragments: list[list[int]], at_once: int, bound_bytes: int, stored_bytes: int
) -> None:
    readings = [reading(number, sizes) for number, sizes in enumerate(fragments)]
    came = [(rows.fragment, rows.first) for rows in prefetch.begin(readings, at_once, bound_bytes, stored_bytes).rows()]
    assert came == [(number, first) for number, sizes in enumerate(fragments) for first in range(len(sizes))]
    assert settled() == []


def test_an_error_comes_in_its_place() -> None:
    """What was read before it is given, and nothing behind it; its own traceback comes along."""

    def failing() -> Iterator[Rows]:
        yield batch(1, 0)
        raise OSError("the disk is gone")

    readings = [reading(0, [1_000] * 3), Reading(failing, 0), reading(2, [1_000] * 3)]
    came: list[int] = []
    with pytest.raises(OSError, match="the disk is gone") as raised:
        came.extend(rows.fragment for rows in prefetch.begin(readings, 3, 10_000, 10_000).rows())
    assert came == [0, 0, 0, 1]
    assert any(entry.name == "failing" for entry in raised.traceback)
    assert settled() == []


def test_a_reading_that_cannot_begin() -> None:
    def refused() -> Iterator[Rows]:
        raise OSError("there is no such file")

    with pytest.raises(OSError, match="there is no such file"):
        list(prefetch.begin([reading(0, [1_000]), Reading(refused, 0)], 2, 10_000, 10_000).rows())
    assert settled() == []


def test_it_reads_as_far_as_its_bound() -> None:
    begun: list[tuple[int, int]] = []
    still = threading.Semaphore(0)

    def counted(fragment: int) -> Iterator[Rows]:
        for first in range(5):
            begun.append((fragment, first))
            still.release()
            yield batch(fragment, first)

    batches = prefetch.begin([Reading(partial(counted, i), 0) for i in range(2)], 1, 3 * BATCH_BYTES, 0).rows()
    next(batches)
    for _ in range(4):
        assert still.acquire(timeout=5)
    time.sleep(0.05)  # what would come now is past the bound
    assert begun == [(0, first) for first in range(4)]  # one is given out, three wait
    next(batches)
    assert still.acquire(timeout=5)
    batches.close()  # type: ignore[attr-defined]
    assert settled() == []


def test_a_large_batch_waits_alone() -> None:
    readings = [reading(number, [50_000] * 3) for number in range(3)]
    assert len(list(prefetch.begin(readings, 3, 1_000, 1_000).rows())) == 9


class Meeting:
    """Readings that go on only when all of them have begun."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=5)

    def begin(self, fragment: int) -> Iterator[Rows]:
        self.barrier.wait()
        yield batch(fragment, 0)


def test_several_at_once() -> None:
    """A server's latency is met once for all of them."""
    meeting = Meeting(3)
    readings = [Reading(partial(meeting.begin, i), 10) for i in range(3)]
    assert [rows.fragment for rows in prefetch.begin(readings, 3, 10_000, 30).rows()] == [0, 1, 2]


def test_large_ones_go_on_alone() -> None:
    meeting = Meeting(2)
    meeting.barrier = threading.Barrier(2, timeout=0.2)
    readings = [Reading(partial(meeting.begin, i), 20) for i in range(2)]
    with pytest.raises(threading.BrokenBarrierError):
        list(prefetch.begin(readings, 2, 10_000, 39).rows())
    assert settled() == []


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_closed_early(taken: int) -> None:
    readers = prefetch.begin([reading(number, [1_000] * 3) for number in range(4)], 2, 2_000, 2_000)
    batches = readers.rows()
    for _ in range(taken):
        next(batches)
    readers.close()
    assert settled() == []
