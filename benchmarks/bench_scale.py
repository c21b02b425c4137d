"""What large sets cost: plan, journal, manifest, loader and verification at 10^6, 10^8 and 10^9 simulated samples.

    python benchmarks/bench_scale.py build/bench-scale [--page docs/benchmarks.md] [--sizes 1000000:500]

There are no images and no shards: plans, journals, manifests and sample tables are made as a conversion would write
them, and the package's own code works on them. Each step runs in a process that is ended where it takes longer than
`--limit` seconds or more than `--memory` GB. `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from readme_part import replace_part

BEGIN, END = "<!-- scale: made by benchmarks/bench_scale.py -->", "<!-- end of scale -->"
WORK = Path(__file__).with_name("bench_scale_work.py")
SIZES = {10**6: 500, 10**8: 50_000, 10**9: 1_000_000}  #: samples and shards
LOOK_S = 0.01  #: between two looks at the memory of a process
STEPS = {
    "plan": "Plan a conversion",
    "save": "Save the plan",
    "resume_conversion": "Plan again and compare with the saved plan",
    "journal": "Resume where all tasks are done",
    "assemble": "Write sample table and manifest from the journal",
    "write_manifest": "Write the manifest",
    "read_manifest": "Read the manifest",
    "order": "Compute the order of an epoch",
    "open": "Open a loader",
    "first_ids": "First batch of sample ids",
    "resume_loader": "Open a loader and resume at 90% of an epoch",
    "step_ids": "Sample ids of one step of 256",
    "verify": "Verify, without reading shards",
}
CHAINS = {
    "plan": ["plan", "save"],
    "resume": ["resume_conversion"],
    "journal": ["journal", "assemble"],
    "manifest": ["write_manifest"],
    "read": ["read_manifest", "order"],
    "open": ["open", "first_ids"],
    "load": ["resume_loader", "step_ids"],
    "verify": ["verify"],
}
#: Chains that are left out above so many samples, and why.
MOST = {"journal": 10**8, "verify": 10**8}
CONVERSION = ("plan", "resume", "journal")  #: chains in one folder; the others are in another


@dataclass(slots=True)
class Cost:
    """What a step took."""

    seconds: float | None = None  #: None: it was ended
    memory_bytes: int = 0  #: more than after the imports, at its peak, without the page cache
    ended: str = ""  #: why
    cpu_seconds: float | None = None  #: less than `seconds` where other work or the disk is waited for

    def __str__(self) -> str:
        memory = f"{self.memory_bytes / 1e6:,.0f} MB" if self.memory_bytes >= 1e6 else "under 1 MB"
        return self.ended or f"{_time(self.seconds or 0.0)}, {memory}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.01 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a process is ended."""

    seconds: float
    memory_bytes: float


class Watch:
    """The steps of a process, as it tells of them, and its memory meanwhile."""

    def __init__(self, process: subprocess.Popen[str], bounds: Bounds) -> None:
        self.costs: dict[str, Cost] = {}
        self._process, self._bounds = process, bounds
        self._now, self._base, self._begun = "", -1, time.perf_counter()

    def run(self) -> None:
        """To the end of the process."""
        assert self._process.stdout is not None
        listener = threading.Thread(target=self._listen, args=(self._process.stdout,))
        listener.start()
        while self._process.poll() is None:
            self._look()
            time.sleep(LOOK_S)
        listener.join()

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            told: dict[str, Any] = json.loads(line)
            if "begins" in told:
                if self._base < 0:
                    self._base = told["anonymous_bytes"]
                self._begun = time.perf_counter()
                self.costs[told["begins"]] = Cost()
                self._now = told["begins"]
            else:
                cost = self.costs[told["ended"]]
                cost.seconds, cost.cpu_seconds = told["seconds"], told["cpu_seconds"]
                self._now = ""

    def _look(self) -> None:
        name = self._now
        if not name:
            return
        cost = self.costs[name]
        cost.memory_bytes = max(cost.memory_bytes, _anonymous_bytes(self._process.pid) - self._base)
        if cost.memory_bytes > self._bounds.memory_bytes:
            cost.ended = f"over {self._bounds.memory_bytes / 1e9:.0f} GB"
        elif time.perf_counter() - self._begun > self._bounds.seconds:
            cost.ended = f"over {self._bounds.seconds:.0f} s"
        if cost.ended and self._now == name:
            self._process.kill()


def _anonymous_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def measured(chain: str, nsamples: int, nshards: int, folder: Path, bounds: Bounds) -> dict[str, Cost]:
    """The cost of each step of a chain."""
    command = [sys.executable, str(WORK), chain, str(nsamples), str(nshards), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watch = Watch(process, bounds)
        watch.run()
    if process.returncode and not any(cost.ended for cost in watch.costs.values()):
        sys.exit(f"error: {' '.join(command)} failed")
    return watch.costs


def measure(nsamples: int, nshards: int, folder: Path, bounds: Bounds) -> dict[str, Cost]:
    """All steps at one size."""
    costs: dict[str, Cost] = {}
    for chain in CHAINS:
        if nsamples <= MOST.get(chain, nsamples):
            place = folder / ("conversion" if chain in CONVERSION else "split")
            found = measured(chain, nsamples, nshards, place, bounds)
            costs |= found
            print(f"{nsamples:,}", {name: str(cost) for name, cost in found.items()}, flush=True)
    return costs


def table(figures: dict[int, dict[str, Cost]]) -> str:
    """The figures as Markdown."""
    sizes = [f"{nsamples:,} samples" for nsamples in figures]
    lines = [f"| Step | {' | '.join(sizes)} |", f"|---|{'---:|' * len(sizes)}"]
    for name, words in STEPS.items():
        cells = [str(costs.get(name, "not measured")) for costs in figures.values()]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default=",".join(f"{n}:{shards}" for n, shards in SIZES.items()))
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of a step, at most")
    parser.add_argument("--memory", type=float, default=6.0, help="GB of a step, at most")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sizes = [tuple(map(int, size.split(":"))) for size in options.sizes.split(",")]
    figures: dict[int, dict[str, Cost]] = {}
    for nsamples, nshards in sizes:
        folder = options.folder / str(nsamples)
        shutil.rmtree(folder, ignore_errors=True)
        figures[nsamples] = measure(nsamples, nshards, folder, Bounds(options.limit, options.memory * 1e9))
        shutil.rmtree(folder, ignore_errors=True)
    print(table(figures))
    if options.page:
        replace_part(options.page, BEGIN, END, f"\n{table(figures)}\n")
    if options.json:
        found = {str(size): {name: asdict(cost) for name, cost in costs.items()} for size, costs in figures.items()}
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
