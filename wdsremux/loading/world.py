"""This process's place among others: its rank, and its share of the cores."""

from __future__ import annotations

import os

import torch.distributed
import torch.utils.data

from wdsremux import machine
from wdsremux.errors import OptionError, StateError

# SLURM_NTASKS also stands in the batch script, where one process would train on 1/n of the data in silence; srun alone
# sets SLURM_STEP_NUM_TASKS.
_VARIABLES = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


def rank_and_world(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Arguments, else torch.distributed, else the environment of torchrun or srun, else (0, 1).

    Raises:
        OptionError: if only one of the two is given, or they are no rank and world size.
    """
    if (rank is None) != (world_size is None):
        given, missing = ("rank", "world_size") if world_size is None else ("world_size", "rank")
        raise OptionError(f"{given} is given without {missing}. Give both or neither")
    if rank is not None and world_size is not None:
        return _checked(rank, world_size, "the arguments")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    for names in _VARIABLES:
        if all(name in os.environ for name in names):
            return _checked(_integer(names[0]), _integer(names[1]), " and ".join(names))
    if "WORLD_SIZE" in os.environ and os.environ["WORLD_SIZE"] != "1":
        raise OptionError(f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but RANK is not set. Set both, as torchrun does")
    return 0, 1


def _checked(rank: int, world: int, where: str) -> tuple[int, int]:
    if not 0 <= rank < world:
        raise OptionError(
            f"Invalid rank (got {rank} with a world size of {world} from {where}). Supported: 0 <= rank < world size"
        )
    return rank, world


def _integer(variable: str) -> int:
    value = os.environ[variable]
    try:
        return int(value)
    except ValueError:
        raise OptionError(
            f"Invalid environment variable {variable} (got {value!r}). Supported: an integer. Correct it or unset it"
        ) from None


def threads() -> int:
    """The cores this process may use: affinity and cgroup quota, shared with the other ranks of this machine."""
    return max(1, int(machine.cores() / local_ranks()))


def local_ranks() -> int:
    """Ranks on this machine, as torchrun says; 1 where it does not."""
    return max(1, _integer("LOCAL_WORLD_SIZE")) if "LOCAL_WORLD_SIZE" in os.environ else 1


def check_alone() -> None:
    """
    Raises:
        StateError: in one of several workers of torch's DataLoader, as each of them would give every sample.
    """
    worker = torch.utils.data.get_worker_info()
    if worker is not None and worker.num_workers > 1:
        raise StateError(
            f"this loader is used in worker {worker.id} of {worker.num_workers} of a torch DataLoader, and each worker "
            "would return all samples. Iterate over it directly: it decodes in its own threads"
        )
