"""A Hub of our own on the loopback: serves folders as data sets to the real `datasets` and `huggingface_hub` clients.

    with Hub({"ours/flowers": folder}) as hub:
        hub.fail(Fault("reset", every=7))
        subprocess.run(command, env=os.environ | hub.environment(tmp_path / "home"))
        assert hub.faults

It answers what those clients ask: a data set's commit, its tree, its files by range. Data requests (GET of any file
but README.md) can be made to fail; all requests are kept. Without the right token, nothing is shown of a private data
set; of a gated one, as on the real Hub, commit, tree and README.md are, and no other file.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socket
import struct
import sys
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

README = "README.md"
SECRET = "hf_secret"  #: the token that opens a gated or private data set
BLOCK_BYTES = 1 << 16
URL = re.compile(
    r"/(?P<api>api/)?datasets/(?P<name>[^/]+/[^/]+)(?:/(?P<verb>[^/]+)(?:/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?)?"
)

FaultKind = Literal["401", "403", "404", "429", "500", "503", "reset", "cut", "short", "stall", "down"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls each `every`-th of the data requests `first` … `last`, counted from 1 since it was set."""

    kind: FaultKind  #: an HTTP status; or what stands below
    every: int = 1
    first: int = 1
    last: int | None = None  #: None: for ever
    path: str = ""  #: only requests of files whose path holds this are counted
    api: bool = False  #: requests to /api are counted in place of data requests; a status, stall or down befalls them
    keep_bytes: int | None = None  #: of the body, before a reset, cut or short; None: half

    # reset: RST in mid-body. cut: the connection is closed there. short: the body ends there, and the headers say so.
    # stall: no answer. down: the first request that it befalls takes the whole Hub down.

    def befalls(self, number: int) -> bool:
        """Whether it befalls the request of that number."""
        return self.first <= number <= (self.last or number) and (number - self.first) % self.every == 0

    def kept(self, wanted: int) -> int:
        """How many bytes are sent of a body of `wanted`."""
        if self.kind not in ("reset", "cut", "short"):
            return wanted
        return wanted // 2 if self.keep_bytes is None else min(self.keep_bytes, wanted)


@dataclass(slots=True)
class Request:
    """One request, as it came and as it was answered."""

    method: str
    path: str  #: as sent, with the query
    data: bool = False  #: it asks for bytes of a file that is no README.md
    status: int = 0
    fault: str = ""  #: what befell it
    sent_bytes: int = 0  #: of the body


@dataclass(slots=True)
class DataSet:
    """What each commit of a data set holds, and who may read it."""

    trees: dict[str, Path] = field(default_factory=dict)  #: by commit, 40 hex digits
    heads: dict[str, str] = field(default_factory=dict)  #: branch or tag -> commit
    access: Literal["open", "gated", "private"] = "open"


class Hub:
    """The server; a context manager. Every thread and socket of it is gone at exit."""

    def __init__(self, datasets: Mapping[str, Path] | None = None, *, delay_s: float = 0.0) -> None:
        self.datasets: dict[str, DataSet] = {}
        self.requests: list[Request] = []
        self.delay_s = delay_s  #: before each answer
        self._fault: Fault | None = None
        self._seen = 0  #: data requests since it was set
        self._lock = threading.Lock()
        self._servers: list[_Server] = []  #: the last one may be listening
        for name, folder in (datasets or {}).items():
            self.publish(name, folder)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in self._servers:
            server.halt()
            server.join()

    def publish(
        self, name: str, folder: Path, revision: str = "main", access: Literal["open", "gated", "private"] = "open"
    ) -> str:
        """Make a folder what a branch or tag of ORG/NAME holds; earlier commits stay to be had. Returns its commit.

        The folder is read at each request: a file deleted from it has vanished from its commit.
        """
        dataset = self.datasets.setdefault(name, DataSet())
        commit = hashlib.sha1()
        for path, file in sorted(_files(folder).items()):
            commit.update(repr((path, hashlib.sha1(file.read_bytes()).digest())).encode())
        dataset.trees[commit.hexdigest()] = folder
        dataset.heads[revision] = commit.hexdigest()
        dataset.access = access
        return commit.hexdigest()

    def fail(self, fault: Fault | None) -> None:
        """Let data requests fail from now on, in this way only. None: no more."""
        with self._lock:
            self._fault, self._seen = fault, 0

    def up(self) -> None:
        """Listen; at the same port as before."""
        self._servers.append(_Server(self, self._servers[-1].server_port if self._servers else 0))

    def down(self) -> None:
        """Refuse connections, and drop those there are."""
        self._servers[-1].halt()

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
            "NO_PROXY": "127.0.0.1",
            "HF_TOKEN": token or "",
        }

    def strike(self, path: str, api: bool) -> Fault | None:
        """Count a request. Returns what shall befall it."""
        with self._lock:
            fault = self._fault
            if fault is None or fault.api != api or fault.path not in path:
                return None
            self._seen += 1
            return fault if fault.befalls(self._seen) else None


