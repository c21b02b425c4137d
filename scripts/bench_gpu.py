"""Images a second on a GPU by backend and decoder, beside bare nvJPEG of the same bytes; memory; what training waits.

    python scripts/bench_gpu.py [OUT] [--json FILE] [--only NAME,NAME] [--rounds 3] [--images 30000]
    python scripts/bench_gpu.py OUT --device cpu --images 500 --batch 32 --size 64 --rounds 1     # a rehearsal

Loaders give random resized crops to 224 px, flipped, normalised, float16, channels_last, in batches of 256, of
pictures baked at 256 px; epoch after epoch, until enough images have come. "bare" decodes the same files from memory
to whole pictures in batches of the same size and does nothing else: what nvJPEG allows. Each run is a process of its
own; rounds are interleaved, and medians shown. GPU memory is what the whole device held more at its fullest than
before the run (the CUDA context, which every process has, left out), so nobody else may use it meanwhile; "of torch"
is the part that torch's allocator had reserved. Then train.py runs, and its last epoch says which share of the time
it waited for the loader.

Without OUT it makes its own set under build/. Without a CUDA device it says so and exits with 1.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bench_gpu_loaders import CONTENDERS, Batches, Settings, rehearsed
from bench_machine import ROOT, Spread, environment, header, write_json

MB = 1 << 20
WARMUP_BATCHES = 12  #: more than any loader makes ahead
SAMPLE_S = 0.005  #: between two looks at the device's memory
RUN_TIMEOUT_S = 1800


# One run, in a process of its own.


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contender in one round."""

    images_per_s: float
    peak_mb: float  #: of the device's memory, more than before; 0 on a CPU
    torch_mb: float  #: of it, reserved by torch


def run_child(name: str, settings: Settings) -> None:
    """Time one contender and print what was found as the last line of stdout."""
    print(json.dumps(asdict(timed(CONTENDERS[name], settings))), flush=True)


