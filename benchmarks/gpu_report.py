"""All that is to be known of a GPU, by one command, within ten minutes; also when something fails on the way.

    python benchmarks/gpu_report.py [OUT] [--json build/gpu-report.json] [--only NAME,NAME] [--device cuda]

OUT is a converted folder with the splits train and test, of pictures of 256 px; without it, a set is made under
build/, which needs `datasets` and scikit-image. Ten parts, the most telling first, run one after another, each in a
process of its own with its own time limit. After each one the JSON is written anew, so that a run that is killed
leaves what it has measured. A part that fails, or that lacks a library, has its line with the reason.

Without a GPU the parts rehearse on the CPU what can be rehearsed there, with small numbers, and say what they left
out. Nobody else may use the GPU meanwhile. The exit code is 1 if something failed, and 0 if all was measured or left
out for a reason.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from bench_machine import ROOT, environment, header, write_json
from gpu_report_part import FAILED, Settings
from gpu_report_run import Outcome, Part, run

PARTS = (
    Part("card", "card, driver, libraries, engines", "gpu_report_card:card", 35),
    Part("dali", "dali against bare DALI", "gpu_report_speed:dali", 85),
    Part("streams", "tests of streams", "gpu_report_tests:streams", 90),
    Part("parity", "tests of parity", "gpu_report_tests:parity", 60),
    Part("faults", "tests of faults", "gpu_report_tests:faults", 55),
    Part("torchcodec", "torchvision against bare TorchCodec", "gpu_report_speed:torchcodec", 60),
    Part("threads", "decoding on the CPU", "gpu_report_speed:threads", 45),
    Part("simclr", "SimCLR's augmentation", "gpu_report_profile:simclr", 20),
    Part("memory", "memory of the GPU", "gpu_report_memory:memory", 50),
    Part("train", "train.py: waiting for the loader", "gpu_report_speed:training", 40),
)
MAKING = ("datasets", "skimage")  #: what a set cannot be made without
_WIDTH = 140  #: characters of the table, where the terminal does not say


def report(parts: tuple[Part, ...], settings: Settings, json: Path | None) -> dict[str, Outcome]:
    """Run the parts in their order; what became of each, also in the JSON as far as it has come."""
    outcomes: dict[str, Outcome] = {}
    head = {**header(), "settings": asdict(settings)}
    for number, part in enumerate(parts, start=1):
        print(f"{number}/{len(parts)} {part.title}", file=sys.stderr, flush=True)
        outcomes[part.name] = outcome = run(part, settings)
        print("".join(f"    {line}\n" for line in outcome.lines), end="", file=sys.stderr, flush=True)
        if json:
            write_json(json, {**head, "parts": {name: one.dump() for name, one in outcomes.items()}})
    return outcomes


def show(outcomes: dict[str, Outcome], title: str) -> None:
    """The table."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    table = Table(title=title, show_lines=True)
    for heading, options in {"part": {"max_width": 26}, "": {}, "s": {"justify": "right"}, "found": {}}.items():
        table.add_column(heading, **options)  # type: ignore[arg-type]
    for number, outcome in enumerate(outcomes.values(), start=1):
        text = "\n".join(outcome.lines).replace("[", r"\[")
        table.add_row(f"{number} {outcome.title}", outcome.state, f"{outcome.seconds:.0f}", text)
    console.print(table)


def make_set(real: bool) -> tuple[str | None, str]:
    """The report's own set, and why there is none; both commands only look at what they have finished before."""
    if missing := [module for module in MAKING if importlib.util.find_spec(module) is None]:
        return None, f"no set: {missing[0]} cannot be imported to make one, and no OUT was given"
    source, out = (ROOT / f"build/gpu-report/{'card' if real else 'rehearsal'}-{what}" for what in ("source", "out"))
    counts = ["--train", "6000", "--test", "600"] if real else ["--train", "200", "--test", "40"]
    commands = [[ROOT / "scripts/sample_source.py", source, *counts]]
    for split in ("train", "test"):
        commands.append(["-m", "wdsremux", "convert", source, out, "--split", split])
    for command in commands:
        done = subprocess.run(
            [sys.executable, *map(str, command)], check=False, capture_output=True, text=True, env=environment()
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["without a word"]
            return None, f"no set: {command[0]} ended with exit code {done.returncode}: {said[-1]}"
    return str(out), ""


def chosen(text: str) -> tuple[Part, ...]:
    """The parts of --only, in the order of the report."""
    wanted, known = set(text.split(",")), [part.name for part in PARTS]
    if unknown := wanted - set(known):
        raise argparse.ArgumentTypeError(f"Invalid part (got {', '.join(unknown)}). Supported: {', '.join(known)}")
    return tuple(part for part in PARTS if part.name in wanted)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("out", nargs="?", type=Path, metavar="OUT", help="a converted folder with the splits train and test")
    add("--device", choices=["cuda", "cpu"], help="cpu: a rehearsal; by default CUDA where there is one")
    add("--only", type=chosen, default=PARTS, metavar="NAME,NAME", help="parts to run, for example card,dali")
    add("--json", type=Path, default=ROOT / "build/gpu-report.json", metavar="FILE", help="where all figures go")
    return parser.parse_args()


def settings_for(device: str | None) -> Settings:
    """Sizes for this device, without a set."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} finds no CUDA device; leave out --device for a rehearsal on the CPU.")
    if device == "cpu":
        return Settings(out=None, device=device, batch=32, size=64, warmup_batches=4, threads=2, patience=3)
    return Settings(out=None, device=device, batch=256, size=224)


def main() -> int:
    """All parts, then the table."""
    options, start = parse(), time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a part does not outlive the report
    settings = settings_for(options.device)
    if options.out and not (options.out / "train").is_dir():
        sys.exit(f"{options.out} has no split train. Give a folder that `wdsremux convert` made, or none at all.")
    out, no_set = (str(options.out.resolve()), "") if options.out else make_set(settings.real)
    outcomes = report(options.only, replace(settings, out=out, no_set=no_set), options.json)
    took = time.perf_counter() - start
    where = "a GPU" if settings.real else "a CPU, so this is a rehearsal"
    show(outcomes, f"on {where}, in {took:.0f} s; all figures are in {options.json}")
    return 1 if any(outcome.state == FAILED for outcome in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
