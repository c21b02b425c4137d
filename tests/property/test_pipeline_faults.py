"""Whatever fails at a pipeline of DALI's that two loaders share: right pictures for every batch, or one error."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.batches import images_of, made, read_batches
from tests.support.soak import tries
from wdsremux.errors import BackendError
from wdsremux.loading.backends import Backend, Batch

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from nvidia.dali.pipeline import Pipeline

CALLS = ("feed_input", "schedule_run", "outputs")
KINDS = (RuntimeError, ValueError, IndexError, TypeError, MemoryError)
COUNT = 5  #: batches of each loader
Fault = tuple[int, bool, type[Exception]]  #: which call fails, whether when its work is done, with what


class Injected:
    """Has calls of a pipeline fail, counted over all pipelines."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = {number: (late, kind) for number, late, kind in faults}
        self._count = itertools.count()
        self.hit = 0

    def into(self, patch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            patch.setattr(Pipeline, name, self._failing(getattr(Pipeline, name)))

    def _failing(self, call: Any) -> Any:
        @functools.wraps(call)
        def called(*arguments: Any, **options: Any) -> Any:
            late, kind = self._faults.get(next(self._count), (False, None))
            if kind is None:
                return call(*arguments, **options)
            self.hit += 1
            if late:
                call(*arguments, **options)
            raise kind("injected")

        return called


def take(backend: Backend, batches: list[Batch]) -> Iterator[torch.Tensor | None]:
    """Images, and None where one error ends it."""
    try:
        for _, images in backend.run(iter(batches)):
            yield images
    except BackendError as error:
        if str(error) != "DALI failed: injected":
            raise
        yield None


@pytest.fixture(scope="module")
def known(converted: Path) -> tuple[list[Batch], list[Batch], list[torch.Tensor], list[torch.Tensor]]:
    """Batches of two loaders, with what is to come of them."""
    batches = read_batches(converted / "train", [8] * (2 * COUNT))
    one, other = batches[:COUNT], batches[COUNT:]
    with made("dali") as backend:
        return one, other, images_of(backend, one), images_of(backend, other)


faults = st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.sampled_from(KINDS)), min_size=1, max_size=3)


@pytest.mark.parametrize("way", ["dali", "dali, as for a GPU"])
@settings(deadline=None, max_examples=tries(40, 20_000))
@given(faults=faults, turns=st.lists(st.booleans(), max_size=2 * COUNT))
def test_right_pictures_or_one_error(way: str, known: Any, faults: list[Fault], turns: list[bool]) -> None:
    """Failures at any call of two loaders that share a pipeline and take turns."""
    one, other, *wanted = known
    injected = Injected(faults)
    with ExitStack() as stack:
        backends = [stack.enter_context(made(way)) for _ in range(2)]
        injected.into(stack.enter_context(pytest.MonkeyPatch.context()))
        found: list[list[torch.Tensor | None]] = [[], []]
        runs = [take(backend, batches) for backend, batches in zip(backends, (one, other), strict=True)]
        for turn in turns:
            found[turn] += itertools.islice(runs[turn], 1)
        for taken, run in zip(found, runs, strict=True):
            taken += run
        for taken, right in zip(found, wanted, strict=True):
            ended = taken[-1] is None
            assert len(taken) <= COUNT if ended else len(taken) == COUNT
            assert injected.hit or not ended
            for images, expected in zip(taken, right, strict=False):
                assert images is None or _same(images, expected, way)


def _same(images: torch.Tensor, expected: torch.Tensor, way: str) -> bool:
    """The same picture: both ways of DALI normalise, one in DALI and one in torch."""
    return torch.equal(images, expected) if way == "dali" else bool((images - expected).abs().max() < 0.05)
