"""Which sample ids make which batch of which rank: arithmetic, no stored permutation. Pure.

An epoch is a permutation P of the sample ids, a function of the shards' sample counts, the seed, the epoch, and how
to shuffle. It is computed position by position: O(shards) once an epoch, O(1) a sample, whatever the data set's size.

    shards      s0 s1 s2 s3 s4 s5 …          in the manifest's order
    sequence    s4 s1 s5 s0 s3 s2 …          shards permuted; samples counted along it: "flat" positions 0 … n-1
    lanes       [ lane 0      | lane 1    ]  L equal runs of the sequence; P[p] lies in lane p mod L
    windows     [ w0  | w1    | w2  | w3  ]  64 shards each; within one, samples are permuted by a Feistel network

A global step is a slice P[p : p+G] dealt to the ranks; the state of a training run is (epoch, p).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdsremux import arguments, rng
from wdsremux.errors import OptionError

WINDOW = 64  #: shards; some 130,000 samples at the converter's defaults
ALL = "all"  #: the window that is the whole epoch
_SHARDS = f" (number of shards) or {ALL!r}"
_FEISTEL_ROUNDS = 10  # four look random (Luby and Rackoff, 1988); windows of a few samples need more: chi2 in tests

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """How a split is ordered; the same for all ranks and epochs.

    Raises:
        OptionError: when made with a window or a number of lanes that cannot be.
    """

    counts: tuple[int, ...]  #: samples of each shard, in the manifest's order
    seed: int
    shuffle: bool = True
    window: int | str = WINDOW  #: shards whose samples are mixed, or "all"
    lanes: int = 1

    def __post_init__(self) -> None:
        plain = {
            "seed": arguments.integer("seed", self.seed, least=None),
            "shuffle": arguments.flag("shuffle", self.shuffle),
            "window": ALL if self.window == ALL else arguments.integer("window", self.window, unit=_SHARDS),
            "lanes": arguments.integer("lanes", self.lanes),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @cached_property
    def nsamples(self) -> int:
        return sum(self.counts)

    def fingerprint(self) -> dict[str, Any]:
        """What a state must agree with: plain values, so that any serialiser takes it."""
        return {
            "samples": self.nsamples,
            "shards": rng.digest(*self.counts)[:16],
            "seed": self.seed,
            "shuffle": self.shuffle,
            "window": self.window if self.shuffle else None,
            "lanes": self.lanes,
        }

    def epoch(self, epoch: int) -> Epoch:
        """The permutation of one epoch; costs O(shards)."""
        return Epoch(self, epoch)


@dataclass(frozen=True, slots=True)
class Window:
    """Shards that a lane reads in the same stretch of an epoch."""

    lane: int
    number: int  #: in the epoch, over all lanes
    start: int  #: position in the epoch, behind the last sample of the lane's window before; 0 in the first
    stop: int  #: position behind its last sample; n in the lane's last
    shards: tuple[int, ...]  #: as the epoch's sequence has them; the outer two may lie in a neighbour's window, too


class Epoch:
    """One epoch's permutation: `epoch[p]` for an array of positions p."""

    def __init__(self, order: Order, epoch: int) -> None:
        self.order, self.number = order, epoch
        counts = np.array(order.counts, np.int64)
        key = rng.key(order.seed, "order")
        shards = rng.permutation(key, len(counts), epoch) if order.shuffle else np.arange(len(counts))
        firsts = np.concatenate([[0], np.cumsum(counts)])
        #: flat position of each shard of the sequence, and the sample id that stands there
        self._flat = np.concatenate([[0], np.cumsum(counts[shards])])
        self._first_id = firsts[shards]
        self._sequence = shards
        self._lane_starts = _lane_starts(order.nsamples, order.lanes)
        self._windows = self._window_starts()
        self._keys = rng.words(rng.key(order.seed, "window"), np.arange(len(self._windows)), epoch, 2)

    def __getitem__(self, positions: Ids) -> Ids:
        """The sample ids at some positions of the epoch, int64 [N] to int64 [N]."""
        lane, place = positions % self.order.lanes, positions // self.order.lanes
        flat = self._lane_starts[lane] + place
        if self.order.shuffle:
            flat = self._shuffled(flat)
        shard = np.searchsorted(self._flat, flat, side="right") - 1
        ids: Ids = self._first_id[shard] + flat - self._flat[shard]
        return ids

    def window(self, lane: int, position: int) -> Window:
        """The window in which a lane is at a position of the epoch; at n, its last one."""
        first, last = self._lane_starts[lane : lane + 2].tolist()
        flat = max(first, min(first + -(-(position - lane) // self.order.lanes), last - 1))
        return self._window(lane, int(np.searchsorted(self._windows, flat, side="right")) - 1)

    def after(self, window: Window) -> Window | None:
        """The window that follows in the same lane; None at its end."""
        ended = self._windows[window.number + 1] >= self._lane_starts[window.lane + 1]
        return None if ended else self._window(window.lane, window.number + 1)

    def _window(self, lane: int, number: int) -> Window:
        first, last = np.searchsorted(self._flat, self._windows[number : number + 2] - [0, 1], side="right") - 1
        shards = tuple(self._sequence[first : last + 1].tolist())
        return Window(lane, number, self._passed(lane, number), self._passed(lane, number + 1), shards)

    def _passed(self, lane: int, number: int) -> int:
        """The position behind the last sample of a lane's windows before this one."""
        first, last = self._lane_starts[lane : lane + 2].tolist()
        flat = int(self._windows[number])
        inside = (flat - first - 1) * self.order.lanes + lane + 1
        return 0 if flat == first else self.order.nsamples if flat == last else inside

    def _window_starts(self) -> Ids:
        """Flat positions where windows begin, and n: each lane is cut after every `window` shards of its own.

        Where nothing is shuffled, they only say how far ahead to read.
        """
        starts: list[int] = []
        window = self.order.window if self.order.shuffle else WINDOW
        for first, last in zip(self._lane_starts[:-1].tolist(), self._lane_starts[1:].tolist(), strict=True):
            edges = self._flat[(self._flat > first) & (self._flat < last)]
            step = len(edges) + 1 if window == ALL else int(window)
            starts += [first, *edges[step - 1 :: step].tolist()]
        return np.array([*starts, self.order.nsamples], np.int64)

    def _shuffled(self, flat: Ids) -> Ids:
        window = np.searchsorted(self._windows, flat, side="right") - 1
        first = self._windows[window]
        high, low = self._keys[:, window]
        keys = (high << np.uint64(32)) | low
        return first + feistel(flat - first, self._windows[window + 1] - first, keys)


def feistel(x: Ids, size: Ids, keys: NDArray[np.uint64]) -> Ids:
    """A keyed permutation of range(size), each element by itself, for any size.

    A Feistel network on numbers a * b >= size with a = ceil(sqrt(size)), which walks along its cycle until it is inside
    (J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, methods 2 and 3).

    Args:
        x: int64 [N], 0 <= x < size.
        size: int64 [N].
        keys: uint64 [N].

    Returns:
        int64 [N].
    """
    a = np.ceil(np.sqrt(size.astype(np.float64))).astype(np.int64)
    b = -(-size // a)
    result = _rounds(x, a, b, keys)
    outside = np.flatnonzero(result >= size)
    while outside.size:
        result[outside] = _rounds(result[outside], a[outside], b[outside], keys[outside])
        outside = outside[result[outside] >= size[outside]]
    return result


def _rounds(x: Ids, a: Ids, b: Ids, keys: NDArray[np.uint64]) -> Ids:
    """left < a, right < b; each round adds a hash of one half to the other, and they change places."""
    left, right, modulus, other = x % a, x // a, a, b
    for number in range(_FEISTEL_ROUNDS):
        mixed = rng.mix64(keys + right.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(number))
        added = (mixed >> np.uint64(33)).astype(np.int64)  # 31 bits: more than any window has, and never negative
        left, right = right, (left + added) % modulus
        modulus, other = other, modulus
    return left + right * a  # an even number of rounds: left is below a again


def _lane_starts(nsamples: int, lanes: int) -> Ids:
    """Flat positions where lanes begin, and n; lane l holds as many as there are p with p mod L = l."""
    sizes = [(nsamples - lane + lanes - 1) // lanes for lane in range(lanes)]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Step:
    """A global step: positions start … start+size-1 of the epoch, over all ranks."""

    start: int
    size: int
    repeats: int = 0  #: positions counted twice at its end, because no exact deal exists (a resume only)


def steps(start: int, nsamples: int, batch: int, world: int, tail: str) -> Steps:
    """The global steps of the rest of an epoch: all ranks take all of them.

    Args:
        start: position from which to go on.
        nsamples: of the epoch.
        batch: samples a rank and step.
        world: ranks.
        tail: "drop": full steps only. "even": every sample exactly once; the steps but the last two are full, and what
            is left is dealt over one or two so that every rank has at least one sample in each.

    Raises:
        OptionError: at start 0, if there are too few samples for it.
    """
    full, left = batch * world, nsamples - start
    if tail == "drop":
        if start == 0 and nsamples < full:
            raise OptionError(
                f"the split has too few samples for one full step: {nsamples}, where batch_size={batch} and "
                f'world_size={world} need {full}. Choose a smaller batch_size, or tail="even"'
            )
        return Steps(start, left // full, full, ())
    rest = left % full
    if rest == 0:
        return Steps(start, left // full, full, ())
    if rest >= world:
        return Steps(start, left // full, full, (rest,))
    if left > full and batch > 1:
        return Steps(start, left // full - 1, full, (full - (world - rest), world))
    if start == 0:
        raise OptionError(
            f"the samples ({nsamples}) cannot be divided so that each rank gets one in every step (batch_size={batch}, "
            f"world_size={world}). Use fewer ranks, or a batch_size of more than 1"
        )
    return Steps(start, left // full, full, (rest,), world - rest)


@dataclass(frozen=True, slots=True)
class Steps:
    """Some full steps, then a tail, by number; not a list: an epoch of 100 M samples has many."""

    start: int
    nfull: int
    full: int
    tail: tuple[int, ...]
    repeats: int = 0  #: of the tail's only step

    def __len__(self) -> int:
        return self.nfull + len(self.tail)

    def __iter__(self) -> Iterator[Step]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, index: int) -> Step:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index < self.nfull:
            return Step(self.start + index * self.full, self.full)
        place = index - self.nfull
        begin = self.start + self.nfull * self.full + sum(self.tail[:place])
        return Step(begin, self.tail[place], self.repeats)


def deal(step: Step, lanes: int, rank: int, world: int) -> Ids:
    """The positions of a step that one rank takes, int64; every position goes to exactly one rank.

    Where `lanes` divides `world`, each lane's part is cut evenly among its own world/lanes neighbouring ranks, so that
    a node reads its own lane only; otherwise the step, sorted by lane, is cut evenly.
    """
    positions = np.arange(step.start, step.start + step.size)
    if lanes == 1 or step.repeats:
        return _cut(np.concatenate([positions, np.resize(positions, step.repeats)]), rank, world)
    lane = positions % lanes
    if world % lanes == 0:
        team = world // lanes
        return _cut(positions[lane == rank // team], rank % team, team)
    return _cut(positions[np.argsort(lane, kind="stable")], rank, world)


def lanes_of(rank: int, world: int, lanes: int) -> range:
    """The lanes that a rank reads, by `deal`: its own, or all that its part of a step touches.

    Where the numbers do not divide, a few samples of a neighbouring lane may come on top.
    """
    return range(rank * lanes // world, -(-(rank + 1) * lanes // world))


def _cut(positions: Ids, part: int, parts: int) -> Ids:
    return positions[part * len(positions) // parts : (part + 1) * len(positions) // parts]
