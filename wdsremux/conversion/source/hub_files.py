"""Files of a commit on the Hub: each answer is checked to be the very piece that was asked for.

    HubFile     where a file is, how large, and which version; images are read whole from it
    RangeFile      it, read here and there: parquet
    Stream      it, from front to end: tars

What a commit holds never changes. Yet a proxy may answer with an error page, or with the whole file where a part was
asked for; a body may be cut short and say so nowhere; a cache may have another version. Each of these is a fault like
a broken connection: asked for again, at the Hub, which then signs a new address. The waiting is ours: the five tries of
the Hub's client take 23 s, however short --patience is.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, and yet not in its __all__
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
)

from wdsremux.conversion.source import retry
from wdsremux.errors import SourceError

_ADDRESS = re.compile(r"hf://datasets/(?P<repository>[^@:]+)@(?P<commit>[0-9a-f]{40})/(?P<path>.+)")
_SPAN = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
# Read ahead, past what is asked for: the labels' column, which lies behind the images' in a row group, then mostly
# needs no request of its own. Row groups are read in random order: the rest is thrown away.
_AHEAD_BYTES = 16_384
_CHUNK_BYTES = 1 << 18  #: of a stream; the pieces that come are of 16 KB


class StrangeAnswer(OSError):
    """An answer that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a commit, and how long to try for it. It travels to workers."""

    repository: str  #: ORG/NAME
    commit: str
    path: str
    faults: retry.Faults
    size_bytes: int | None = None  #: None: not known
    tag: str | None = None  #: of its content, as the Hub gives it; None: not known

    def content(self) -> bytes:
        """All of it.

        Raises:
            FileNotFoundError: if its commit has no such file.
            SourceError: if it cannot be read.
        """
        try:
            return self.part(0, None)[0]
        except SourceError as error:
            if isinstance(error.__cause__, EntryNotFoundError) and not self._listed():
                raise FileNotFoundError(self.path) from error
            raise

    def part(self, first: int, end: int | None) -> tuple[bytes, HubFile]:
        """The bytes first … end - 1 (None: all that follow), and this file with its size and tag.

        Raises:
            SourceError: if they cannot be read.
        """
        return retry.call(lambda: self._part(first, end), self.faults, self.path)

    def _part(self, first: int, end: int | None) -> tuple[bytes, HubFile]:
        with self.ask(first, end) as (response, length, found):
            body = b"".join(response.iter_bytes()) if length else b""
        if len(body) != length:
            raise StrangeAnswer(f"received {len(body)} of {length} bytes")
        return body, found

    @contextlib.contextmanager
    def ask(self, first: int, end: int | None) -> Iterator[tuple[Any, int, HubFile]]:
        """Ask once for the bytes first … end - 1: (response, its body yet unread; length; this file, better known).

        Raises:
            Exception: one that `faults` knows, also while the body is read.
        """
        url = hf_hub_url(self.repository, self.path, repo_type="dataset", revision=self.commit)
        asked = {"Range": f"bytes={first}-{'' if end is None else end - 1}", "Accept-Encoding": "identity"}
        timeout_s = constants.HF_HUB_DOWNLOAD_TIMEOUT
        headers = build_hf_headers() | asked
        with http_stream_backoff("GET", url, max_retries=0, headers=headers, timeout=timeout_s) as response:
            if response.status_code == 416 and response.headers.get("Content-Range") == "bytes */0":
                yield response, 0, replace(self, size_bytes=0)  # it is empty: no range is in it
                return
            hf_raise_for_status(response)
            yield response, *self._checked(response, first, end)

    def _checked(self, response: Any, first: int, end: int | None) -> tuple[int, HubFile]:
        """(length, this file with its size and tag) of an answer.

        Raises:
            StrangeAnswer: if it is not that part of this file.
        """
        got = _span(response)
        size_bytes = got[2] if self.size_bytes is None else self.size_bytes
        wanted = (first, size_bytes if end is None else end, size_bytes)
        if got != wanted:
            raise StrangeAnswer("received bytes {}-{} of {}, but requested {}-{} of {}".format(*got, *wanted))
        if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise StrangeAnswer(f"received an unexpected encoding, {encoding}")
        tag = _tag(response)
        if self.tag is not None and tag != self.tag:
            raise StrangeAnswer(f"received version {tag}, but version {self.tag} before")
        return wanted[1] - first, replace(self, size_bytes=size_bytes, tag=tag)

    def _listed(self) -> bool:
        """Whether its commit has it, as the Hub itself tells, and not whoever gives the file."""

        def ask() -> list[Any]:
            return HfApi().get_paths_info(self.repository, [self.path], revision=self.commit, repo_type="dataset")

        return bool(retry.call(ask, self.faults, self.path))


def hub_file(address: str, faults: retry.Faults) -> HubFile | None:
    """A file by its address, such as hf://datasets/ORG/NAME@COMMIT/PATH; None if it is not one of a commit."""
    match = _ADDRESS.fullmatch(address)
    return HubFile(match["repository"], match["commit"], match["path"], faults) if match else None


