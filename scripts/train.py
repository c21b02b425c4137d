"""Train a small convolutional network on a converted set, on any number of processes. It can be stopped and resumed.

    python scripts/train.py OUT
    python scripts/train.py OUT --checkpoint-every 5 --resume     # starts, or resumes after it was stopped
    torchrun --nproc-per-node 8 scripts/train.py OUT --resume     # the same on eight GPUs, or eight CPU processes

OUT must contain the splits `train` and `test`. With the sample data (scripts/sample_source.py), ten epochs take
about half a minute on two cores and reach more than 98% accuracy on the test split. With `--shuffle-labels`, each
training image gets a random label that it keeps: accuracy then falls to chance, which shows that the network does
learn from the images.

A checkpoint contains the state of the loader and of the model. A run that is resumed in the middle of an epoch sees
exactly the samples that were left, with the same augmentation, even on another number of ranks: you can start on
four and resume on three. `--batch-size` is the number of samples on each rank, and may change, too: the learning
rate depends only on the share of samples seen. On a CPU, a resumed run ends with the same weights as an
uninterrupted run on the same number of ranks and CPUs. The SHA-256 that is printed at the end shows it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import checkpoint
import numpy as np
import torch
from ranks import Place, joined, replicated, share_buffers, total
from small_network import network
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import wdsremux

WEIGHT_DECAY = 0.05
WARM_UP = 0.1  #: of the run
#: The options that decide what is learnt: a checkpoint made with others is not gone on with.
SHAPING = ("epochs", "size", "lr", "seed", "amp", "shuffle_labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    out: Path
    epochs: int
    batch_size: int  #: of one rank
    size: int  #: px
    lr: float  #: the highest
    seed: int
    amp: bool
    checkpoint: Path
    checkpoint_every: int  #: steps; 0: at the end of each epoch only
    resume: bool
    backend: str
    device: str | None
    decode: str | None
    threads: int | None  #: of the loader; None: this process's share of the CPUs
    shuffle_labels: bool
    log_samples: Path | None


@dataclass(slots=True, kw_only=True)
class Training:
    """What changes while training, and so all that a checkpoint must hold; the epoch is part of the loader's state."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  #: of the loss; does nothing unless float16 is computed with
    loader: Any


def parse(arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description="Train a small network on a converted set.")
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="converted set with the splits train and test")
    add("--epochs", type=int, default=10, help="number of epochs to train; 0: evaluate only (default: 10)")
    add("--batch-size", type=int, default=64, help="samples per batch, on each rank (default: 64)")
    add("--size", type=int, default=96, help="height and width of the images in pixels (default: 96)")
    add("--lr", type=float, default=2e-3, help="highest learning rate of the schedule (default: 0.002)")
    add("--seed", type=int, default=0, help="seed of the order, the augmentation and the weights (default: 0)")
    add("--amp", action="store_true", help="train with automatic mixed precision")
    default = Path("build/train/checkpoint.pt")
    add("--checkpoint", type=Path, default=default, metavar="FILE", help=f"checkpoint file (default: {default})")
    add("--checkpoint-every", type=int, default=0, metavar="STEPS", help="also save a checkpoint every STEPS steps")
    add("--resume", action="store_true", help="resume from the checkpoint, if it exists")
    add("--backend", default="auto", choices=["auto", "dali", "torchvision"], help="backend of the loader")
    add("--device", default=None, help="cuda or cpu (default: cuda, if available)")
    add("--decode", default=None, choices=["gpu", "cpu"], help="what decodes the JPEG files")
    add("--threads", type=int, default=None, help="threads that decode (default: all CPU cores of this process)")
    add("--shuffle-labels", action="store_true", help="give each training image a random label")
    add("--log-samples", type=Path, default=None, metavar="FOLDER", help="record which rank saw which samples")
    return Options(**vars(parser.parse_args(arguments)))


