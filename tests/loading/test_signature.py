"""In place of torch's DataLoader: its arguments and attributes are told apart, and say what to use here."""

from __future__ import annotations

import gc
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch.utils.data

import wdsremux
from wdsremux.errors import OptionError, StateError
from wdsremux.loading.signature import TORCH

OURS = inspect.signature(wdsremux.DataLoader).parameters


def test_every_argument_of_torchs_loader_is_ours_or_explained() -> None:
    theirs = set(inspect.signature(torch.utils.data.DataLoader.__init__).parameters) - {"self"}
    assert theirs <= set(OURS) | set(TORCH)
    assert not set(OURS) & set(TORCH)


@pytest.mark.parametrize("name", TORCH)
def test_an_argument_that_only_torchs_has(converted: Path, name: str) -> None:
    given: dict[str, Any] = {name: 1}
    with pytest.raises(
        OptionError, match=rf"^wdsremux\.DataLoader has no argument {name}=, unlike torch's DataLoader\. "
    ) as caught:
        wdsremux.DataLoader(converted, **given)
    said = str(caught.value)
    assert all(named in OURS for named in re.findall(r"(\w+)=", said.partition(". ")[2]) if named not in TORCH)


def test_names_that_neither_has(converted: Path) -> None:
    near: dict[str, Any] = {"batchsize": 4}
    far: dict[str, Any] = {"qwertz": 4}
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'batchsize'\. Did you mean 'batch_size'\?$"):
        wdsremux.DataLoader(converted, **near)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'qwertz'$"):
        wdsremux.DataLoader(converted, **far)


def test_help_shows_the_arguments() -> None:
    assert list(OURS)[:3] == ["out", "batch_size", "split"]
    assert "**" not in str(inspect.signature(wdsremux.DataLoader))


def test_attributes_that_only_torchs_has(converted: Path) -> None:
    with wdsremux.DataLoader(converted, 4) as loader:
        given: Any = loader
        assert getattr(given, "collate_fn", "default") == "default"
        with pytest.raises(AttributeError, match=r"has no attribute 'num_workers'\. Threads decode the images"):
            _ = given.num_workers
        with pytest.raises(AttributeError, match=r"has no attribute 'qwertz'$"):
            _ = given.qwertz


class Batches(torch.utils.data.IterableDataset[Any]):
    """A loader within torch's."""

    def __init__(self, out: Path) -> None:
        self.loader = wdsremux.DataLoader(out, 50, fields=("id",))

    def __iter__(self) -> Any:
        return iter(self.loader)


@pytest.mark.parametrize("workers", [1, 2])
def test_within_workers_of_torchs_loader(converted: Path, workers: int) -> None:
    """Two would give every sample twice."""
    batches = Batches(converted)
    outer = torch.utils.data.DataLoader(
        batches, batch_size=None, num_workers=workers, multiprocessing_context="forkserver"
    )
    with batches.loader:
        if workers == 1:
            ids = [i for (batch,) in outer for i in batch.tolist()]
            assert len(ids) == len(set(ids)) > 0
        else:
            with pytest.raises(
                StateError, match=r"worker \d of 2 of a torch DataLoader, and each worker would return all"
            ):
                list(outer)
    del outer, batches
    gc.collect()  # torch's iterator and its error hold each other
