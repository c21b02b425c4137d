"""Rank and device of this process, and sums over all ranks, for processes that torchrun or srun started.

A process that was started alone is rank 0 of 1.

with joined(None) as place:
    stepped = replicated(model, place)
    …
    correct, seen = total(place, correct, seen)
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

#: What torch wants to know, and srun's names for it.
_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    rank: int
    world: int
    device: torch.device  #: with its number, where it is a CUDA device

    def say(self, text: str) -> None:
        """Print it once, whatever the number of ranks; at once, so that a kill loses nothing."""
        if self.rank == 0:
            print(text, flush=True)


@contextlib.contextmanager
def joined(device: str | None) -> Iterator[Place]:
    """A member of the process group while inside; None as device: CUDA where there is one, else the CPU.

    Under srun, MASTER_ADDR and MASTER_PORT must say where the ranks meet.
    """
    if "RANK" not in os.environ and os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        os.environ.update({name: os.environ[slurms] for name, slurms in _SLURM.items()})
    chosen = _device(device)
    if "RANK" not in os.environ:
        yield Place(rank=0, world=1, device=chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Place(rank=dist.get_rank(), world=dist.get_world_size(), device=chosen)
    finally:
        dist.destroy_process_group()


def _device(name: str | None) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    device = torch.device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def replicated(model: nn.Module, place: Place) -> nn.Module:
    """The module whose backward averages gradients over the ranks; begins with rank 0's weights everywhere."""
    if place.world == 1:
        return model
    if place.device.type == "cuda":
        return DistributedDataParallel(model, device_ids=[place.device.index])
    stepped = DistributedDataParallel(model)
    stepped.register_comm_hook(None, _mean_in_rank_order)
    return stepped


# The hook's annotations are looked at when it is registered, so this file leaves them as objects.
def _mean_in_rank_order(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Gradients averaged over the ranks, so that each figure's bits do not depend on its place in the bucket.

    Gloo's own sum does depend on it, and a process packs its buckets anew after its first step: on three or more
    ranks, a resumed run differed in the last bits. Costs more traffic, for which CPU runs of a few ranks have room.
    """
    mine = bucket.buffer()
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine)
    summed = parts[0]
    for part in parts[1:]:
        summed += part
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(summed / len(parts))
    return done


def share_buffers(model: nn.Module, place: Place) -> None:
    """Give every rank rank 0's batch-norm statistics.

    DistributedDataParallel does so before each forward in training, so after the last step they differ.
    """
    if place.world > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def total(place: Place, *figures: float) -> list[float]:
    """Each figure summed over all ranks."""
    sums = torch.tensor(figures, dtype=torch.float64, device=place.device)
    if place.world > 1:
        dist.all_reduce(sums)
    return sums.tolist()
