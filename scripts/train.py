"""Train a small convolutional network on a converted split, and stop and resume it anywhere.

    python scripts/train.py OUT
    python scripts/train.py OUT --checkpoint-every 5 --resume     # begins, or goes on where it was killed

OUT holds the splits `train` and `test`. On the sample source (scripts/sample_source.py) ten epochs take about
half a minute on two cores and reach some 98 % on the test split. With `--shuffle-labels` each train picture
keeps one label, but a random one: accuracy falls to chance, so what was learnt did come from the pictures.

A checkpoint holds the loader's state beside the model's, so a run resumed in mid-epoch sees exactly the
samples that were left, with the same augmentation. On a CPU it ends in the same weights as a run without a
break, given the same number of CPUs; the SHA-256 printed at the end shows it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import wdsremux

Batch = tuple[Tensor, Tensor, Tensor]  #: images float [N, 3, size, size]; labels int64 [N]; ids int64 [N]

WIDTHS = (3, 32, 64, 128, 256, 256)  #: channels after each halving; 0.98 M parameters with ten classes
WEIGHT_DECAY = 0.05
#: The options that decide what is learnt: a checkpoint made with others is not gone on with.
SHAPING = ("epochs", "batch_size", "size", "lr", "seed", "shuffle_labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    out: Path
    epochs: int
    batch_size: int
    size: int  #: px
    lr: float  #: the highest of the one-cycle schedule
    seed: int
    checkpoint: Path
    checkpoint_every: int  #: steps; 0: at the end of each epoch only
    resume: bool
    backend: str
    threads: int | None  #: of the loader; None: this process's share of the CPUs
    shuffle_labels: bool


@dataclass(slots=True, kw_only=True)
class Training:
    """What changes while training, and so all that a checkpoint must hold."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    loader: Any
    epoch: int = 0
    step: int = 0  #: since the first epoch


@dataclass(slots=True, kw_only=True)
class Report:
    """What one epoch, or the part of it that this run did, came to."""

    images: int = 0
    loss_sum: float | Tensor = 0.0  #: of all images; stays on the device, so that no step waits to read it
    waiting_s: float = 0.0
    total_s: float = 0.0

    def __str__(self) -> str:
        if not self.images:
            return "nothing left to do"
        loss = float(self.loss_sum) / self.images
        speed, waiting = self.images / self.total_s, self.waiting_s / self.total_s
        return f"loss {loss:.4f}, {speed:,.0f} images/s, {waiting:.1%} of the time waiting for data"


