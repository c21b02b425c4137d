"""The device that a test runs on, and what is asked of it. On a CPU all of that does nothing, and numbers are small."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wdsremux import DataLoader

_BLOCK = 4096  #: rows of the matrices whose product keeps a GPU busy: some milliseconds
_STILL_S = 0.3  #: memory that has not changed for so long is at rest
_REST_S = 20.0  #: after which memory that goes on changing is taken as it is


class Way(NamedTuple):
    """A way through the backends."""

    backend: str
    decode: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A GPU; or a CPU, where the same code is rehearsed."""

    device: torch.device

    @property
    def real(self) -> bool:
        return self.device.type == "cuda"

    def times(self, real: int, rehearsal: int) -> int:
        """How often, or how many."""
        return real if self.real else rehearsal

    def loader(self, out: Path, way: Way, batch_size: int, **options: Any) -> DataLoader:
        """A loader whose batches come to this device."""
        options = {"num_threads": 2, "size": 96} | options
        return DataLoader(out, batch_size, backend=way.backend, decode=way.decode, device=self.device, **options)

    def stream(self) -> AbstractContextManager[Any]:
        """A stream of the caller's own."""
        if not self.real:
            return contextlib.nullcontext()
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(stream)

    def wait(self) -> None:
        """For all streams."""
        if self.real:
            torch.cuda.synchronize(self.device)

    def keep_busy(self) -> None:
        """Queue some milliseconds of work on the current stream."""
        side = self.times(_BLOCK, 8)
        block = torch.ones((side, side), device=self.device)
        for _ in range(3):
            block = block @ block

    def hold_back(self) -> None:
        """Keep what comes next on the current stream waiting, some 50 ms, and nothing else."""
        if self.real:
            torch.cuda._sleep(100_000_000)  # type: ignore[no-untyped-call]  # clock cycles

    def churn(self) -> None:
        """Take memory of many sizes, write over it and give it back, all behind the current stream's work."""
        for exponent in range(10, self.times(27, 15)):
            torch.full((2**exponent,), 255, dtype=torch.uint8, device=self.device)

    def allocated_bytes(self) -> int:
        """Of torch's tensors on the device, at rest."""
        return self._at_rest(lambda: torch.cuda.memory_allocated(self.device))

    def used_bytes(self) -> int:
        """Of the device's memory, by whomever, at rest, without what torch keeps for later."""
        if self.real:
            gc.collect()
            torch.cuda.empty_cache()
        return self._at_rest(self._used)

    def _used(self) -> int:
        free, total = torch.cuda.mem_get_info(self.device)
        return total - free

    def _at_rest(self, measure: Callable[[], int]) -> int:
        if not self.real:
            return 0
        gc.collect()
        last, since, deadline = measure(), time.monotonic(), time.monotonic() + _REST_S
        while time.monotonic() < min(deadline, since + _STILL_S):
            time.sleep(0.02)
            if (now := measure()) != last:
                last, since = now, time.monotonic()
        return last


def epochs(loader: DataLoader, count: int) -> Iterator[Any]:
    """The batches of so many epochs."""
    for _ in range(count):
        yield from loader
