"""samples.npy: the sample table, one record of 44 bytes a sample, in the order of the shards.

A sample's place in the table is its sample id. The file is a plain .npy (numpy's NEP 1) of a structured,
little-endian dtype, so that it can be memory-mapped and read from any language.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wdsremux.errors import FormatError, counted, one_line
from wdsremux.format.plain import open_plain

NAME = "samples.npy"
NO_LABEL = -1  #: the label of a sample that has none
_MAGIC = b"\x93NUMPY\x01\x00"  #: of a .npy file, with the version of its header

SAMPLE = np.dtype(
    [
        ("shard", "<u4"),  # place of the shard in the manifest's list
        ("offset", "<u8"),  # of the image's first byte in the tar
        ("size", "<u4"),  # of the image, in bytes
        ("label", "<i8"),  # -1: none
        ("crc32", "<u4"),  # of the image's bytes
        ("width", "<u2"),  # in pixels
        ("height", "<u2"),
        ("fragment", "<u4"),  # of the source
        ("row", "<u4"),  # in the fragment
        ("part", "<u4"),  # which of the samples made of that row
    ]
)

Table = NDArray[np.void]  #: one-dimensional, of dtype SAMPLE


def write(file: BinaryIO, blocks: Iterable[Table], count: int) -> None:
    """Write the table piece by piece, so that no more than one piece is in memory.

    Args:
        file: open for binary writing, at its start.
        blocks: arrays of dtype SAMPLE whose lengths add up to `count`.
        count: the number of samples.

    Raises:
        FormatError: if the blocks do not add up to `count`.
    """
    header = {"descr": np.lib.format.dtype_to_descr(SAMPLE), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)
    written = 0
    for block in blocks:
        file.write(np.ascontiguousarray(block, SAMPLE).tobytes())
        written += len(block)
    if written != count:
        raise FormatError(f"{NAME}: {counted(written, 'sample')} written instead of {count:,}")


def read(path: Path) -> Table:
    """Map the table into memory, read-only.

    Raises:
        FormatError: if it is missing, cut short, or not a table of this format.
    """
    try:
        with open_plain(path) as file:
            if file.read(len(_MAGIC)) != _MAGIC:  # np.load would open zip files and pickles, too
                raise FormatError(
                    "cannot be read as a sample table: its header is wrong. Convert again to rebuild it",
                    path,
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that look like Python 2's
            table: Table = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise FormatError("is missing. Convert again to rebuild it", path) from error
    except FormatError:
        raise
    except Exception as error:  # numpy parses the header as Python, and any of its parser's errors come through
        reason = one_line(error, 200)  # which can have all of the header in it
        raise FormatError(f"cannot be read as a sample table: {reason}. Convert again to rebuild it", path) from error
    if table.dtype != SAMPLE or table.ndim != 1:
        raise FormatError(
            f"contains {str(table.dtype)[:200]} with {counted(table.ndim, 'dimension')}, not a sample table of "
            "version 1. Convert again to rebuild it",
            path,
        )
    return table
