"""A Hub of our own on the loopback: serves folders as data sets to the real `datasets` and `huggingface_hub` clients.

    with Hub({"ours/flowers": folder}) as hub:
        hub.fail(Fault("reset", every=7))
        subprocess.run(command, env=os.environ | hub.environment(tmp_path / "home"))
        assert hub.faults

It answers what those clients ask: a data set's commit, its tree, its files by range. Data requests (GET of any file
but README.md) can be made to fail; all requests are kept. Without the right token, nothing is shown of a private data
set; of a gated one, as on the real Hub, commit, tree and README.md are, and no other file.

With `cdn=True` files lie on another host, as they do for the real Hub: it answers with a signed address there, good for
one request only, and data requests are those that the other host gets.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.hub_faults import DataSet, Fault, FaultKind, Request
from tests.support.hub_server import SECRET, Server, files_of

__all__ = ["SECRET", "DataSet", "Fault", "FaultKind", "Hub", "Request"]


class Hub:
    """The server; a context manager. Every thread and socket of it is gone at exit."""

    def __init__(
        self,
        datasets: Mapping[str, Path] | None = None,
        *,
        delay_s: float = 0.0,
        bytes_a_second: float = math.inf,
        cdn: bool = False,
    ) -> None:
        self.datasets: dict[str, DataSet] = {}
        self.requests: list[Request] = []
        self.delay_s = delay_s  #: before each answer
        self.bytes_a_second = bytes_a_second  #: of the body of each answer
        self.cdn = cdn
        self.signed: set[str] = set()  #: addresses at the other host that are still good
        self._faults: list[Fault] = []
        self._seen: list[int] = []  #: requests that each has counted since it was set
        self._revival: threading.Timer | None = None
        self._lock = threading.Lock()
        self._servers: list[Server] = []  #: the last one may be listening
        for name, folder in (datasets or {}).items():
            self.publish(name, folder)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._revival:
            self._revival.cancel()
            self._revival.join()
        for server in self._servers:
            server.halt()
            server.join()

    def publish(
        self, name: str, folder: Path, revision: str = "main", access: Literal["open", "gated", "private"] = "open"
    ) -> str:
        """Make a folder what a branch or tag of ORG/NAME holds; earlier commits stay to be had. Returns its commit.

        The folder is read at each request: a file deleted from it has vanished from its commit.
        """
        dataset = self.datasets.setdefault(name, DataSet(name))
        commit = hashlib.sha1()
        for path, file in sorted(files_of(folder).items()):
            commit.update(repr((path, hashlib.sha1(file.read_bytes()).digest())).encode())
        dataset.trees[commit.hexdigest()] = folder
        dataset.heads[revision] = commit.hexdigest()
        dataset.access = access
        return commit.hexdigest()

    def fail(self, *faults: Fault) -> None:
        """Let data requests fail from now on, in these ways only; the first that befalls one does. None: no more."""
        with self._lock:
            self._faults, self._seen = list(faults), [0] * len(faults)

    def up(self) -> None:
        """Listen; at the same port as before."""
        self._servers.append(Server(self, self._servers[-1].server_port if self._servers else 0))

    def down(self, for_s: float | None = None) -> None:
        """Refuse connections, and drop those there are; for so many seconds, or until it is brought up."""
        with self._lock:
            first = not self._servers[-1].halted.is_set()
            self._servers[-1].halted.set()
        self._servers[-1].halt()
        if first and for_s is not None:
            self._revival = threading.Timer(for_s, self.up)
            self._revival.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._servers[-1].server_port}"

    @property
    def data_requests(self) -> list[Request]:
        return [request for request in self.requests if request.data]

    @property
    def sent_bytes(self) -> int:
        """Of the bodies of data requests."""
        return sum(request.sent_bytes for request in self.data_requests)

    @property
    def faults(self) -> int:
        """How many requests failed on purpose."""
        return sum(bool(request.fault) for request in self.requests)

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """What a process must find in its environment to take this for the Hub.

        Args:
            home: a folder for what its clients cache.
            token: what it shows; None: it is not logged in.
        """
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",  # the tests themselves are offline
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "HF_TOKEN": token or "",
        }

    def strike(self, path: str, api: bool) -> Fault | None:
        """Count a request. Returns what shall befall it."""
        with self._lock:
            struck = []
            for place, fault in enumerate(self._faults):
                if fault.api == api and fault.path in path:
                    self._seen[place] += 1
                    struck += [fault] if fault.befalls(self._seen[place]) else []
            return struck[0] if struck else None

    def sign(self, path: str) -> str:
        """An address of a path at the other host."""
        with self._lock:
            signed = f"http://localhost:{self._servers[-1].server_port}/cdn{path}?signature={secrets.token_hex(8)}"
            self.signed.add(signed)
        return signed

    def redeem(self, path: str) -> bool:
        """Whether a path and query at the other host is a good address; it is good no longer."""
        signed = f"http://localhost:{self._servers[-1].server_port}{path}"
        with self._lock:
            good = signed in self.signed
            self.signed.discard(signed)
        return good