class SampleLog:
    """A line of JSON a step: {split, epoch, position, ids}, in FOLDER/rank-R.jsonl; position is that after the step."""

    def __init__(self, folder: Path | None, rank: int) -> None:
        self._file = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(folder / f"rank-{rank}.jsonl", "a", buffering=1)  # noqa: SIM115  # as long as the run

    def note(self, split: str, loader: Any, ids: Tensor) -> None:
        if self._file is not None:
            state = loader.state_dict()
            line = {"split": split, "epoch": state["epoch"], "position": state["position"], "ids": ids.tolist()}
            self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def open_split(options: Options, place: Place, split: str) -> Any:
    """The loader of a split; images come normalised, on the device, in the layout that convolutions are fast in.

    It finds rank and world size itself, in the process group. The test split is not
    shuffled, so its tail is "even": every sample once, whatever the number of ranks.
    """
    return wdsremux.DataLoader(
        options.out,
        options.batch_size,
        split=split,
        shuffle=split == "train",
        augment="train" if split == "train" else "eval",
        size=options.size,
        backend=options.backend,
        device=place.device,
        decode=options.decode,
        seed=options.seed,
        num_threads=options.threads,
        memory_format=torch.channels_last,
        fields=("image", "label", "id"),
    )


def begin(options: Options, place: Place, loader: Any) -> Training:
    """Model and optimiser as they are before the first step, or as the checkpoint has them."""
    torch.manual_seed(options.seed)
    model = network(loader.num_classes).to(place.device).to(memory_format=torch.channels_last)
    training = Training(
        model=model,
        optimiser=torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=WEIGHT_DECAY),
        scaler=torch.amp.GradScaler(
            place.device.type, enabled=options.amp and half_type(place.device) == torch.float16
        ),
        loader=loader,
    )
    if options.resume and options.checkpoint.exists():
        checkpoint.restore(options.checkpoint, **parts(training), options=shaping(options))
        state = loader.state_dict()
        place.say(f"resumed from {options.checkpoint} at epoch {state['epoch']}, sample {state['position']}")
    return training


def parts(training: Training) -> dict[str, Any]:
    return {name: getattr(training, name) for name in ("model", "optimiser", "scaler", "loader")}


def shaping(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in SHAPING}


def save(training: Training, options: Options, place: Place) -> None:
    """Rank 0 writes; the others go on."""
    if place.rank == 0:
        checkpoint.save(options.checkpoint, **parts(training), options=shaping(options))


def shuffled_targets(targets: Iterable[int], seed: int) -> Tensor:
    """The labels of all samples dealt out anew: which sample gets which does not depend on the epoch."""
    labels = np.array(targets, dtype=np.int64)
    return torch.from_numpy(np.random.default_rng(seed).permutation(labels))


def learning_rate(share: float, highest: float) -> float:
    """Rises in a line, falls as a cosine; a function of the share of the run, so there is no state to save."""
    if share < WARM_UP:
        return highest * share / WARM_UP
    return highest * 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def share_seen(loader: Any, epochs: int) -> float:
    """How much of all epochs was handed out, on all ranks: 0 to 1."""
    state = loader.state_dict()
    return float((state["epoch"] + state["position"] / len(loader.dataset)) / epochs)


def half_type(device: torch.device) -> torch.dtype:
    """What mixed precision computes with: bfloat16, whose range is that of float32, so that nothing is scaled.

    GPUs before Ampere (compute capability 8.0) have no hardware for it; float16 is fast on them, and needs its loss
    scaled, or small gradients are lost.
    """
    slow = device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0)
    return torch.float16 if slow else torch.bfloat16


