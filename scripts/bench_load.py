"""Images a second of loaders on two CPU cores: `wdsremux.DataLoader` beside what people use today.

    python scripts/bench_load.py [OUT] [--json FILE] [--only NAME,NAME] [--rounds 5] [--images 6000]

All contenders read the same JPEG shards and do the same work: a random resized crop to 224 px (scale 0.08
to 1, ratio 3/4 to 4/3), a horizontal flip, normalisation (not for uint8), a batch of 256. Each run is a
process of its own, so that no contender meets another's threads, memory or import order; rounds are
interleaved (A B C, A B C, ...), so that a machine that slows down slows all of them. Where other processes
took part of the two cores, a round says nothing of a ratio: they slow contenders by very different amounts
(seen: webdataset's workers to a third, threads to a half), so such rounds are shown and not judged. Whether a
target is met is printed, never asserted: a timing that decides a test fails on the first busy machine.

Without OUT it makes its own set under build/.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Generator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Images = Generator[torch.Tensor, None, None]  #: endless; each batch seen as [N, 3, 224, 224]

ROOT = Path(__file__).resolve().parent.parent
SIZE = 224  #: pixels, side of the crop
BATCH = 256
CORES = 2
WARMUP_BATCHES = 4  #: more than any contender's prefetch needs to settle; even, see `batches_for`
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  #: ImageNet's, for pixels in [0, 1]
RUN_TIMEOUT_S = 1800
QUIET_CORES = 0.1  #: a run is quiet if others took no more than this of its two cores
PACKAGES = (
    "wdsremux",
    "torch",
    "torchvision",
    "torchcodec",
    "webdataset",
    "nvidia-dali-cuda120",
    "nvidia-dali-cuda130",
    "datasets",
    "pyarrow",
    "simplejpeg",
    "pillow",
    "numpy",
)


# Contenders. Each is a function OUT -> Images. What has no complete annotations is imported as Any, by name.


def ours(out: Path, *, backend: str, dtype: str, channels_last: bool) -> Images:
    """`wdsremux.DataLoader` as its users write it; dtype "uint8" is not normalised."""
    import torch

    # Not `import wdsremux`: this file has to check and run where only the peers are installed.
    loader = importlib.import_module("wdsremux").DataLoader(
        out,
        batch_size=BATCH,
        split="train",
        augment="train",
        size=SIZE,
        backend=backend,
        dtype=getattr(torch, dtype),
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    with loader:
        while True:
            for images, _ in loader:
                yield images


def webdataset_v2(out: Path, *, tuned: bool) -> Images:
    """webdataset and torchvision's v2 transforms in a torch DataLoader with a worker a core.

    As webdataset's README has it: its own decoder gives uint8 tensors, `batched` makes the batches, WebLoader carries
    them over. `tuned` is the quickest form that we found: TorchCodec decodes, and torch's DataLoader collates straight
    into shared memory. In both, v2 works on uint8 until ToDtype. `repeat` makes the stream endless, so that no epoch's
    start is timed.
    """
    import torch
    from torchvision.transforms import v2

    wds: Any = importlib.import_module("webdataset")
    decode_jpeg: Any = importlib.import_module("torchcodec.decoders").decode_jpeg
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=SCALE, ratio=RATIO, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def image(encoded: bytes) -> torch.Tensor:
        pixels: torch.Tensor = transform(decode_jpeg(torch.frombuffer(bytearray(encoded), dtype=torch.uint8)))
        return pixels

    dataset = wds.WebDataset(shards_of(out), shardshuffle=100).shuffle(1000)
    loader: Any
    if tuned:
        dataset = dataset.to_tuple("jpg", "cls").map_tuple(image, int).repeat()
        loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=CORES)
    else:
        dataset = dataset.decode("torchrgb8").to_tuple("jpg", "cls").map_tuple(transform, int).repeat()
        loader = wds.WebLoader(dataset.batched(BATCH), batch_size=None, num_workers=CORES)
    for images, _ in loader:
        yield images


def dali_readers_webdataset(out: Path, *, channels_last: bool) -> Images:
    """DALI's own tar reader and CPU operators as in its ResNet-50 example, given out by DALIGenericIterator.

    `image_random_crop` decodes only the crop; decoding all and then `random_resized_crop` was not quicker.
    """
    fn: Any = importlib.import_module("nvidia.dali.fn")
    types: Any = importlib.import_module("nvidia.dali.types")
    plugin: Any = importlib.import_module("nvidia.dali.plugin.pytorch")

    shards = shards_of(out)
    # exec_dynamic is the default: the tensors handed out are the caller's to keep, without a copy.
    pipeline = importlib.import_module("nvidia.dali").Pipeline(batch_size=BATCH, num_threads=CORES, device_id=None)
    with pipeline:
        encoded, labels = fn.readers.webdataset(
            paths=shards,
            index_paths=[shard.removesuffix(".tar") + ".idx" for shard in shards],
            ext=["jpg", "cls"],
            missing_component_behavior="error",
            random_shuffle=True,
            name="reader",
        )
        crops = fn.decoders.image_random_crop(encoded, random_area=SCALE, random_aspect_ratio=RATIO)
        images = fn.crop_mirror_normalize(
            fn.resize(crops, size=(SIZE, SIZE)),
            mirror=fn.random.coin_flip(),
            dtype=types.FLOAT,
            output_layout="HWC" if channels_last else "CHW",
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
        )
        # Labels are digits of ASCII, one or more: without padding they make no tensor.
        pipeline.set_outputs(images, fn.pad(labels))
    batches = plugin.DALIGenericIterator(
        pipeline,
        ["images", "labels"],
        reader_name="reader",
        auto_reset=True,
        last_batch_policy=plugin.LastBatchPolicy.DROP,
    )
    while True:
        for [batch] in batches:
            yield batch["images"].permute(0, 3, 1, 2) if channels_last else batch["images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A loader, and the form of the batches it claims to give."""

    stream: Callable[[Path], Images]
    dtype: str = "float32"
    channels_last: bool = False


