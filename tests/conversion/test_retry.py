"""A fault is met with another try for as long as patience lasts; everything else passes at once."""

from __future__ import annotations

import importlib
import io
import itertools
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence

import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RemoteEntryNotFoundError

from wdsremux.conversion.source import opening, retry
from wdsremux.conversion.source.kinds.tars import tar_files
from wdsremux.conversion.source.retry import Faults
from wdsremux.errors import SourceError

transport = importlib.import_module(HfHubHTTPError.__bases__[0].__module__)  # the HTTP library of the Hub's client
PATIENT = Faults(opening.FAULTS, opening.FINAL, patience_s=60.0, wait_s=0.001)
BRIEF = Faults(opening.FAULTS, opening.FINAL, patience_s=0.05, wait_s=0.001)


def refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    socket.create_connection(address)


def refused_by_the_hub() -> None:
    """As the Hub's client raises it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    transport.get(f"http://127.0.0.1:{port}")


def cut_short() -> None:
    pq.read_table(io.BytesIO(b"PAR1 and no more"))


def answered(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    response = transport.Response(status, request=transport.Request("GET", "https://hub/x"))
    return kind(f"{status}\n for url", response=response)


def forbidden() -> None:
    raise answered(HfHubHTTPError, 403)


FAULTS = [refused, refused_by_the_hub, cut_short, forbidden]


class Tries:
    """Fails in the first tries, in the ways given; then returns the number of the try."""

    def __init__(self, *ways: Callable[[], None]) -> None:
        self.ways, self.count = ways, 0

    def __call__(self) -> int:
        self.count += 1
        if self.count <= len(self.ways):
            self.ways[self.count - 1]()
        return self.count


def test_what_goes_well_is_tried_once() -> None:
    assert retry.call(Tries(), PATIENT, "it") == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_met_with_another_try(fault: Callable[[], None]) -> None:
    assert retry.call(Tries(fault, fault, fault), PATIENT, "it") == 4


def test_patience_ends() -> None:
    tries, began_s = Tries(*[refused] * 1_000), time.monotonic()
    with pytest.raises(
        SourceError, match=r"^row 3 could not be read for 0\.05 s: .*refused\. Run the same command"
    ) as e:
        retry.call(tries, BRIEF, "row 3")
    assert str(e.value).endswith("; increase --patience to retry for longer")
    assert tries.count > 1
    assert 0.05 <= time.monotonic() - began_s < 5
    assert isinstance(e.value.__cause__, ConnectionRefusedError)


def test_waits_grow() -> None:
    tries = Tries(*[refused] * 1_000)
    with pytest.raises(SourceError):
        retry.call(tries, Faults((OSError,), patience_s=0.5, wait_s=0.004), "it")
    assert 3 <= tries.count <= 12  # 4, 8, 16, … ms, and up to 4 ms of jitter each


def gone() -> None:
    open("/nowhere/at all", "rb")  # noqa: SIM115  # it raises


def gone_from_the_hub() -> None:
    raise answered(RemoteEntryNotFoundError, 404)


def gated() -> None:
    raise answered(GatedRepoError, 403)


@pytest.mark.parametrize("fault", [gone, gone_from_the_hub, gated])
def test_what_no_waiting_cures_is_tried_once(fault: Callable[[], None]) -> None:
    tries = Tries(*[fault] * 3)
    with pytest.raises(
        SourceError, match=r"^it could not be read: .*resume; check that it exists, is complete, and is readable$"
    ) as caught:
        retry.call(tries, PATIENT, "it")
    assert tries.count == 1
    assert "\n" not in str(caught.value)


def test_a_disk_is_tried_once() -> None:
    tries = Tries(*[refused] * 3)
    with pytest.raises(SourceError):
        retry.call(tries, Faults(opening.FAULTS), "it")
    assert tries.count == 1


class Mistake(Exception):
    """One of our own."""


@pytest.mark.parametrize("error", [Mistake(), SourceError("said already"), KeyboardInterrupt(), SystemExit(143)])
def test_what_is_no_fault_passes_at_once(error: BaseException) -> None:
    def fail() -> None:
        raise error

    tries = Tries(*[fail] * 3)
    with pytest.raises(type(error)) as caught:
        retry.call(tries, PATIENT, "it")
    assert caught.value is error
    assert tries.count == 1


# Reading


class Reading:
    """Gives 30 numbers, three at a time; breaks off before each of these batches, once for each time it stands here."""

    def __init__(self, breaks: Sequence[int], fault: Callable[[], None] = refused) -> None:
        self.breaks, self.fault = list(breaks), fault
        self.begun: list[int] = []

    def __call__(self, first: int) -> Iterator[list[int]]:
        self.begun.append(first)
        for at in range(first, 30, 3):
            if at // 3 in self.breaks:
                self.breaks.remove(at // 3)
                self.fault()
            yield [at, at + 1, at + 2]


def numbers(reading: Reading, faults: Faults) -> list[int]:
    return list(itertools.chain.from_iterable(retry.read(reading, faults, "it")))


@pytest.mark.parametrize("breaks", [[], [0], [0, 0, 0], [4], [9], [2, 2, 5, 9], list(range(10))])
def test_reading_goes_on_where_it_stopped(breaks: list[int]) -> None:
    reading = Reading(breaks)
    assert numbers(reading, PATIENT) == list(range(30))
    assert reading.begun == [0, *(3 * number for number in breaks)]


def test_patience_starts_anew_with_what_comes() -> None:
    """Each batch takes most of it; all of them take three times as much."""
    faults = Faults((OSError,), patience_s=0.3, wait_s=0.1)
    began_s = time.monotonic()
    assert numbers(Reading(range(10)), faults) == list(range(30))
    assert time.monotonic() - began_s > 3 * 0.3


def test_reading_ends_when_patience_does() -> None:
    reading = Reading([5] * 1_000)
    batches = retry.read(reading, BRIEF, "it")
    assert list(itertools.islice(batches, 5))[-1] == [12, 13, 14]
    with pytest.raises(SourceError, match="it could not be read for"):
        next(batches)
    assert set(reading.begun[1:]) == {15}


def test_ctrl_c_ends_reading_at_once() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    reading = Reading([5], interrupt)
    with pytest.raises(KeyboardInterrupt):
        numbers(reading, PATIENT)
    assert reading.begun == [0]


# A remote tar's body


class Connection:
    """A remote file as its client gives it: after a fault it goes on; once it has ended, it has ended."""

    def __init__(self, content: bytes, *ways: Callable[[], None]) -> None:
        self.file, self.tries = io.BytesIO(content), Tries(*ways)

    def read(self, length: int) -> bytes:
        self.tries()
        return self.file.read(min(length, 700))


def body(connection: Connection, size_bytes: int) -> io.BufferedReader:
    return io.BufferedReader(tar_files.Body(connection, size_bytes, PATIENT, "a.tar"), 512)


@pytest.mark.parametrize("ways", [[], [refused], [refused_by_the_hub, forbidden, refused]])
def test_a_body_goes_on_after_a_fault(ways: list[Callable[[], None]]) -> None:
    content = bytes(range(256)) * 10
    with body(Connection(content, *ways), len(content)) as file:
        assert file.read() == content


def test_a_body_that_ends_too_early() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("a", "b"):
            info = tarfile.TarInfo(name)
            info.size = 100
            tar.addfile(info, io.BytesIO(bytes(100)))
    content = archive.getvalue()
    for length in (0, 512, 600, 1024, 1536, 2047):  # at the end of a member, tarfile would see nothing amiss
        with (
            pytest.raises(OSError, match=f"received {length} of {len(content)} bytes"),
            body(Connection(content[:length]), len(content)) as file,
            tarfile.open(fileobj=file, mode="r|") as tar,
        ):
            list(tar)
