"""A slow object store on this machine, for as long as a command runs: what loaders meet that read over a network.

    python benchmarks/bench_store.py NAME=FOLDER [NAME=FOLDER ...] -- COMMAND ...

serves each FOLDER under /NAME/ and runs COMMAND, in which "{store}" stands for the store's URL. Each request waits for
20 ms, and each connection gets 50 MB/s at most. Ranges are answered as HTTP asks, and as S3's clients want it when they
look for a bucket NAME under this address. The server takes part of the same cores: a few percent, for all contenders
alike. Only GET and HEAD, and only files below the folders.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LATENCY_S = 0.020  #: of each request
BYTES_PER_S = 50e6  #: of each connection
PIECE_BYTES = 256 << 10  #: sent at once
ERROR = '<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>no such file</Message></Error>'


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for files of named folders."""

    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True

    def __init__(self, folders: dict[str, Path], *rest: Any) -> None:
        self._folders = folders
        super().__init__(*rest)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, form: str, *values: Any) -> None:
        """Nothing: a line a request would be work as well."""

    def _answer(self, body: bool) -> None:
        time.sleep(LATENCY_S)
        path = self._file()
        if path is None:
            self._head(HTTPStatus.NOT_FOUND, len(ERROR))
            if body:
                self.wfile.write(ERROR.encode())
            return
        size = path.stat().st_size
        asked = asked_range(self.headers.get("Range"), size)
        if asked is None:
            first, end, status = 0, size, HTTPStatus.OK
        else:
            (first, end), status = asked, HTTPStatus.PARTIAL_CONTENT
        more = {"ETag": f'"{size:x}"', "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}
        if asked:
            more["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        self._head(status, end - first, more)
        if body:
            self._send(path, first, end)

    def _file(self) -> Path | None:
        """The file that is asked for; None if there is none below the folders."""
        name, _, rest = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        folder = self._folders.get(name)
        if folder is None:
            return None
        path = (folder / rest).resolve()
        return path if path.is_file() and path.is_relative_to(folder.resolve()) else None

    def _head(self, status: HTTPStatus, size: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(size), "Accept-Ranges": "bytes", **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, path: Path, first: int, end: int) -> None:
        """The bytes, no quicker than the rate allows."""
        start, sent = time.perf_counter(), 0
        with path.open("rb") as file:
            file.seek(first)
            while sent < end - first and (piece := file.read(min(PIECE_BYTES, end - first - sent))):
                try:
                    self.wfile.write(piece)
                except ConnectionError:  # the client has read enough
                    self.close_connection = True
                    return
                sent += len(piece)
                time.sleep(max(0.0, sent / BYTES_PER_S - (time.perf_counter() - start)))


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last of a Range header; None for the whole file."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not found or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    begin = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    return (begin, end) if begin < end else None


class Server(ThreadingHTTPServer):
    """A thread a connection; clients that go away leave no word."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Only what is not a client's going away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(folders: dict[str, Path]) -> Server:
    """A server on a free port of this machine, which has begun to answer."""
    server = Server(("127.0.0.1", 0), partial(Handler, folders))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> int:
    if "--" not in sys.argv:
        raise SystemExit("Give -- and a COMMAND after the folders.")
    cut = sys.argv.index("--")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    options = parser.parse_args(sys.argv[1:cut])
    folders = {name: Path(folder) for name, _, folder in (text.partition("=") for text in options.folders)}
    server = serve(folders)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    command = [word.replace("{store}", url) for word in sys.argv[cut + 1 :]]
    code = subprocess.run(command, check=False).returncode
    server.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
