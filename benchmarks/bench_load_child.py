"""One run of one contender, in a process of its own: bench_load.py starts it, and reads the file it leaves.

python benchmarks/bench_load_child.py NAME RESULT IMAGES --out OUT --sets FOLDER --source FOLDER [--store URL]
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench_contenders import CONTENDERS
from bench_loaders import BATCH, SIZE, Contender, Data
from bench_machine import CORES, two_cores

if TYPE_CHECKING:
    import torch

TIMEOUT_S = 300  #: more than twice what the slowest takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one run took."""

    import_s: float  #: of the modules its script needs, in a fresh process; torch too where they import it
    torch_s: float  #: of torch after that
    first_batch_s: float  #: from there on, so with the making of the loader
    first_epoch_images_per_s: float  #: from the same moment to the last batch of as many images as are timed
    images_per_s: float | None  #: from there on, over as many again; None if not asked for


def batches_for(images: int) -> int:
    """Batches to time: an even number, because two worker processes finish theirs in pairs."""
    return -(-images // (CORES * BATCH)) * CORES


def check_batch(images: torch.Tensor, contender: Contender) -> None:
    """Refuse to time a loader that gives something else than it claims."""
    import torch

    layout = torch.channels_last if contender.channels_last else torch.contiguous_format
    dtype = str(images.dtype).removeprefix("torch.")
    got = (tuple(images.shape), dtype, images.is_contiguous(memory_format=layout))
    wanted = ((BATCH, 3, SIZE, SIZE), contender.dtype, True)
    if got != wanted:
        raise SystemExit(f"The loader gave (shape, dtype, in its layout) {got} instead of {wanted}.")
    if contender.dtype != "uint8" and not float(images.min()) < 0 < float(images.max()) < 4:
        raise SystemExit("The loader gave float images that are not normalised.")


def timed(contender: Contender, data: Data, images: int, first_only: bool) -> Timing:
    """Import what the contender needs, make it, and go through at least `images` images once or twice."""
    clock = time.perf_counter
    begun = clock()
    for module in contender.imports:
        importlib.import_module(module)
    imported = clock()
    importlib.import_module("torch")
    start = clock()
    count, later = batches_for(images), None
    with contextlib.closing(contender.stream(data)) as stream:
        first = next(stream)
        first_batch = clock()
        check_batch(first, contender)
        checked_s = clock() - first_batch  # not the loader's
        del first
        for _ in range(count - 1):
            next(stream)
        first_epoch = clock()
        if not first_only:
            for _ in range(count):
                next(stream)
            later = count * BATCH / (clock() - first_epoch)
    return Timing(
        import_s=imported - begun,
        torch_s=start - imported,
        first_batch_s=first_batch - start,
        first_epoch_images_per_s=count * BATCH / (first_epoch - start - checked_s),
        images_per_s=later,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=CONTENDERS, metavar="NAME")
    parser.add_argument("result", type=Path)
    parser.add_argument("images", type=int)
    parser.add_argument("--first-only", action="store_true")
    for folder in ("out", "sets", "source"):
        parser.add_argument(f"--{folder}", type=Path, required=True)
    parser.add_argument("--store", metavar="URL")
    options = parser.parse_args()
    os.sched_setaffinity(0, two_cores())  # before torch or DALI count the CPUs
    faulthandler.dump_traceback_later(TIMEOUT_S, exit=True)
    data = Data(out=options.out, sets=options.sets, source=options.source, store=options.store)
    timing = timed(CONTENDERS[options.name], data, options.images, options.first_only)
    options.result.write_text(json.dumps(asdict(timing)) + "\n")


if __name__ == "__main__":
    main()
