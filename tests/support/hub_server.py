"""How a Hub of ours answers: one class for a time of listening, one for a request."""

from __future__ import annotations

import functools
import gzip
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.hub_faults import BODIES, DataSet, Fault, Request

if TYPE_CHECKING:
    from tests.support.hub import Hub

README = "README.md"
SECRET = "hf_secret"  #: the token that opens a gated or private data set
BLOCK_BYTES = 1 << 16
URL = re.compile(
    r"/(?P<api>api/)?datasets/(?P<name>[^/]+(?:/(?!revision/)[^/]+)?)(?:/(?P<verb>[^/]+)(?:/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?)?"
)

PAGE = b"<!doctype html><title>Sign in</title><p>This network asks you to sign in first.</p>"


class Server(http.server.ThreadingHTTPServer):
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
            size = file.stat().st_size
            entries[path] = {"type": "file", "oid": _tag(file), "size": size, "path": path}
        return entries

    def about(self) -> dict[str, Any]:
        """The commit, as the Hub describes it."""
        return {
            "_id": "1",
            "id": self.dataset.name,
            "sha": self.commit,
            "gated": "auto" if self.dataset.access == "gated" else False,
            "private": self.dataset.access == "private",
            "siblings": [{"rfilename": path} for path in sorted(self.files)],
            "tags": [],
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes: 40 ms an answer otherwise
    server: Server

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
        self.record = Request(self.command, self.path, self.headers["Range"] or "", self.token)
        hub.requests.append(self.record)
        self.server.halted.wait(hub.delay_s)
        if self.path.startswith("/api/") and self._fails(hub.strike(self.path, api=True)):
            return None
        self.elsewhere = self.path.startswith("/cdn/")
        if self.elsewhere and not hub.redeem(self.path):
            return self._refuse(403, "", "the signature is good no longer")
        match = URL.fullmatch(urllib.parse.urlsplit(self.path).path.removeprefix("/cdn"))
        dataset = hub.datasets.get(match["name"]) if match else None
        hidden = dataset is not None and dataset.access == "private" and self.token != SECRET and not self.elsewhere
        if match is None or dataset is None or hidden:
            return self._refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        revision, path = (urllib.parse.unquote(match[part] or "") for part in ("revision", "path"))
        commit = dataset.heads.get(revision or "main", revision)
        if commit not in dataset.trees:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        place = _Place(match["name"], dataset, commit, files_of(dataset.trees[commit]), path)
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
        if place.path != README and not self.elsewhere and self._barred(place):
            return self._gate(place)
        if place.path != README and self.server.hub.cdn and not self.elsewhere:
            return self._redirect(place)
        self.record.data = self.command == "GET" and place.path != README
        size = place.files[place.path].stat().st_size
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "bytes=0-")
        first, last = (int(span[1]), min(int(span[2] or size), size - 1)) if span else (0, size - 1)
        if first > last:
            return self._refuse(416, "", "Range Not Satisfiable", {"Content-Range": f"bytes */{size}"})
        fault = self.server.hub.strike(place.path, api=False) if self.record.data else None
        return None if self._fails(fault) else self._serve(place, first, last + 1, fault)

    def _redirect(self, place: _Place) -> None:
        """Send it to the other host."""
        file = place.files[place.path]
        told = {
            "Location": self.server.hub.sign(urllib.parse.urlsplit(self.path).path),
            "X-Repo-Commit": place.commit,
            "X-Linked-Etag": f'"{_tag(file)}"',
            "X-Linked-Size": str(file.stat().st_size),
        }
        self._head(302, 0, told)

    def _serve(self, place: _Place, first: int, end: int, fault: Fault | None) -> None:
        """The bytes first … end - 1 of a file, or what a fault leaves of them."""
        file, kind = place.files[place.path], fault.kind if fault else ""
        if fault and fault.other and kind == "other":
            file = fault.other / place.path
        size, ranged = file.stat().st_size, bool(self.headers["Range"]) and kind != "whole"
        first, end = (first, min(end, size)) if kind != "whole" else (0, size)
        kept = fault.kept(end - first) if fault else end - first
        if kind == "short":
            end = first + kept
        told = {"ETag": f'"{_tag(file)}"', "X-Repo-Commit": place.commit, "Accept-Ranges": "bytes"}
        told |= {"Content-Range": f"bytes {first}-{end - 1}/{size}"} if ranged else {}
        body: bytes | None = None
        if kind == "gzip":
            packed = gzip.compress(file.read_bytes()[first:end])
            body, told["Content-Encoding"] = packed[: len(packed) // 2], "gzip"
        length = len(body) if body is not None else kept if kind == "length" else end - first
        self._head(206 if ranged else 200, length, told)
        if self.command == "GET" and body is not None:
            self.wfile.write(body)
        elif self.command == "GET":
            self._send(file, first, kept, pause_s=0.05 if kind == "slow" else 0.0)
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()  # at once: the server itself would say goodbye first
        self.close_connection = self.close_connection or fault is not None

    def _send(self, file: Path, first: int, length: int, pause_s: float) -> None:
        piece = -(-length // 20) if pause_s else BLOCK_BYTES
        with file.open("rb") as opened:
            opened.seek(first)
            while length > 0 and (block := opened.read(min(length, piece))):
                self.server.halted.wait(pause_s)
                self.wfile.write(block)
                self.server.halted.wait(len(block) / self.server.hub.bytes_a_second)
                self.record.sent_bytes += len(block)
                length -= len(block)

    def _fails(self, fault: Fault | None) -> bool:
        """Whether a fault leaves nothing more to do."""
        self.record.fault = fault.kind if fault else ""
        if fault is None or fault.kind in BODIES:
            return False
        if fault.kind == "page":
            self._reply(PAGE, 200, {"Content-Type": "text/html"})
            return True
        if fault.kind == "expired":
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return True
        if fault.kind.isdigit():
            code = {"401": "RepoNotFound", "404": "EntryNotFound"}.get(fault.kind, "")
            told = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            self._refuse(int(fault.kind), code, "failed on purpose", told)
            return True
        if fault.kind == "stall":
            self.server.halted.wait()
        else:
            self.server.hub.down(fault.down_s)
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
        self._reply(json.dumps(value).encode(), status, {"Content-Type": "application/json"} | dict(headers or {}))

    def _reply(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self._head(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.record.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def files_of(folder: Path) -> dict[str, Path]:
    """All files below a folder, by their path in it."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _oid(path: str) -> str:
    return hashlib.sha1(path.encode()).hexdigest()


def _tag(file: Path) -> str:
    """What names a file's content."""
    status = file.stat()
    return _hashed(file, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4_096)
def _hashed(file: Path, size: int, mtime_ns: int) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