def parse(arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description="Train a small network on a converted split.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder with the splits train and test")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--size", type=int, default=96, help="side of a training picture in px")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate of the schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=Path("build/train/checkpoint.pt"), metavar="FILE")
    parser.add_argument(
        "--checkpoint-every", type=int, default=0, metavar="STEPS", help="0: at the end of each epoch only"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    parser.add_argument("--backend", default="auto", choices=["auto", "dali", "torchvision"])
    parser.add_argument("--threads", type=int, default=None, help="threads of the loader")
    parser.add_argument("--shuffle-labels", action="store_true", help="give each picture a random label")
    return Options(**vars(parser.parse_args(arguments)))


def block(channels_in: int, channels_out: int) -> nn.Module:
    """Half the width and height, more channels."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def network(classes: int) -> nn.Module:
    """Five halvings, the mean over the places left, one linear layer."""
    blocks = [block(channels_in, channels_out) for channels_in, channels_out in pairwise(WIDTHS)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], classes))


def open_split(options: Options, split: str, *, training: bool) -> Any:
    """The loader of a split; images come normalised, in the memory layout that convolutions are fast in."""
    return wdsremux.DataLoader(
        options.out,
        options.batch_size,
        split=split,
        shuffle=training,
        augment="train" if training else "eval",
        size=options.size,
        backend=options.backend,
        seed=options.seed,
        num_threads=options.threads,
        memory_format=torch.channels_last,
        fields=("image", "label", "id"),
    )


def class_count(dataset: Any) -> int:
    """How many classes; a split whose labels were plain integers has no names."""
    return len(dataset.classes) if dataset.classes else int(max(dataset.targets)) + 1


def begin(options: Options, loader: Any, device: torch.device) -> Training:
    """A model, optimiser and schedule as they are before the first step."""
    torch.manual_seed(options.seed)
    model = network(class_count(loader.dataset)).to(memory_format=torch.channels_last).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=WEIGHT_DECAY)
    steps = options.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=options.lr, total_steps=steps)
    return Training(model=model, optimiser=optimiser, schedule=schedule, loader=loader)


def shaping(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in SHAPING}


def save(training: Training, options: Options) -> None:
    """Write the checkpoint beside its name and rename it: a kill leaves the old one or the new one."""
    state = {
        "model": training.model.state_dict(),
        "optimiser": training.optimiser.state_dict(),
        "schedule": training.schedule.state_dict(),
        "loader": training.loader.state_dict(),
        "epoch": training.epoch,
        "step": training.step,
        "rng": torch.get_rng_state(),
        "options": shaping(options),
    }
    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = options.checkpoint.with_name(f".{options.checkpoint.name}.partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, options.checkpoint)


def restore(training: Training, options: Options) -> None:
    """Set everything to where the checkpoint was written, refusing one that was begun with other options."""
    state = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    begun, wanted = state["options"], shaping(options)
    other = [f"{name} is {begun[name]}" for name in SHAPING if begun[name] != wanted[name]]
    if other:
        sys.exit(f"error: in {options.checkpoint} {', '.join(other)}. Give the same, or leave out --resume.")
    training.model.load_state_dict(state["model"])
    training.optimiser.load_state_dict(state["optimiser"])
    training.schedule.load_state_dict(state["schedule"])
    training.loader.load_state_dict(state["loader"])
    training.epoch, training.step = state["epoch"], state["step"]
    torch.set_rng_state(state["rng"])
    print(f"resumed from {options.checkpoint} at step {training.step}", flush=True)


def shuffled_targets(targets: Iterable[int], seed: int) -> Tensor:
    """The labels of all samples dealt out anew: which sample gets which does not depend on the epoch."""
    labels = np.array(targets, dtype=np.int64)
    return torch.from_numpy(np.random.default_rng(seed).permutation(labels))


def timed(batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds spent waiting for it."""
    iterator = iter(batches)
    while True:
        start = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - start


def learn(training: Training, images: Tensor, labels: Tensor) -> Tensor:
    """One step; returns the mean loss of the batch."""
    loss = cross_entropy(training.model(images), labels)
    training.optimiser.zero_grad()
    torch.autograd.backward(loss)  # the same as loss.backward(), which is untyped
    training.optimiser.step()
    training.schedule.step()
    training.step += 1
    return loss.detach()


def train_epoch(training: Training, options: Options, device: torch.device, dealt: Tensor | None) -> Report:
    """What is left of the current epoch; `dealt` gives labels by sample id in place of the true ones."""
    report = Report()
    start = time.perf_counter()
    training.model.train()
    training.loader.set_epoch(training.epoch)  # a resumed loader keeps its place in this epoch
    for (images, labels, ids), waited_s in timed(training.loader):
        if dealt is not None:
            labels = dealt[ids.cpu()]
        loss = learn(training, images.to(device), labels.to(device))
        report.images += len(images)
        report.loss_sum += loss * len(images)
        report.waiting_s += waited_s
        if options.checkpoint_every and training.step % options.checkpoint_every == 0:
            save(training, options)
    report.loss_sum = float(report.loss_sum)  # waits for the device, so that its time counts
    report.total_s = time.perf_counter() - start
    return report


def train(training: Training, options: Options, device: torch.device) -> None:
    """All epochs that are left, a checkpoint after each."""
    targets = training.loader.dataset.targets
    dealt = shuffled_targets(targets, options.seed) if options.shuffle_labels else None
    while training.epoch < options.epochs:
        report = train_epoch(training, options, device, dealt)
        training.epoch += 1
        print(f"epoch {training.epoch}: {report}", flush=True)
        save(training, options)


@torch.inference_mode()
def count_correct(model: nn.Module, loader: Any, device: torch.device) -> tuple[int, int]:
    """How many samples the model names rightly, and of how many; each is seen once."""
    model.eval()
    correct = seen = 0
    for images, labels, _ in loader:
        named = model(images.to(device)).argmax(dim=1)
        correct += int((named == labels.to(device)).sum())
        seen += len(labels)
    return correct, seen


def weights_sha256(model: nn.Module) -> str:
    """One figure to compare two runs by: all parameters and batch-norm statistics, bit by bit."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    options = parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with open_split(options, "train", training=True) as loader:
        training = begin(options, loader, device)
        if options.resume and options.checkpoint.exists():
            restore(training, options)
        train(training, options, device)
    with open_split(options, "test", training=False) as loader:
        correct, seen = count_correct(training.model, loader, device)
    print(f"weights sha256 {weights_sha256(training.model)}")
    print(f"test accuracy: {correct / seen:.4f} ({correct} of {seen})")


if __name__ == "__main__":
    main()
