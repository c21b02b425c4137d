"""Memory comes back when the last tensor that sees it is gone, and never before."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wdsremux.loading.buffers import BufferPool

SHAPE, FLOAT = (4, 8, 8, 3), np.dtype(np.float32)


def memory(array: NDArray[Any]) -> Any:
    """The piece of memory beneath an array of the pool."""
    assert array.base is not None
    return array.base


def take(pool: BufferPool) -> tuple[torch.Tensor, int]:
    """A tensor of the pool's, and which memory it is in."""
    array = pool.take(SHAPE, FLOAT)
    return torch.from_numpy(array), id(memory(array))


VIEWS: dict[str, Callable[[torch.Tensor], Any]] = {
    "itself": lambda t: t,
    "item": lambda t: t[1],
    "slice": lambda t: t[1:3, ::2],
    "permute": lambda t: t.permute(0, 3, 1, 2),
    "contiguous": lambda t: t.contiguous(),
    "detach": lambda t: t.permute(0, 3, 1, 2).detach()[0],
    "reshape": lambda t: t.reshape(-1),
    "unbind": lambda t: t.unbind(0)[-1],
    "bytes": lambda t: t.view(torch.uint8),
    "numpy": lambda t: t.numpy()[2:],
    "numpy and back": lambda t: torch.from_numpy(t.numpy()[1].reshape(-1)),
    "dlpack": lambda t: torch.utils.dlpack.from_dlpack(t),
    "dlpack to numpy": lambda t: np.from_dlpack(t)[1:],
    "dlpack of a view": lambda t: torch.utils.dlpack.from_dlpack(t.permute(0, 3, 1, 2)[1:]),
    "storage": lambda t: t.untyped_storage(),
    "parameter": lambda t: torch.nn.Parameter(t)[0],
    "needed for backward": lambda t: (torch.ones(3, requires_grad=True) * t).sum(),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_memory_comes_back_at_the_last_view(view: Callable[[torch.Tensor], Any]) -> None:
    pool = BufferPool(4)
    tensor, first = take(pool)
    seen = view(tensor)
    del tensor
    other, second = take(pool)
    assert second != first
    del seen
    again, third = take(pool)
    assert third == first
    assert other.data_ptr() != again.data_ptr()


def test_a_copy_holds_nothing() -> None:
    pool = BufferPool(4)
    tensor, first = take(pool)
    tensor.fill_(1)
    copies = [tensor.clone(), tensor.to(torch.float64), torch.cat([tensor, tensor])]
    del tensor
    again, second = take(pool)
    assert second == first
    again.fill_(2)
    assert all((copy == 1).all() for copy in copies)


def test_living_tensors_never_share_memory() -> None:
    pool, rng = BufferPool(3), np.random.default_rng(0)
    living: list[tuple[torch.Tensor, int]] = []
    for number in range(300):
        tensor, _ = take(pool)
        living.append((tensor.fill_(number)[rng.integers(4)], number))
        del tensor
        while len(living) > rng.integers(8):
            living.pop(rng.integers(len(living)))
        assert all((view == content).all() for view, content in living)


def test_other_sizes_are_let_go() -> None:
    pool = BufferPool(4)
    array = pool.take(SHAPE, FLOAT)
    gone = weakref.ref(memory(array))
    del array
    assert gone() is not None
    pool.take((2, *SHAPE[1:]), FLOAT)
    assert gone() is None


def test_the_same_size_in_another_shape_is_used_again() -> None:
    pool = BufferPool(4)
    tensor, first = take(pool)
    del tensor
    array = pool.take((3, 4, 8, 8), FLOAT)
    assert id(memory(array)) == first
    assert array.shape == (3, 4, 8, 8)
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_no_more_is_kept_than_the_limit() -> None:
    pool = BufferPool(2)
    arrays = [pool.take(SHAPE, FLOAT) for _ in range(5)]
    memories = [weakref.ref(memory(array)) for array in arrays]
    arrays.clear()
    assert sum(reference() is not None for reference in memories) == 2


def test_the_last_view_may_go_in_another_thread() -> None:
    pool = BufferPool(64)
    views = [[take(pool)[0]] for _ in range(40)]
    threads = [threading.Thread(target=one.clear) for one in views]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    addresses = {id(memory(array)) for array in [pool.take(SHAPE, FLOAT) for _ in range(40)]}
    assert len(addresses) == 40


def test_a_tensor_outlives_its_pool() -> None:
    pool = BufferPool(2)
    tensor, _ = take(pool)
    tensor.fill_(3)
    del pool
    assert (tensor == 3).all()
