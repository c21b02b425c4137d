"""What an image costs with nothing around: CPU time of the bare codec, and of entropy decoding alone, in one thread.

    python benchmarks/bench_codec.py SOURCE codec|entropy

Prints as the last line the number of images and the CPU seconds spent in the calls alone. No converter can take less
than `codec` as long as it decodes as much; none at all less than `entropy`: JPEGs have to be read through to the end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench_bake import bake_codec
from bench_converters import files


def entropy_decode(encoded: bytes) -> object:
    """Decode at 1/8, the smallest scale: all coefficients are read, and hardly any is transformed."""
    import simplejpeg

    return simplejpeg.decode_jpeg(encoded, "RGB", min_height=1, min_width=1)


LIMITS: dict[str, Callable[[bytes], object]] = {"codec": bake_codec, "entropy": entropy_decode}


def row_groups(source: Path) -> Iterator[list[bytes]]:
    """The encoded images of a parquet source, one row group at a time."""
    import pyarrow.parquet as pq

    for path in files(source):
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, columns=["image"], use_threads=False)
                yield [row["bytes"] for row in table.column("image").to_pylist()]


def main() -> None:
    """All images of a source, once."""
    call = LIMITS[sys.argv[2]]
    images, cpu_s = 0, 0.0
    for group in row_groups(Path(sys.argv[1])):
        call(group[0])  # untimed: the first of all imports the codec
        start = time.process_time()
        for encoded in group:
            call(encoded)
        cpu_s += time.process_time() - start
        images += len(group)
    print(json.dumps({"images": images, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main()
