"""What can go wrong at a Hub of ours: plain data, that `tests.support.hub` carries out."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

FaultKind = Literal[
    "401", "403", "404", "429", "500", "503", "expired",
    "reset", "cut", "short", "length", "stall", "slow", "down", "page", "whole", "gzip", "other",
]  # fmt: skip
BODIES = ("reset", "cut", "short", "length", "slow", "whole", "gzip", "other")  #: these begin as a sound answer does
_CUT = ("reset", "cut", "short", "length")


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls each `every`-th of the data requests `first` … `last`, counted from 1 since it was set."""

    kind: FaultKind  #: an HTTP status; or what stands below
    every: int = 1
    rate: float = 1.0  #: of those, the share that it does befall; drawn by seed and number
    seed: int = 0
    first: int = 1
    last: int | None = None  #: None: for ever
    path: str = ""  #: only requests of files whose path holds this are counted
    api: bool = False  #: requests to /api are counted in place of data requests; a status, stall or down befalls them
    keep_bytes: int | None = None  #: of the body, before a reset, cut, short or length; None: half
    retry_after_s: int | None = None  #: what a status says in Retry-After
    down_s: float | None = None  #: for how long; None: until it is brought up
    other: Path | None = None  #: where the other version lies

    # expired: 401, as for a token that is good no longer. reset: RST in mid-body. cut: the connection is closed there.
    # short: the body ends there, and all headers say so. length: it does, and only Content-Length says so. stall: no
    # answer. slow: the body comes in twenty pieces, in a second. down: the first request that it befalls takes the
    # whole Hub down. page: a page of HTML, status 200. whole: 200 and the whole file, whatever range was asked for.
    # gzip: the body is compressed, and half of that comes. other: the bytes are those of the same path in `other`.

    def befalls(self, number: int) -> bool:
        """Whether it befalls the request of that number."""
        asked = self.first <= number <= (self.last or number) and (number - self.first) % self.every == 0
        return asked and random.Random(f"{self.seed} {number}").random() < self.rate

    def kept(self, wanted: int) -> int:
        """How many bytes are sent of a body of `wanted`."""
        if self.kind not in _CUT:
            return wanted
        return wanted // 2 if self.keep_bytes is None else min(self.keep_bytes, wanted)


@dataclass(slots=True)
class Request:
    """One request, as it came and as it was answered."""

    method: str
    path: str  #: as sent, with the query
    span: str = ""  #: of bytes, as asked for
    token: str = ""  #: that it showed
    at_s: float = field(default_factory=time.monotonic)
    data: bool = False  #: it asks for bytes of a file that is no README.md
    status: int = 0
    fault: str = ""  #: what befell it
    sent_bytes: int = 0  #: of the body


@dataclass(slots=True)
class DataSet:
    """What each commit of a data set holds, and who may read it."""

    name: str  #: ORG/NAME, also where it was asked for by another
    trees: dict[str, Path] = field(default_factory=dict)  #: by commit, 40 hex digits
    heads: dict[str, str] = field(default_factory=dict)  #: branch or tag -> commit
    access: Literal["open", "gated", "private"] = "open"