def content(address: str, faults: retry.Faults) -> bytes | None:
    """All of a file, by its address; None if it is not one of a commit.

    Raises:
        FileNotFoundError: if its commit has no such file.
        SourceError: if it cannot be read.
    """
    found = hub_file(address, faults)
    return None if found is None else found.content()


class RangeFile(io.RawIOBase):
    """A file of known size, to be read anywhere. All of it is of one version."""

    def __init__(self, file: HubFile, most_bytes: int | None = None) -> None:
        """
        Args:
            file: with its size; without a tag, that of the first answer holds for all others.
            most_bytes: of each read, that are asked for; zeros stand for what lies behind them. None: all.
        """
        self.file, self._most_bytes = file, most_bytes
        self._size_bytes, self._at = file.size_bytes or 0, 0
        self._first, self._held = 0, b""  #: what was read last, and from where

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """
        Raises:
            SourceError: if it cannot be had.
        """
        first = min(self._at, self._size_bytes)
        end = self._size_bytes if size is None or size < 0 else min(first + size, self._size_bytes)
        if first == end:
            return b""
        known = end if self._most_bytes is None else min(end, first + self._most_bytes)
        if first < self._first or known > self._first + len(self._held):
            self._held, self.file = self.file.part(first, min(known + _AHEAD_BYTES, self._size_bytes))
            self._first = first
        self._at = end
        return self._held[first - self._first : known - self._first] + bytes(end - known)


class Stream:
    """A file of known size, read once from front to end. After a fault it goes on behind the bytes that it gave."""

    def __init__(self, file: HubFile) -> None:
        self._file, self._at = file, 0
        self._held = memoryview(b"")
        self._chunks: Iterator[bytes] | None = None
        self._open = contextlib.ExitStack()

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            Exception: one that the file's `faults` knows; it may be called again.
        """
        if self._at == self._file.size_bytes:
            return b""
        try:
            self._held = self._held or memoryview(self._next())
        except BaseException:
            self.close()
            raise
        block, self._held = self._held[:size], self._held[size:]
        self._at += len(block)
        return bytes(block)

    def close(self) -> None:
        self._chunks = None
        self._open.close()

    def _next(self) -> bytes:
        if self._chunks is None:
            response, _, self._file = self._open.enter_context(self._file.ask(self._at, None))
            self._chunks = response.iter_bytes(_CHUNK_BYTES)
        chunk = next(self._chunks, b"")
        if not chunk:
            raise StrangeAnswer(f"received {self._at} of {self._file.size_bytes} bytes")
        return chunk


def _span(response: Any) -> tuple[int, int, int]:
    """Which bytes an answer holds, and of how many: (first, end, size).

    Raises:
        StrangeAnswer: if it does not say, or comes from someone else than the Hub.
    """
    headers, hub = response.headers, _first(response)
    match = _SPAN.fullmatch(headers.get("Content-Range", ""))
    if response.status_code == 206 and match:
        return int(match[1]), int(match[2]) + 1, int(match[3])
    length = headers.get("Content-Length", "")
    # An error page has no commit; or, where the Hub sent on to another host, not the size that the Hub said.
    if response.status_code == 200 and "X-Repo-Commit" in hub and hub.get("X-Linked-Size", length) == length.strip():
        return 0, int(length), int(length)
    kind = headers.get("Content-Type", "unknown content").partition(";")[0]
    raise StrangeAnswer(f"received {kind} with status {response.status_code} instead of the requested bytes")


def _tag(response: Any) -> str | None:
    """What the Hub itself calls the content: another host may call it otherwise, and each time anew."""
    headers = _first(response)
    tag = headers.get("X-Linked-Etag") or headers.get("ETag")
    return tag and str(tag).removeprefix("W/").strip('"')


def _first(response: Any) -> Any:
    """The headers of the Hub's own answer, before it sent on to another host."""
    return (*response.history, response)[0].headers