def timed(contender: Callable[[Settings], Batches], settings: Settings) -> Run:
    """Images a second over at least `images` images, after the warm-up; memory from the start."""
    count = max(1, -(-settings.images // settings.batch))
    with peak_memory(settings.device) as peak_bytes, ExitStack() as stack:
        batches = stack.enter_context(closing(contender(settings)))
        for _ in islice(batches, WARMUP_BATCHES):
            pass
        start = time.perf_counter()
        images = sum(islice(batches, count))
        seconds = time.perf_counter() - start
        reserved = reserved_bytes(settings.device)
    return Run(images_per_s=images / seconds, peak_mb=peak_bytes() / MB, torch_mb=reserved / MB)


@contextmanager
def peak_memory(device: str) -> Iterator[Callable[[], int]]:
    """Looks at the device's memory again and again; gives what it held more, at its fullest, than at the beginning."""
    import torch

    if torch.device(device).type == "cpu":
        yield lambda: 0
        return
    torch.zeros(1, device=device)  # the context stands before anything is counted
    torch.cuda.synchronize(device)
    used = [_used_bytes(device)]
    before, ended = used[0], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            used.append(max(used.pop(), _used_bytes(device)))

    watching = threading.Thread(target=watch, name="bench-memory", daemon=True)
    watching.start()
    try:
        yield lambda: used[-1] - before
    finally:
        ended.set()
        watching.join()


def _used_bytes(device: str) -> int:
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return total - free


def reserved_bytes(device: str) -> int:
    """The most that torch's allocator held at once."""
    import torch

    return 0 if torch.device(device).type == "cpu" else torch.cuda.max_memory_reserved(device)


def run(name: str, settings: Settings) -> Run | str:
    """One contender in a fresh process, or the last line of what went wrong."""
    options = [settings.out, "--child", name, "--device", settings.device, "--batch", settings.batch]
    options += ["--size", settings.size, "--images", settings.images]
    options += ["--threads", settings.threads] if settings.threads else []
    result = _process(__file__, *options)
    return result if isinstance(result, Failure) else Run(**json.loads(result.splitlines()[-1]))


class Failure(str):
    """Why a process did not do what it was to do, in one line."""


def _process(*command: object) -> str | Failure:
    """What a Python script prints."""
    words = [sys.executable, *map(str, command)]
    try:
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, env=environment()
        )
    except subprocess.TimeoutExpired:
        return Failure(f"no result in {RUN_TIMEOUT_S} s")
    if done.returncode != 0:
        return Failure((done.stderr.strip().splitlines() or [f"exit code {done.returncode}, without a word"])[-1])
    return done.stdout


# All rounds; training; the report.

Runs = dict[str, list[Run]]  #: by contender, a run a round


def run_rounds(names: list[str], settings: Settings, rounds: int) -> tuple[Runs, dict[str, str]]:
    """All runs, and why each contender failed that did (it is not tried again)."""
    runs: Runs = {name: [] for name in names}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name in [name for name in names if name not in failures]:
            result = run(name, settings)
            if isinstance(result, str):
                failures[name] = result
                del runs[name]
            else:
                runs[name].append(result)
            words = result if isinstance(result, str) else f"{result.images_per_s:10,.0f} images/s"
            print(f"round {number}/{rounds}  {name:18} {words}", file=sys.stderr, flush=True)
    return runs, failures


def train(settings: Settings, epochs: int) -> dict[str, float] | str:
    """train.py's own account of its last epoch: images a second, and the share of time it waited for the loader."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--epochs", epochs, "--batch-size", settings.batch, "--size", settings.size]
        options += [] if settings.device == "cpu" else ["--amp"]  # which CPUs are slow at
        options += ["--device", settings.device, "--checkpoint", Path(folder) / "checkpoint.pt"]
        options += ["--threads", settings.threads] if settings.threads else []
        printed = _process(ROOT / "scripts/train.py", settings.out, *options)
    return printed if isinstance(printed, Failure) else waited(printed)


def waited(printed: str) -> dict[str, float] | str:
    """From what train.py prints: its last epoch's stats line."""
    found = re.findall(r"\(([\d,]+) images/s\): waited ([\d.]+)%", printed)
    if not found:
        return "train.py printed no line of stats"
    speed, share = found[-1]
    return {"images_per_s": float(speed.replace(",", "")), "waited_share": float(share) / 100}


def print_report(runs: Runs, failures: dict[str, str], trained: dict[str, float] | str, what: str) -> None:
    """The table, and a sentence on training."""
    from rich.console import Console
    from rich.table import Table

    console, table = Console(), Table(title=what)
    table.add_column("backend, decode", no_wrap=True)
    for heading in ("images/s", "min - max", "GPU MB", "of torch"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, done in runs.items():
        speed = Spread.of([one.images_per_s for one in done])
        memory = [max(getattr(one, field) for one in done) for field in ("peak_mb", "torch_mb")]
        table.add_row(name, *speed.text(",.0f"), *(f"{size:,.0f}" for size in memory))
    console.print(table)
    for name, reason in failures.items():
        console.print(f"{name} failed: {reason}", markup=False)
    if isinstance(trained, str):
        console.print(f"train.py failed: {trained}", markup=False)
    else:
        speed_, share = trained["images_per_s"], trained["waited_share"]
        console.print(f"train.py waited {share:.1%} of its last epoch for the loader, at {speed_:,.0f} images/s")


def device_name(device: str) -> str:
    """Of the GPU, as its driver has it."""
    import torch

    return "the CPU" if torch.device(device).type == "cpu" else str(torch.cuda.get_device_name(device))


def make_set() -> Path:
    """The benchmark's own set, made once: both commands only look at what they have finished before."""
    source, out = ROOT / "build/bench-gpu-source", ROOT / "build/bench-gpu-out"
    sample = ROOT / "scripts/sample_source.py"
    subprocess.run([sys.executable, sample, source, "--train", "6000", "--test", "600"], check=True)
    for split in ("train", "test"):
        command = [sys.executable, "-m", "wdsremux", "convert", str(source), str(out), "--split", split]
        subprocess.run(command, check=True, env=environment())
    return out


def names_of(text: str) -> list[str]:
    """The contenders of --only, in the order of the table. A comma within a name is written as a dash: dali-gpu."""
    known = {name.replace(", ", "-").replace(" ", "-"): name for name in CONTENDERS}
    wanted = text.split(",")
    if unknown := set(wanted) - set(known):
        raise argparse.ArgumentTypeError(f"no such contender: {', '.join(unknown)}. Known: {', '.join(known)}")
    return [name for short, name in known.items() if short in wanted]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("out", nargs="?", type=Path, help="a converted folder with the splits train and test; made if absent")
    add("--device", default="cuda", help="cuda, cuda:N, or cpu for a rehearsal")
    add("--only", type=names_of, default=list(CONTENDERS), metavar="NAME,NAME", help="for example dali-gpu,bare-dali")
    add("--rounds", type=int, default=3)
    add("--images", type=int, default=30_000, help="timed in each run, at least (default 30000)")
    add("--batch", type=int, default=256)
    add("--size", type=int, default=224, help="px, side of the crop")
    add("--threads", type=int, default=None, help="that decode; by default this process's share of the cores")
    add("--epochs", type=int, default=4, help="of train.py")
    add("--json", type=Path, metavar="FILE", help="write all figures there")
    add("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def check_device(device: str) -> None:
    """End here where it is not there."""
    import torch

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} finds no CUDA device, so there is nothing to measure.")


def main() -> int:
    """All rounds, then training; exit code 1 if something did not run, whatever the figures."""
    options = parse()
    check_device(options.device)
    given = {name: getattr(options, name) for name in ("device", "batch", "size", "images", "threads")}
    if options.child:
        run_child(options.child, Settings(out=options.out, **given))
        return 0
    settings = Settings(out=options.out.resolve() if options.out else make_set(), **given)
    names = [name for name in options.only if rehearsed(name) or settings.device != "cpu"]
    runs, failures = run_rounds(names, settings, options.rounds)
    trained = train(settings, options.epochs)
    name = device_name(settings.device)
    print_report(runs, failures, trained, f"batches of {settings.batch}, {settings.size} px, on {name}")
    if options.json:
        figures: dict[str, Any] = {"runs": {name: [asdict(one) for one in done] for name, done in runs.items()}}
        figures |= {"failures": failures, "train": trained}
        asked = {**given, "rounds": options.rounds, "epochs": options.epochs}
        write_json(options.json, {**header(), "device": name, "settings": asked, **figures})
    return 1 if failures or isinstance(trained, str) else 0


if __name__ == "__main__":
    sys.exit(main())
