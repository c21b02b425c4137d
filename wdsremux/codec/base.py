"""What the modules of the codec hand each other."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdsremux import arguments

Pixels = NDArray[np.uint8]  #: uint8 [H, W, 3], RGB, contiguous, upright
MAX_SIDE = 65_500  #: of a picture that libjpeg writes, in pixels; the frame header of a JPEG could hold 65,535
#: How many times the pixels that are wanted, a side, a JPEG is decoded to when it is scaled in the DCT domain.
FINE, FAST = 2, 1
SUBSAMPLINGS = {"420": 2, "444": 0}  #: name -> Pillow's number
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How pictures are encoded, under the names that these options have on the command line.

    A field is all that a new one takes here: conversions pass this whole, and name in the manifest what is not the
    default.

    Raises:
        OptionError: if a value is none that JPEGs know.
    """

    quality: int = 90  #: 1 to 100, of libjpeg's scale
    subsampling: str = "420"  #: of chroma, a key of `SUBSAMPLINGS`
    restart_rows: bool = False  #: a marker ends each row of coded units, so that rows can be cut out by bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "quality", arguments.integer("quality", self.quality, 1, 100))
        object.__setattr__(self, "restart_rows", arguments.flag("restart_rows", self.restart_rows))
        arguments.one_of("subsampling", self.subsampling, SUBSAMPLINGS)

    @property
    def always(self) -> dict[str, Any]:
        """What a manifest says in any case."""
        return {"quality": self.quality, "subsampling": self.subsampling}

    @property
    def more(self) -> dict[str, Any]:
        """What it says only where it is not the default: sets made before there was such an option can go on."""
        others = [field for field in fields(self) if field.name not in self.always]
        values = {field.name: getattr(self, field.name) for field in others}
        return {field.name: values[field.name] for field in others if values[field.name] != field.default}


@dataclass(frozen=True, slots=True)
class Jpeg:
    """An encoded picture."""

    data: bytes  #: the JPEG file's content
    width: int  #: in pixels, upright
    height: int


def reason(error: Exception) -> str:
    """An error's text without memory addresses: rejects.jsonl must be the same in every run."""
    return _ADDRESS.sub("", str(error)).strip().rstrip(".") or type(error).__name__
