"""What the modules of the codec hand each other."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  #: uint8 [H, W, 3], RGB, contiguous, upright
MAX_SIDE = 65_500  #: of a picture that libjpeg writes, in pixels; the frame header of a JPEG could hold 65,535
#: How many times the pixels that are wanted, a side, a JPEG is decoded to when it is scaled in the DCT domain.
FINE, FAST = 2, 1
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Jpeg:
    """An encoded picture."""

    data: bytes  #: the JPEG file's content
    width: int  #: in pixels, upright
    height: int


def reason(error: Exception) -> str:
    """An error's text without memory addresses: rejects.jsonl must be the same in every run."""
    return _ADDRESS.sub("", str(error)).strip().rstrip(".") or type(error).__name__
