"""A preview: a PNG that says whose it is, so that only such a file is replaced by one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from wdsremux import files
from wdsremux.errors import OptionError, OutputError

SOFTWARE = "wdsremux preview"  #: the value of the PNG's text "Software" (PNG, third edition, 11.3.3)
_START, _MARK = b"\x89PNG\r\n\x1a\n", b"Software\0wdsremux preview"
_HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Preview:
    """What a converted split contains, in one image. Notebooks display it; `save` writes it to a file."""

    png: bytes = field(repr=False)  #: the content of a PNG file
    notes: tuple[str, ...] = ()  #: what could not be shown, each in a sentence

    def _repr_png_(self) -> bytes:
        """What IPython shows."""
        return self.png

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a PNG file, whole or not at all.

        Raises:
            OptionError: if the name does not end with .png.
            OutputError: if it cannot be written, or would replace something that is no preview.
        """
        place = Path(path).expanduser()
        check_place(place)
        try:
            with files.atomic(place) as file:
                file.write(self.png)
        except OSError as error:
            raise OutputError(f"{place} cannot be written: {error.strerror}. Choose another place") from error


def check_place(path: Path) -> None:
    """See that a preview can be written there, before it is made.

    Raises:
        OptionError: if the name is not that of a PNG.
        OutputError: if its folder is missing, or something else is there.
    """
    if path.suffix.lower() != ".png":
        raise OptionError(f"Invalid output (got {str(path)!r}). Supported: a file name that ends with .png")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: {path.parent} is not a folder. Create it, or choose another one")
    if os.path.lexists(path) and not _is_preview(path):
        raise OutputError(
            f"{path} was not made by `wdsremux preview` and would be replaced. Move it away, or choose another name"
        )


def _is_preview(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # it may not be read
        return False
    return head.startswith(_START) and _MARK in head
