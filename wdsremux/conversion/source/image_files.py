"""Images of which the rows hold only the path: read when their rows are baked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.compute

from wdsremux import files
from wdsremux.conversion.datasets_quirks import one_try
from wdsremux.conversion.source.base import relative

_AT_ONCE = 16  #: of a remote source: each file is a request of a tenth of a second
_FAULTS = {  #: what is wrong with one file, and not with all; the words are the same on every machine
    FileNotFoundError: "no image: there is no such file",
    NotADirectoryError: "no image: there is no such file",
    IsADirectoryError: "no image: it is a folder",
    PermissionError: "no image: the file may not be read",
}
MOST_BYTES = 2**31 - 1  #: of a file: what Arrow's binary holds, and more than the largest image that is decoded
_NULL = "no image: null"
_OUTSIDE = "no image: the file lies outside the source"


def _nothing(path: str) -> None:
    """Of a source that is no commit on the Hub."""


@dataclass(frozen=True, slots=True)
class Files:
    """Reads files that a source refers to, and names them as the source would."""

    root: str  #: what their names are relative to: a folder, or hf://datasets/ORG/NAME@SHA
    remote: bool
    fetch: Callable[[str], bytes | None] = _nothing  #: gives a file of the Hub's, by its path; None where it is none

    def fill(self, images: pa.Array, paths: pa.Array) -> tuple[pa.Array, dict[int, str]]:
        """Images with the content of the files in place of nulls that have a path; and why some are null still.

        Raises:
            OSError: if a file that is there cannot be read.
            SourceError: likewise, on the Hub.
        """
        if not images.null_count:
            return images, {}
        content: list[bytes | None] = images.to_pylist()
        wanted = {place: path for place, path in enumerate(paths.to_pylist()) if path and content[place] is None}
        faults = {}
        for place, found in zip(wanted, self._read_all(list(wanted.values())), strict=True):
            if isinstance(found, bytes):
                content[place] = found
            else:
                faults[place] = found
        return pa.array(content, images.type), faults

    def _read_all(self, paths: Sequence[str]) -> list[bytes | str]:
        if not self.remote or any(path.startswith("zip://") for path in paths):  # a thread would open the zip anew
            return [self._read(path) for path in paths]
        with ThreadPoolExecutor(_AT_ONCE, "wdsremux-file") as pool:
            return list(pool.map(self._read, paths))

    def _read(self, path: str) -> bytes | str:
        """A file's content, or what is wrong with it."""
        if not self._may_read(path):
            return _OUTSIDE
        try:
            if "://" not in path:
                file_path = Path(self.root) / path
                # A name alone promises no file: `datasets` writes it beside the bytes.
                if not Path(path).is_absolute() and not file_path.exists():
                    return _NULL
                return files.read_plain(file_path, MOST_BYTES)
            if (fetched := self.fetch(path)) is not None:
                return fetched
            with one_try(), fsspec.open(path, "rb") as file:
                return bytes(file.read())
        except files.NotPlain as error:
            return f"no image: {error}"
        except tuple(_FAULTS) as error:
            return next(reason for kind, reason in _FAULTS.items() if isinstance(error, kind))

    def _may_read(self, path: str) -> bool:
        """Whether a path is one that this kind of source may refer to; only a file in a zip has two links.

        A remote source's rows are from strangers, and must not have files of this machine read.
        """
        if path.startswith("/") and "://" not in path:
            return not self.remote  # of this machine, whatever colons a folder has in its name
        inner, _, last = path.rpartition("::")
        if inner and (not inner.startswith("zip://") or "::" in inner):
            return False
        if self.remote:
            return last.startswith(f"{self.root}/") and ".." not in last.split("/")
        return "://" not in last

    def relative(self, paths: pa.Array) -> pa.Array:
        """Paths without the root: rejects.jsonl has to be the same on every machine."""
        compute = pyarrow.compute
        if not compute.any(compute.match_substring_regex(paths, "^/|://")).as_py():
            return paths  # at no cost a row where they are all relative, as they are in parquet
        return pa.array([path and relative(path, self.root) for path in paths.to_pylist()], pa.string())