def _ours(backend: str, dtype: str = "float32", channels_last: bool = False) -> Contender:
    stream = partial(ours, backend=backend, dtype=dtype, channels_last=channels_last)
    return Contender(stream=stream, dtype=dtype, channels_last=channels_last)


def _dali(channels_last: bool) -> Contender:
    stream = partial(dali_readers_webdataset, channels_last=channels_last)
    return Contender(stream=stream, channels_last=channels_last)


CONTENDERS: dict[str, Contender] = {
    "auto-float": _ours("auto"),
    "auto-float-cl": _ours("auto", channels_last=True),
    "auto-uint8-cl": _ours("auto", dtype="uint8", channels_last=True),
    "dali-float": _ours("dali"),
    "dali-float-cl": _ours("dali", channels_last=True),
    "peer-webdataset-v2": Contender(stream=partial(webdataset_v2, tuned=False)),
    "peer-webdataset-v2-tuned": Contender(stream=partial(webdataset_v2, tuned=True)),
    "peer-dali-float": _dali(channels_last=False),
    "peer-dali-float-cl": _dali(channels_last=True),
}


@dataclass(frozen=True, slots=True)
class Target:
    """`ours` is to give at least `factor` times the images a second of `peer`."""

    ours: str
    peer: str
    factor: float


TARGETS = (
    Target("auto-float", "peer-webdataset-v2", 1.8),
    Target("auto-float-cl", "peer-webdataset-v2", 2.8),
    Target("auto-uint8-cl", "peer-webdataset-v2", 3.5),
    Target("auto-float-cl", "peer-dali-float-cl", 1.5),
    Target("dali-float", "peer-dali-float", 1.0),
    Target("dali-float-cl", "peer-dali-float-cl", 1.0),
)


# One run, in a process of its own.


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
    if contender.dtype == "float32" and not float(images.min()) < 0 < float(images.max()):
        raise SystemExit("The loader gave float images that are not normalised.")


def time_stream(contender: Contender, out: Path, images: int) -> float:
    """Images a second over at least `images` images, after the warm-up."""
    count = batches_for(images)
    with contextlib.closing(contender.stream(out)) as stream:
        check_batch(next(stream), contender)
        for _ in range(WARMUP_BATCHES - 1):
            next(stream)
        start = time.perf_counter()
        for _ in range(count):
            next(stream)
        return count * BATCH / (time.perf_counter() - start)


