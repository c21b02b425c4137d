"""A GPU that is not there, as regards order: streams, events and who has waited for what, by vector clocks.

Each stream, and each thread of the host, has a line of its own. What is launched on a stream comes after what is there
already and after all that the launching thread has seen; an event carries what its stream has come to, to whoever waits
for it. Two accesses of the same memory, one of them a write, must follow on each other by these rules alone
(L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", 1978).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.support.launches import GPU, on_the_host, pretended_gpu

_NUMPY = torch.Tensor.numpy
Clock = Counter[str]  #: for each line, how much of it has been


@dataclass(frozen=True)
class Access:
    """Something that was done to a piece of memory."""

    what: str
    line: str
    number: int  #: on its line
    writes: bool


@dataclass
class Memory:
    """One piece of the device's memory, and all that was done to it."""

    taken_on: str  #: the stream that was current when it was taken: in its order the allocator gives it out again
    accesses: list[Access] = field(default_factory=list)
    recorded: set[str] = field(default_factory=set)  #: streams that the allocator waits for, too


class Race(AssertionError):
    """Nothing orders two accesses."""


class Order:
    """The lines, and what was seen of them. Used by one thread at a time."""

    def __init__(self) -> None:
        self.seen: dict[str, Clock] = {}  #: by line
        self.thread = "feed"  #: that runs now
        self.on: Stream  #: the stream that is current
        self.memory: dict[int, Memory] = {}  #: by storage
        self._kept: list[Any] = []  #: storages, so that no address comes twice
        self.streams: list[Stream] = []
        self._sent: set[int] = set()  #: memory of the host out of which something was copied without waiting
        self._arriving: dict[int, Access] = {}  #: memory of the host, with what is copied to it

    def current_stream(self, _: torch.device) -> Stream:
        return self.on

    def clock(self, line: str) -> Clock:
        return self.seen.setdefault(line, Clock())

    def join(self, line: str, other: Clock) -> None:
        self.seen[line] = self.clock(line) | other

    def launch(self, what: str, line: str, reads: list[torch.Tensor], writes: list[torch.Tensor]) -> None:
        """Something begins on a stream, or is done by a thread.

        Raises:
            Race: if it does not come after what was done to the same memory before.
        """
        self.join(line, self.clock(self.thread))
        clock = self.clock(line)
        clock[line] += 1
        for tensors, writing in ((reads, False), (writes, True)):
            for tensor in tensors:
                memory = self._memory(tensor)
                for before in memory.accesses:
                    if (before.writes or writing) and clock[before.line] < before.number:
                        raise Race(f"{what} on {line} does not wait for {before.what} on {before.line}")
                memory.accesses.append(Access(what, line, clock[line], writing))

    def send(self, host: torch.Tensor, waits: bool) -> None:
        """Something is copied to the device.

        Raises:
            Race: if it lies where something lay that may not have been copied yet.
        """
        if waits:
            self.join(self.thread, self.clock(self.on.name))
        elif _address(host) in self._sent:
            raise Race("pinned memory is used again while a copy out of it may be under way")
        else:
            self._sent.add(_address(host))
            self._kept.append(host.untyped_storage())

    def arrive(self, host: torch.Tensor, waits: bool) -> None:
        """Something is copied to the host."""
        if waits:
            self.join(self.thread, self.clock(self.on.name))
        self._kept.append(host.untyped_storage())
        self._arriving[_address(host)] = Access("copy", self.on.name, self.clock(self.on.name)[self.on.name], True)

    def read(self, host: torch.Tensor) -> None:
        """The host looks at memory of its own.

        Raises:
            Race: if it has not waited for what is copied there.
        """
        copy = self._arriving.get(_address(host))
        if copy is not None and self.clock(self.thread)[copy.line] < copy.number:
            raise Race(f"{self.thread} reads what is being copied to the host on {copy.line}")

    def at_rest(self, stream: str) -> None:
        """A library writes at once to memory that is given out on this stream: nothing may be under way there.

        Raises:
            Race: if the host has not waited for it.
        """
        if self.clock(self.thread)[stream] < self.clock(stream)[stream]:
            raise Race(f"work on {stream} is under way where nvJPEG writes at once")

    def check_freed(self) -> None:
        """As if all memory were let go of now and given out again.

        Raises:
            Race: if a stream that has used some of it is one that the allocator knows nothing of.
        """
        for memory in self.memory.values():
            for access in memory.accesses:
                if access.line not in memory.recorded | {memory.taken_on}:
                    raise Race(f"memory of {memory.taken_on} is given out again before {access.what} on {access.line}")

    def _memory(self, tensor: torch.Tensor) -> Memory:
        storage = tensor.untyped_storage()
        if _address(tensor) not in self.memory:
            self._kept.append(storage)
            self.memory[_address(tensor)] = Memory(self.on.name)
        return self.memory[_address(tensor)]

    def record_stream(self, tensor: torch.Tensor, stream: Stream) -> None:
        self._memory(tensor).recorded.add(stream.name)


