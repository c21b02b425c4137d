"""Rank, world size and threads: from arguments, torch.distributed, torchrun or srun."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch.distributed as dist

from wdsremux import machine
from wdsremux.errors import OptionError
from wdsremux.loading import world
from wdsremux.loading.world import rank_and_world


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(name)


def set_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_alone() -> None:
    assert rank_and_world(None, None) == (0, 1)


def test_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, RANK="1", WORLD_SIZE="2")
    assert rank_and_world(3, 8) == (3, 8)


def test_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, RANK="1", WORLD_SIZE="2", SLURM_PROCID="0", SLURM_STEP_NUM_TASKS="1")
    assert rank_and_world(None, None) == (1, 2)


def test_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, SLURM_PROCID="5", SLURM_STEP_NUM_TASKS="6", SLURM_NTASKS="8")
    assert rank_and_world(None, None) == (5, 6)


def test_a_batch_script_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM_NTASKS stands in sbatch's environment too, where a single process runs."""
    set_environment(monkeypatch, SLURM_NTASKS="8", SLURM_PROCID="0")
    assert rank_and_world(None, None) == (0, 1)


def test_torch_distributed_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        set_environment(monkeypatch, RANK="1", WORLD_SIZE="2")
        assert rank_and_world(None, None) == (0, 1)
    finally:
        dist.destroy_process_group()
    assert rank_and_world(None, None) == (1, 2)


def test_one_of_two_arguments() -> None:
    with pytest.raises(OptionError, match=r"^world_size is given without rank\. Give both or neither$"):
        rank_and_world(None, 4)
    with pytest.raises(OptionError, match=r"^rank is given without world_size\. Give both or neither$"):
        rank_and_world(0, None)


def test_a_world_size_without_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, WORLD_SIZE="4")
    with pytest.raises(OptionError, match=r"^WORLD_SIZE is 4, but RANK is not set\. Set both, as torchrun does$"):
        rank_and_world(None, None)
    set_environment(monkeypatch, WORLD_SIZE="1")
    assert rank_and_world(None, None) == (0, 1)


@pytest.mark.parametrize(("rank", "size"), [(-1, 2), (2, 2), (0, 0)])
def test_ranks_that_cannot_be(monkeypatch: pytest.MonkeyPatch, rank: int, size: int) -> None:
    with pytest.raises(
        OptionError, match=rf"^Invalid rank \(got {rank} with a world size of {size} from the arguments\)\. "
    ):
        rank_and_world(rank, size)
    set_environment(monkeypatch, RANK=str(rank), WORLD_SIZE=str(size))
    with pytest.raises(OptionError, match=r"from RANK and WORLD_SIZE\)"):
        rank_and_world(None, None)


@pytest.mark.parametrize(
    ("cores", "quota", "ranks", "threads"),
    [
        (16, "max 100000", None, 16),
        (16, "400000 100000", None, 4),
        (16, "150000 100000", None, 1),  # a thread that waits for its quota is worse than none
        (2, "400000 100000", None, 2),
        (16, "max 100000", "8", 2),
        (16, "1200000 100000", "8", 1),
        (4, "max 100000", "8", 1),
        (4, None, None, 4),
    ],
)
def test_threads_are_this_process_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, quota: str | None, ranks: str | None, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(machine, "_QUOTA_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(machine, "_QUOTA_V1", (tmp_path / "none", tmp_path / "none"))
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    if ranks is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert world.threads() == threads


def test_a_variable_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, RANK="first", WORLD_SIZE="2")
    with pytest.raises(
        OptionError, match=r"^Invalid environment variable RANK \(got 'first'\)\. Supported: an integer"
    ):
        rank_and_world(None, None)