def two_cores() -> list[int]:
    """Two CPUs this process may use, on two physical cores where there are such: siblings share one core."""
    chosen: dict[str, int] = {}
    allowed = sorted(os.sched_getaffinity(0))
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        chosen.setdefault(siblings.read_text() if siblings.exists() else str(cpu), cpu)
    cores = (list(chosen.values()) + [cpu for cpu in allowed if cpu not in chosen.values()])[:CORES]
    if len(cores) < CORES:
        raise SystemExit(f"This process may use {len(cores)} CPU; the benchmark needs {CORES}.")
    return cores


def run_child(name: str, out: Path, images: int) -> None:
    """Time one contender and print the figure as the last line of stdout."""
    os.sched_setaffinity(0, two_cores())  # before torch or DALI count the CPUs
    print(json.dumps(time_stream(CONTENDERS[name], out, images)), flush=True)


def busy_cpu_s(cores: Collection[int]) -> float:
    """Seconds that these cores have worked since the machine started, for whomever."""
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in {f"cpu{core}" for core in cores}:
            user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def children_cpu_s() -> float:
    """CPU seconds of every process that this one, or a child of it, has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment() -> dict[str, str]:
    """This process's environment, in which `import wdsremux` finds this checkout, installed or not."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contender in one round."""

    images_per_s: float
    others: float  #: cores that everybody else took meanwhile

    @property
    def quiet(self) -> bool:
        """Whether the figure may be compared."""
        return self.others <= QUIET_CORES


def run(name: str, out: Path, images: int) -> Run | str:
    """One contender in a fresh process, or the last line of what went wrong."""
    command = [sys.executable, __file__, str(out), "--child", name, "--images", str(images)]
    cores = two_cores()
    start, busy_s, own_s = time.perf_counter(), busy_cpu_s(cores), children_cpu_s()
    try:
        # Without a GPU: `auto` would take it.
        hidden = {**environment(), "CUDA_VISIBLE_DEVICES": ""}
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, env=hidden)
    except subprocess.TimeoutExpired:
        return f"no result in {RUN_TIMEOUT_S} s"
    if result.returncode != 0:
        return (result.stderr.strip().splitlines() or [f"exit code {result.returncode}, without a word"])[-1]
    others_s = (busy_cpu_s(cores) - busy_s) - (children_cpu_s() - own_s)
    return Run(
        images_per_s=float(json.loads(result.stdout.splitlines()[-1])),
        others=max(0.0, others_s / (time.perf_counter() - start)),
    )


# All rounds, and the report.


Runs = dict[str, list[Run]]  #: by contender, a run a round


def run_rounds(names: list[str], out: Path, images: int, rounds: int) -> tuple[Runs, dict[str, str]]:
    """All runs, and why each contender failed that did (it is not tried again)."""
    runs: Runs = {name: [] for name in names}
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for name in [name for name in names if name not in failures]:
            result = run(name, out, images)
            if isinstance(result, str):
                failures[name] = result
                del runs[name]
                words = result
            else:
                runs[name].append(result)
                words = f"{result.images_per_s:8,.0f} images/s, others took {result.others:.2f} cores"
            print(f"round {number}/{rounds}  {name:20} {words}", file=sys.stderr, flush=True)
    return runs, failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The middle and the ends of one figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def text(self, form: str) -> tuple[str, str]:
        """Median, and the ends, in the given format."""
        return format(self.median, form), f"{self.low:{form}} - {self.high:{form}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target beside what was measured; `ratio` is taken round by round, where both saw the same machine."""

    target: Target
    quiet_rounds: int
    ratio: Spread | None  #: over the quiet rounds; None if there were none
    met: bool | None


def spread(runs: list[Run]) -> Spread:
    """Of a contender's images a second."""
    return Spread.of([one.images_per_s for one in runs])


def verdicts(runs: Runs) -> list[Verdict]:
    """Every target whose two contenders were run."""
    found = []
    for target in TARGETS:
        if target.ours in runs and target.peer in runs:
            pairs = zip(runs[target.ours], runs[target.peer], strict=True)
            ratios = [own.images_per_s / peer.images_per_s for own, peer in pairs if own.quiet and peer.quiet]
            ratio = Spread.of(ratios) if ratios else None
            met = ratio.median >= target.factor if ratio else None
            found.append(Verdict(target=target, quiet_rounds=len(ratios), ratio=ratio, met=met))
    return found


