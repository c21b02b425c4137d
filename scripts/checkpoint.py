"""Checkpoints of scripts/train.py: written completely or not at all, and loaded on any number of ranks."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn


class OtherOptionsError(Exception):
    """The checkpoint was begun with other options; the text names them."""


def save(
    path: Path,
    *,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    loader: Any,
    options: Any,
) -> None:
    """Write the checkpoint beside its name and rename it: a kill leaves the old one or the new one.

    Called on one rank. The loader's state is the same on all: it counts samples over all of them.

    Args:
        path: of the file; its folder is made.
        model: the bare module, not its DistributedDataParallel.
        optimiser: of that module.
        scaler: of the loss; its state is empty where it does nothing.
        loader: of the train split.
        options: plain values by name, which `restore` compares.
    """
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "loader": loader.state_dict(),
        "options": options,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def restore(
    path: Path,
    *,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    loader: Any,
    options: Any,
) -> None:
    """Set everything to where the checkpoint was written. Called on every rank.

    Raises:
        OtherOptionsError: if it was begun with other options.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    begun = state["options"]
    other = [
        f"--{name.replace('_', '-')} {begun.get(name)}" for name, value in options.items() if begun.get(name) != value
    ]
    if other:
        raise OtherOptionsError(
            f"{path} was saved with other options: {', '.join(other)}. Use the same options, or leave out --resume"
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    if state.get("scaler"):  # older checkpoints have none, nor have those of bfloat16: it begins anew then
        scaler.load_state_dict(state["scaler"])
    loader.load_state_dict(state["loader"])


def weights_sha256(model: nn.Module) -> str:
    """One figure to compare two runs by: all parameters and batch-norm statistics, bit by bit."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
