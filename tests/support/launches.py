"""A GPU that is not there: tensors without values on `cuda:0`, and a watch over what would be launched there.

What a GPU is asked for can be seen without one: which kernels, on which devices' tensors, where the host would wait.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

import torch
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_T = TypeVar("_T")
GPU = torch.device("cuda", 0)
#: What gives a number, or a size that depends on values, to the host.
_READ_BACK = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}
_COPIES = {"_to_copy", "copy_"}
_CAT_INPUTS = 128  #: tensors that one kernel of torch.cat takes (CAT_ARRAY_BATCH_SIZE in ATen/native/cuda/Shape.cu)
_EMPTY, _NUMPY = torch.empty, torch.Tensor.numpy


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts kernels and copies, by name. Raises AssertionError where the host would wait or devices mix."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self.counts.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        given = _tensors((args, kwargs))
        assert not (_on_gpu(given) and _reads_back(name, args)), f"{name}: the host waits for a value"
        result = func(*args, **(kwargs or {}))
        made = _tensors(result)
        if not _on_gpu(given + made):
            return result
        if name in _COPIES:
            self._check_copy(name, (given + made)[0 if name == "_to_copy" else -2], made[0], args, kwargs or {})
        else:
            assert {tensor.device for tensor in given + made} == {GPU}, f"{name} mixes devices"
        if not _launches_nothing(func, name, made):
            self.counts[name] += math.ceil(len(args[0]) / _CAT_INPUTS) if name == "cat" else 1
        return result

    def _check_copy(
        self, name: str, source: torch.Tensor, target: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if source.device == target.device:
            return
        assert target.device == GPU, f"{name} brings values back to the host"
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        assert not waits, f"{name} makes the host wait until values are on the device"


def _reads_back(name: str, args: tuple[Any, ...]) -> bool:
    masked = name.startswith(("index", "_index_put")) and any(mask.dtype == torch.bool for mask in _tensors(args[1:2]))
    return name in _READ_BACK or masked


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _on_gpu(tensors: list[torch.Tensor]) -> bool:
    return any(tensor.device == GPU for tensor in tensors)


def _launches_nothing(func: Any, name: str, made: list[torch.Tensor]) -> bool:
    return (
        func.is_view
        or name == "_unsafe_view"
        or name.startswith(("empty", "new_empty"))
        or not any(tensor.numel() for tensor in made)
    )


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Here tensors can be made on `cuda:0`. They have no values; only pinned memory on the host has."""
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch("torch.empty", _empty),
        mock.patch("torch.Tensor.numpy", lambda tensor: on_the_host(lambda: _NUMPY(tensor))),
    ):
        yield


def _empty(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
    """`torch.empty`; what is to be pinned is ordinary memory instead, which numpy can write to."""
    if not pin_memory:
        return _EMPTY(*size, **options)
    return on_the_host(lambda: _EMPTY(*size, **options))


def on_the_host(make: Callable[[], _T]) -> _T:
    """Something of tensors that have values, made in the middle of `pretended_gpu`."""
    with unset_fake_temporarily():
        return make()