MET = {None: "?", True: "yes", False: "NO"}


def print_report(runs: Runs, failures: dict[str, str]) -> None:
    """Both tables: contenders, and targets."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table("contender", title=f"images/s on {CORES} cores")
    for heading in ("median", "min - max", "cores taken by others, at most"):
        table.add_column(heading, justify="right")
    for name, done in runs.items():
        table.add_row(name, *spread(done).text(",.0f"), f"{max(one.others for one in done):.2f}")
    console.print(table)
    for name, reason in failures.items():
        console.print(f"{name} failed: {reason}", markup=False)

    table = Table("target", title="ratios")
    for heading in ("at least", "median", "min - max", "quiet rounds", "met"):
        table.add_column(heading, justify="right")
    for verdict in verdicts(runs):
        target = verdict.target
        middle, ends = verdict.ratio.text(".2f") if verdict.ratio else ("", "")
        words = f"{target.ours} / {target.peer}"
        rounds = str(verdict.quiet_rounds)
        table.add_row(words, f"{target.factor:.1f}", middle, ends, rounds, MET[verdict.met])
    if table.row_count:
        console.print(table)


def machine() -> dict[str, Any]:
    """What the figures depend on: CPU model, CPUs this process may use, system."""
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "system": platform.platform()}


def versions() -> dict[str, str]:
    """Python's version and that of every package that takes part and is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def header() -> dict[str, Any]:
    """What stands first in a benchmark's JSON."""
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"date": date, "machine": machine(), "versions": versions()}


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write the JSON of a benchmark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


# The set that is read.


def shards_of(out: Path) -> list[str]:
    """Paths of the training tars, in order."""
    shards = sorted(str(path) for path in (out / "train").glob("*.tar"))
    if not shards:
        raise SystemExit(f"No tars in {out / 'train'}: give an OUT of `wdsremux convert`, or none.")
    return shards


def make_set() -> Path:
    """The benchmark's own set, made once: both commands only look at what they have finished before."""
    source, out = ROOT / "build/bench-source", ROOT / "build/bench-out"
    make_source(source, 6000)
    command = [sys.executable, "-m", "wdsremux", "convert", str(source), str(out)]
    subprocess.run(command, check=True, env=environment())
    return out


def make_source(source: Path, images: int) -> None:
    """Photos of 400 to 700 px as Hub-style parquet, all in the split "train"."""
    script = str(ROOT / "scripts/sample_source.py")
    command = [sys.executable, script, str(source), "--train", str(images), "--test", "0"]
    subprocess.run(command, check=True)


def warm_cache(out: Path) -> dict[str, int]:
    """Read all shards once, so that no contender pays for the disk; their number and bytes."""
    shards = shards_of(out)
    return {"shards": len(shards), "bytes": sum(len(Path(shard).read_bytes()) for shard in shards)}


def names_of(text: str) -> list[str]:
    """The contenders of --only, in the order of the table."""
    wanted = text.split(",")
    if unknown := set(wanted) - set(CONTENDERS):
        words = f"no such contender: {', '.join(unknown)}. Known: {', '.join(CONTENDERS)}"
        raise argparse.ArgumentTypeError(words)
    return [name for name in CONTENDERS if name in wanted]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, help="a converted folder; made under build/ if absent")
    parser.add_argument("--only", type=names_of, default=list(CONTENDERS), metavar="NAME,NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=6000, help="timed in each run, at least (default 6000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """All rounds; exit code 1 if a contender did not run, whatever the ratios."""
    options = parse()
    if options.child:
        run_child(options.child, options.out, options.images)
        return 0
    out = options.out.resolve() if options.out else make_set()
    data = warm_cache(out)
    runs, failures = run_rounds(options.only, out, options.images, options.rounds)
    print_report(runs, failures)
    if options.json:
        settings = {"batch": BATCH, "size": SIZE, "images": options.images, "rounds": options.rounds}
        results = {
            name: {**asdict(spread(done)), "rounds": [asdict(one) for one in done]} for name, done in runs.items()
        }
        found = [asdict(verdict) for verdict in verdicts(runs)]
        figures = {"images_per_s": results, "failures": failures, "ratios": found}
        write_json(options.json, {**header(), "settings": settings, "data": data, **figures})
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