class _Server(http.server.ThreadingHTTPServer):
    """One time of listening."""

    daemon_threads = False  # else server_close() does not join them
    allow_reuse_address = True

    def __init__(self, hub: Hub, port: int) -> None:
        self.hub = hub
        self.halted = threading.Event()
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self.loop = threading.Thread(target=self.serve_forever, args=[0.02], name="hub")
        self.loop.start()

    def halt(self) -> None:
        """Close the listening socket and cut off all connections. May be called by a handler, and more than once."""
        self.halted.set()
        self.shutdown()
        self.socket.close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has just ended by itself
                continue

    def join(self) -> None:
        self.loop.join()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), (OSError, ValueError)):  # a client may leave at any time
            super().handle_error(request, client_address)


@dataclass(frozen=True, slots=True)
class _Place:
    """What an address names: a path in a commit of a data set."""

    name: str
    dataset: DataSet
    commit: str
    files: dict[str, Path]  #: of that commit, by path in it
    path: str

    def tree(self) -> dict[str, dict[str, Any]]:
        """All its files and folders, by path, as the Hub describes them."""
        entries: dict[str, dict[str, Any]] = {}
        for path, file in sorted(self.files.items()):
            for end in (i for i, letter in enumerate(path) if letter == "/"):
                entries[path[:end]] = {"type": "directory", "oid": _oid(path[:end]), "size": 0, "path": path[:end]}
            entries[path] = {"type": "file", "oid": _oid(path), "size": file.stat().st_size, "path": path}
        return entries

    def about(self) -> dict[str, Any]:
        """The commit, as the Hub describes it."""
        return {
            "_id": "1",
            "id": self.name,
            "sha": self.commit,
            "gated": "auto" if self.dataset.access == "gated" else False,
            "private": self.dataset.access == "private",
            "siblings": [{"rfilename": path} for path in sorted(self.files)],
            "tags": [],
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: 40 ms an answer otherwise
    server: _Server

    def do_GET(self) -> None:
        self._answer([])

    def do_HEAD(self) -> None:
        self._answer([])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer(urllib.parse.parse_qs(body).get("paths", []))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the requests are kept instead."""

    @property
    def token(self) -> str:
        return (self.headers["Authorization"] or "").removeprefix("Bearer ")

    def _answer(self, wanted: list[str]) -> None:
        """Find the data set, whether it may be seen, and the commit; then what is asked of it."""
        hub = self.server.hub
        self.record = Request(self.command, self.path)
        hub.requests.append(self.record)
        self.server.halted.wait(hub.delay_s)
        if self.path.startswith("/api/") and self._fails(hub.strike(self.path, api=True)):
            return None
        match = URL.fullmatch(urllib.parse.urlsplit(self.path).path)
        dataset = hub.datasets.get(match["name"]) if match else None
        if match is None or dataset is None or (dataset.access == "private" and self.token != SECRET):
            return self._refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        revision, path = (urllib.parse.unquote(match[part] or "") for part in ("revision", "path"))
        commit = dataset.heads.get(revision or "main", revision)
        if commit not in dataset.trees:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        place = _Place(match["name"], dataset, commit, _files(dataset.trees[commit]), path)
        return self._describe(match["verb"], place, wanted) if match["api"] else self._resolve(place)

    def _describe(self, verb: str | None, place: _Place, wanted: list[str]) -> None:
        """What /api tells of a commit."""
        tree = place.tree()
        if verb in (None, "revision"):
            return self._json(place.about())
        if verb == "paths-info":
            return self._json([tree[path] for path in wanted if path in tree])
        if verb == "auth-check":
            return self._gate(place) if self._barred(place) else self._json({})
        if verb != "tree" or (place.path and place.path not in tree):
            return self._refuse(404, "EntryNotFound", f"{place.path} does not exist")
        start = f"{place.path}/" if place.path else ""
        deep = "recursive=true" in self.path.lower()
        inside = [path for path in tree if path.startswith(start) and (deep or "/" not in path[len(start) :])]
        return self._json([tree[path] for path in inside])

    def _resolve(self, place: _Place) -> None:
        """Bytes of a file."""
        if place.path not in place.files:
            return self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": place.commit})
        self.record.data = self.command == "GET" and place.path != README
        if place.path != README and self._barred(place):
            return self._gate(place)
        size = place.files[place.path].stat().st_size
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "bytes=0-")
        first, last = (int(span[1]), min(int(span[2] or size), size - 1)) if span else (0, size - 1)
        if first > last:
            return self._refuse(416, "", "Range Not Satisfiable", {"Content-Range": f"bytes */{size}"})
        fault = self.server.hub.strike(place.path, api=False) if self.record.data else None
        return None if self._fails(fault) else self._serve(place, first, last + 1, size, fault)

    def _serve(self, place: _Place, first: int, end: int, size: int, fault: Fault | None) -> None:
        """The bytes first … end - 1 of a file, or what a fault leaves of them."""
        kept = fault.kept(end - first) if fault else end - first
        if fault and fault.kind == "short":
            end = first + kept
        self._head(
            206 if self.headers["Range"] else 200,
            end - first,
            {
                "ETag": f'"{_oid(place.path)}"',
                "X-Repo-Commit": place.commit,
                "Accept-Ranges": "bytes",
                "Content-Range": f"bytes {first}-{end - 1}/{size}",
            },
        )
        if self.command == "GET":
            self._send(place.files[place.path], first, kept)
        if fault and fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()  # at once: the server itself would say goodbye first
        self.close_connection = self.close_connection or fault is not None

    def _send(self, file: Path, first: int, length: int) -> None:
        with file.open("rb") as opened:
            opened.seek(first)
            while length > 0 and (block := opened.read(min(length, BLOCK_BYTES))):
                self.wfile.write(block)
                self.record.sent_bytes += len(block)
                length -= len(block)

    def _fails(self, fault: Fault | None) -> bool:
        """Whether a fault leaves nothing more to do."""
        self.record.fault = fault.kind if fault else ""
        if fault is None or fault.kind in ("reset", "cut", "short"):
            return False
        if fault.kind.isdigit():
            code = {"401": "RepoNotFound", "404": "EntryNotFound"}.get(fault.kind, "")
            self._refuse(int(fault.kind), code, "failed on purpose")
            return True
        if fault.kind == "stall":
            self.server.halted.wait()
        else:
            self.server.halt()
        self.close_connection = True
        return True

    def _barred(self, place: _Place) -> bool:
        return place.dataset.access == "gated" and self.token != SECRET

    def _gate(self, place: _Place) -> None:
        text = f"Access to dataset {place.name} is restricted."
        return self._refuse(403 if self.token else 401, "GatedRepo", text)

    def _refuse(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        told = {"X-Error-Message": text} | ({"X-Error-Code": code} if code else {})
        self._json({"error": text}, status, told | dict(headers or {}))

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self._head(status, len(body), {"Content-Type": "application/json"} | dict(headers or {}))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.record.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _files(folder: Path) -> dict[str, Path]:
    """All files below a folder, by their path in it."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _oid(path: str) -> str:
    return hashlib.sha1(path.encode()).hexdigest()
