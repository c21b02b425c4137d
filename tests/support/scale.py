"""Run in a process of its own by test_scale: a loader of 100 M samples, resumed late; prints what that costs."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch  # noqa: F401  # loaded before anything is measured

import wdsremux
from wdsremux.loading import loader as _loader  # noqa: F401
from wdsremux.loading.order import deal, steps


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main(out: str, lanes: int, world: int) -> None:
    """Make the loader, load a state at 90 % of epoch 3, take a batch; then time single steps' ids."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before, start = memory("VmRSS"), time.perf_counter()
    options = {"rank": world // 2, "world_size": world, "lanes": lanes, "fields": ("id",)}
    loader = wdsremux.DataLoader(out, 256, **options)  # type: ignore[arg-type]
    made = time.perf_counter()
    nsamples = len(loader.dataset)
    position = nsamples * 9 // 10 // (256 * world) * (256 * world)
    loader.load_state_dict(loader.state_dict() | {"epoch": 3, "position": position})
    (first,) = next(iter(loader))
    ready, peak = time.perf_counter(), memory("VmHWM")
    loader.close()
    order = loader._order
    epoch, times = order.epoch(3), []
    todo = steps(position, nsamples, 256, world, "drop")
    for number in range(200):
        begun = time.perf_counter()
        ids = epoch[deal(todo[number], lanes, world // 2, world)]
        times.append(time.perf_counter() - begun)
        if number == 0 and ids.tolist() != first.tolist():
            raise SystemExit("the loader's first ids are not those of its order")
    cost = {"made_s": made - start, "first_s": ready - start, "memory_bytes": peak - before}
    print(json.dumps(cost | {"step_s": statistics.median(times), "nsamples": nsamples}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