def _address(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class Event:
    """torch.cuda.Event."""

    order: Order

    def __init__(self, **_: Any) -> None:
        self._clock = Clock()

    def record(self, stream: Stream) -> None:
        self._clock = Clock(self.order.clock(stream.name))

    def synchronize(self) -> None:
        self.order.join(self.order.thread, self._clock)

    def elapsed_time(self, _: Event) -> float:
        return 0.0


class Stream:
    """torch.cuda.Stream."""

    order: Order

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        self.order.streams.append(self)
        self.name, self.device = f"stream {len(self.order.streams)}", device

    def wait_event(self, event: Event) -> None:
        self.order.join(self.name, event._clock)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Has the order see each operation on a tensor of the device."""

    def __init__(self, order: Order) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._order = order

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = _there((args, kwargs))
        result = func(*args, **(kwargs or {}))
        made = _there(result)
        name = func.overloadpacket.__name__
        if (given or made) and not func.is_view and not name.startswith(("empty", "new_empty")):
            changed = _there([args[0]] if name.endswith("_") else (kwargs or {}).get("out"))
            self._order.launch(name, self._order.on.name, given, made + changed)
        if name in ("_to_copy", "copy_"):
            self._see_copy(result, args, kwargs or {})
        return result

    def _see_copy(self, result: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        source, waits = args[1 if len(args) > 1 else 0], not (kwargs.get("non_blocking") or args[2:] == (True,))
        if source.device != GPU and result.device == GPU:
            self._order.send(source, waits)
        elif source.device == GPU and result.device != GPU:
            self._order.arrive(args[0], waits)


def _there(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor) and leaf.device == GPU]


class Inline:
    """A ThreadPoolExecutor whose thread has a line of its own, and runs when something is handed to it."""

    order: Order

    def __init__(self, _: int, name: str) -> None:
        self._name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def shutdown(self, **_: bool) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        order = self.order
        order.join(self._name, order.clock(order.thread))
        asking, order.thread = order.thread, self._name
        done = _Done(order)
        try:
            done.set_result(function(*arguments))
        except BaseException as error:
            done.set_exception(error)
        finally:
            done.clock, order.thread = Clock(order.clock(self._name)), asking
        return done


class _Done(Future[Any]):
    """Whoever asks for its result has seen what its thread had seen by then."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order, self.clock = order, Clock()

    def result(self, timeout: float | None = None) -> Any:
        self.order.join(self.order.thread, self.clock)
        return super().result(timeout)


@contextmanager
def watched() -> Iterator[Order]:
    """Here streams and events of torch.cuda are these, and what is done on `cuda:0` is seen."""
    order = Order()

    @contextmanager
    def current(stream: Stream) -> Iterator[None]:
        before, order.on = order.on, stream
        try:
            yield
        finally:
            order.on = before

    @contextmanager
    def device(_: torch.device) -> Iterator[None]:
        yield

    def numpy(tensor: torch.Tensor) -> Any:
        order.read(tensor)
        return on_the_host(lambda: _NUMPY(tensor))

    with (
        pretended_gpu(),
        mock.patch.multiple(Event, order=order, create=True),
        mock.patch.multiple(Stream, order=order, create=True),
        mock.patch.multiple(Inline, order=order, create=True),
        mock.patch.multiple(torch.cuda, Event=Event, Stream=Stream, stream=current, device=device),
        mock.patch.object(torch.cuda, "current_stream", order.current_stream),
        mock.patch("torch.Tensor.numpy", numpy),
        mock.patch("torch.Tensor.record_stream", lambda tensor, stream: order.record_stream(tensor, stream)),
        mock.patch("wdsremux.loading.backends.torchvision.ThreadPoolExecutor", Inline),
        mock.patch("wdsremux.loading.backends.canary.ThreadPoolExecutor", Inline),
        mock.patch("wdsremux.loading.device._idle", {}),
        Recorder(order),
    ):
        order.on = Stream(GPU)
        yield order
