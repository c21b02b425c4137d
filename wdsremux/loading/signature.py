"""A loader's arguments as they are given: those of torch's DataLoader are told apart, and all are remembered.

A loader that has not begun is its arguments: a copy of it, or what another process unpickles, is made of them anew.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from wdsremux import arguments
from wdsremux.errors import OptionError, StateError

P = ParamSpec("P")
T = TypeVar("T")
_NOT_NEEDED = "It is not needed here"
#: Arguments of torch.utils.data.DataLoader that ours has not, with what to do instead.
TORCH = {
    "dataset": "Pass the folder of the converted set as the first argument",
    "num_workers": "Threads decode the images, not worker processes. Use num_threads=, by default the CPU cores",
    "drop_last": 'Use tail="drop" for drop_last=True, tail="even" for drop_last=False',
    "prefetch_factor": "Use prefetch=, the number of batches that are prepared in advance",
    "pin_memory": f"{_NOT_NEEDED}: batches are returned on the device that device= names",
    "pin_memory_device": f"{_NOT_NEEDED}: batches are returned on the device that device= names",
    "persistent_workers": f"{_NOT_NEEDED}: threads and memory are kept from epoch to epoch",
    "multiprocessing_context": f"{_NOT_NEEDED}: no worker processes are started",
    "worker_init_fn": f"{_NOT_NEEDED}: no worker processes are started, and all randomness comes from seed=",
    "generator": "Use seed=. The order and the augmentation depend only on the seed and the epoch",
    "sampler": "Use shuffle= and seed= to choose the order. The samples are divided among the ranks automatically",
    "batch_sampler": "Use batch_size=, shuffle= and tail= to choose the batches",
    "collate_fn": 'Batches are tensors. Change them in your loop, or choose others with fields=("image", "label")',
    "timeout": f"{_NOT_NEEDED}: errors in a thread are raised in your loop",
    "in_order": f"{_NOT_NEEDED}: batches are always returned in order",
}


def remembered(init: Callable[Concatenate[T, P], None]) -> Callable[Concatenate[T, P], None]:
    """Decorate an `__init__`: it refuses names that are none of its arguments, and leaves `_given` with those given.

    Raises:
        OptionError: for an argument of torch's DataLoader, saying what to use here.
        TypeError: for another that there is not.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checked(self: T, *args: P.args, **kwargs: P.kwargs) -> None:
        _check(kwargs, signature.parameters)
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        del given["self"]
        self._given = given  # type: ignore[attr-defined]  # of whatever class it decorates
        init(self, *args, **kwargs)

    return cast(Callable[Concatenate[T, P], None], checked)


def remade(kind: type[T], init: Callable[..., None], given: dict[str, Any]) -> T:
    """An object made anew of the arguments that another was given."""
    made = kind.__new__(kind)
    init(made, **given)
    return made


def missing_attribute(name: str) -> Exception:
    """The error for an attribute that the loader has not.

    Accelerate's `skip_first_batches` rebuilds a torch loader of the attributes of this one, with a default for each
    that is missing, and of nothing but defaults: raw pictures, in another order. So the one of them that nobody else
    asks for is no AttributeError, which it would take for "missing".
    """
    if name == "multiprocessing_context":
        return StateError(
            "a wdsremux.DataLoader cannot be rebuilt as a torch DataLoader, as skip_first_batches does and the Trainer "
            "when it resumes without ignore_data_skip=True. To resume, call load_state_dict() of this loader instead"
        )
    advice = f". {TORCH[name]}" if name in TORCH else ""
    return AttributeError(f"'wdsremux.DataLoader' object has no attribute {name!r}{advice}")


def _check(given: Collection[str], known: Collection[str]) -> None:
    for name in given:
        if name in TORCH and name not in known:
            raise OptionError(f"wdsremux.DataLoader has no argument {name}=, unlike torch's DataLoader. {TORCH[name]}")
    arguments.names("wdsremux.DataLoader", given, known)