def mixed_precision(options: Options, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Nothing without --amp."""
    return torch.autocast(device.type, dtype=half_type(device), enabled=options.amp)


def learn(training: Training, stepped: nn.Module, images: Tensor, labels: Tensor, amp: Any) -> Tensor:
    """One step; returns the mean loss of this rank's batch."""
    with amp:
        loss = cross_entropy(stepped(images), labels)
    training.optimiser.zero_grad()
    torch.autograd.backward(training.scaler.scale(loss))  # the same as backward() of it, which is untyped
    training.scaler.step(training.optimiser)
    training.scaler.update()
    return loss.detach()


def train_epoch(
    training: Training, stepped: nn.Module, options: Options, place: Place, dealt: Tensor | None, log: SampleLog
) -> float:
    """What is left of the current epoch; returns the mean loss over all ranks.

    Args:
        training: whose model's gradients are averaged by
        stepped: that model, or its DistributedDataParallel.
        options: of the run.
        place: of this process.
        dealt: int64 [n], labels by sample id in place of the true ones; None for the true ones.
        log: of the samples seen.
    """
    loss_sum, images_seen = torch.zeros((), device=place.device), 0  # on the device: no step waits to read it
    stepped.train()
    for step, (images, labels, ids) in enumerate(training.loader, start=1):
        log.note("train", training.loader, ids)
        if dealt is not None:
            labels = dealt[ids].to(place.device)
        for group in training.optimiser.param_groups:
            group["lr"] = learning_rate(share_seen(training.loader, options.epochs), options.lr)
        loss = learn(training, stepped, images, labels, mixed_precision(options, place.device))
        loss_sum += loss * len(images)
        images_seen += len(images)
        if options.checkpoint_every and step % options.checkpoint_every == 0:
            save(training, options, place)
    loss_all, seen_all = total(place, float(loss_sum), images_seen)
    return loss_all / max(seen_all, 1)  # a run killed after an epoch's last step has nothing left of it


def train(training: Training, options: Options, place: Place, log: SampleLog) -> None:
    """All epochs that are left, a checkpoint after each."""
    stepped = replicated(training.model, place)
    targets = training.loader.dataset.targets
    dealt = shuffled_targets(targets, options.seed) if options.shuffle_labels else None
    for epoch in range(training.loader.epoch, options.epochs):
        training.loader.set_epoch(epoch)  # a resumed loader keeps its place in this epoch
        loss = train_epoch(training, stepped, options, place, dealt, log)
        place.say(f"epoch {epoch + 1}: loss {loss:.4f}\n  {training.loader.stats()}")
        save(training, options, place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What an evaluation came to, over all ranks."""

    correct: int
    seen: int
    loss: float  #: the mean of all that were seen

    def __str__(self) -> str:
        return f"{self.correct / self.seen:.4f} ({self.correct} of {self.seen}), loss {self.loss:.4f}"


@torch.inference_mode()
def evaluate(model: nn.Module, loader: Any, options: Options, place: Place, log: SampleLog) -> Score:
    """How the model does on a split, of which each sample is seen once.

    The bare model, not its DistributedDataParallel: batches of the ranks differ in size at the end.
    """
    share_buffers(model, place)
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=place.device)  #: right answers, samples, loss
    for images, labels, ids in loader:
        log.note("test", loader, ids)
        with mixed_precision(options, place.device):
            logits = model(images)
        loss = cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([(logits.argmax(dim=1) == labels).sum(), labels.new_tensor(len(labels)), loss])
    correct, seen, loss_sum = total(place, *sums.tolist())
    return Score(correct=int(correct), seen=int(seen), loss=loss_sum / seen)


def run(options: Options, place: Place) -> None:
    log = SampleLog(options.log_samples, place.rank)
    with contextlib.closing(log):
        with open_split(options, place, "train") as loader:
            training = begin(options, place, loader)
            train(training, options, place, log)
        with open_split(options, place, "test") as loader:
            score = evaluate(training.model, loader, options, place, log)
    place.say(f"weights sha256 {checkpoint.weights_sha256(training.model)}")
    place.say(f"test accuracy: {score}")


def main() -> None:
    options = parse()
    try:
        with joined(options.device) as place:
            run(options, place)
    except checkpoint.OtherOptionsError as error:
        sys.exit(f"error: {error}.")


if __name__ == "__main__":
    main()
