"""An epoch is a permutation of the sample ids, and a function of nothing but its arguments."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.soak import tries
from wdsremux import rng
from wdsremux.errors import OptionError
from wdsremux.loading.order import ALL, WINDOW, Epoch, Ids, Order, Window, deal, feistel, lanes_of, steps

LAW = settings(max_examples=tries(80, 4000), deadline=None)
counts = st.lists(st.integers(1, 40), min_size=1, max_size=40).map(tuple) | st.lists(
    st.just(1), min_size=1, max_size=200
).map(tuple)
windows = st.integers(1, 70) | st.just(ALL)


def all_ids(order: Order, epoch: int = 0) -> Ids:
    return order.epoch(epoch)[np.arange(order.nsamples)]


def shard_of(order: Order, ids: Ids) -> Ids:
    return np.searchsorted(np.cumsum(order.counts), ids, side="right")


@LAW
@given(counts, st.integers(0, 2**40), st.integers(0, 2**31), st.booleans(), windows, st.integers(1, 9))
@example((1,), 0, 0, True, 64, 9)
@example((1,) * 65, 0, 0, True, 64, 1)
def test_an_epoch_is_a_permutation(
    counts: tuple[int, ...], seed: int, epoch: int, shuffle: bool, window: int | str, lanes: int
) -> None:
    order = Order(counts, seed, shuffle, window, lanes)
    assert sorted(all_ids(order, epoch).tolist()) == list(range(sum(counts)))


@LAW
@given(counts, st.integers(0, 99), windows, st.integers(1, 5), st.data())
def test_each_position_stands_by_itself(
    counts: tuple[int, ...], seed: int, window: int | str, lanes: int, data: st.DataObject
) -> None:
    """Neither other positions of the call, nor another Order or epoch computed before, change an id."""
    whole = all_ids(Order(counts, seed, True, window, lanes), 3)
    order = Order(counts, seed, True, window, lanes)
    order.epoch(2)[np.arange(order.nsamples)]
    chosen = data.draw(st.lists(st.integers(0, order.nsamples - 1), max_size=20))
    assert order.epoch(3)[np.array(chosen, np.int64)].tolist() == whole[chosen].tolist()


@LAW
@given(st.integers(1, 3_000), st.integers(0, 2**64 - 1))
def test_feistel_is_a_bijection(size: int, key: int) -> None:
    sizes, keys = np.full(size, size), np.full(size, key, np.uint64)
    assert np.sort(feistel(np.arange(size), sizes, keys)).tolist() == list(range(size))


def test_feistel_is_a_bijection_of_every_small_size() -> None:
    for size in range(1, 300):
        image = feistel(np.arange(size), np.full(size, size), np.full(size, 12345, np.uint64))
        assert np.sort(image).tolist() == list(range(size))


def test_feistel_of_a_full_shuffle_of_millions() -> None:
    size = 3_000_017
    image = feistel(np.arange(size), np.full(size, size), np.full(size, 5, np.uint64))
    assert np.bincount(image, minlength=size).tolist() == [1] * size


# A saved state names a place in these very orders: if one of them changes, so must the state's version.
@pytest.mark.parametrize(
    ("order", "epoch", "first"),
    [
        (Order((5, 1, 7, 3), 1), 2, [9, 7, 0, 14, 3, 13, 8, 10, 5, 2, 4, 12, 15, 6, 1, 11]),
        (Order((2,) * 8, 5, window=2, lanes=2), 3, [10, 0, 7, 8, 6, 1, 11, 9, 15, 2, 13, 3, 14, 5, 12, 4]),
        (Order((2_000,) * 900, 0), 0, [403463, 1402006, 1609564, 212535, 1686125, 1250328, 1725057, 580178]),
        (Order((2_000,) * 900, 0, window=ALL), 1, [587100, 1684156, 814294, 1610609, 1228894, 225650, 163168, 1708604]),
        (
            Order((1_640, 1_639) * 50, 2**33, lanes=4, window=8),
            7,
            [59073, 92528, 156957, 93871, 135913, 104275, 121063, 36357],
        ),
    ],
)
def test_golden(order: Order, epoch: int, first: list[int]) -> None:
    assert order.epoch(epoch)[np.arange(len(first) or 8)].tolist() == first


@pytest.mark.parametrize("counts", [(2_000,) * 10, (1,) * 1_000, (20_000,)])
def test_another_epoch_or_seed_gives_another_order(counts: tuple[int, ...]) -> None:
    orders = [all_ids(Order(counts, seed), epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert np.mean(one == other) < 0.01


@LAW
@given(counts, st.integers(0, 9), st.integers(0, 9), windows)
def test_unshuffled_is_the_identity(counts: tuple[int, ...], seed: int, epoch: int, window: int | str) -> None:
    assert all_ids(Order(counts, seed, False, window), epoch).tolist() == list(range(sum(counts)))


@LAW
@given(counts, st.integers(1, 9), st.booleans())
def test_lanes_are_equal_runs_that_take_turns(counts: tuple[int, ...], lanes: int, shuffle: bool) -> None:
    order = Order(counts, 0, shuffle, lanes=lanes)
    runs = [all_ids(order)[lane::lanes].tolist() for lane in range(lanes)]
    assert max(map(len, runs)) - min(map(len, runs)) <= 1
    if not shuffle:
        assert [i for run in runs for i in run] == list(range(order.nsamples))


@LAW
@given(counts, st.integers(1, 6))
def test_a_lane_shares_at_most_its_end_shards_with_another(counts: tuple[int, ...], lanes: int) -> None:
    order = Order(counts, 5, lanes=lanes)
    readers = Counter(
        shard for lane in range(lanes) for shard in set(shard_of(order, all_ids(order)[lane::lanes]).tolist())
    )
    assert sum(readers.values()) - len(readers) <= lanes - 1


@pytest.mark.parametrize(("window", "shards"), [(WINDOW, 64), (3, 3)])
def test_a_window_holds_all_of_its_own_shards_and_no_other(window: int, shards: int) -> None:
    order = Order(tuple(5 + i % 7 for i in range(200)), 4, window=window)
    read = shard_of(order, all_ids(order)).tolist()
    seen: set[int] = set()
    while read:
        chosen: set[int] = set()
        size = 0
        while len(chosen) < min(shards, 200 - len(seen)) or size < sum(order.counts[i] for i in chosen):
            chosen.add(read[size])
            size += 1
        assert size == sum(order.counts[i] for i in chosen)
        assert not chosen & seen
        seen |= chosen
        read = read[size:]
    assert seen == set(range(200))


def test_the_whole_epoch_is_one_window() -> None:
    order = Order((10,) * 500, 0, window=ALL)
    first = shard_of(order, all_ids(order)[:500])
    assert len(set(first.tolist())) > 250  # of 500 drawn at random among 500 shards, 316 are expected


def chi_square(seen: list[tuple[int, ...]]) -> float:
    """Against the uniform distribution over all orders, in standard deviations from what is expected."""
    cells = list(permutations(range(len(seen[0]))))
    expected, counted = len(seen) / len(cells), Counter(seen)
    statistic = sum((counted[cell] - expected) ** 2 / expected for cell in cells)
    return float((statistic - (len(cells) - 1)) / (2 * (len(cells) - 1)) ** 0.5)


@pytest.mark.parametrize("counts", [(2,), (3,), (4,), (1, 1, 1), (2, 2), (1, 3), (1, 1, 1, 1)])
def test_small_epochs_are_uniform(counts: tuple[int, ...]) -> None:
    """Each order of a few samples comes equally often over epochs, and over seeds."""
    per_seed = 40 * len(list(permutations(range(sum(counts))))) // 4
    seen = [
        tuple(all_ids(order, epoch).tolist())
        for order in (Order(counts, seed) for seed in (0, 1, 2, 3))
        for epoch in range(per_seed)
    ]
    assert abs(chi_square(seen)) < 4


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_small_feistels_are_uniform(size: int) -> None:
    keys = random_keys(50 * len(list(permutations(range(size)))))
    images = [feistel(np.full(len(keys), x), np.full(len(keys), size), keys) for x in range(size)]
    assert abs(chi_square(list(map(tuple, np.stack(images, 1).tolist())))) < 4


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9, 10, 13, 16, 25])
def test_two_samples_of_a_window_are_independent(size: int) -> None:
    """Where two samples go: each alone uniformly; both together within 10 % (root mean square), 7 % being the worst.

    Whole permutations are not asked for: where both halves of the network have an odd size, as for 9 and 25 samples,
    every round is an even permutation, so only half of all can come.
    """
    keys = random_keys(100_000)
    one, other = (feistel(np.full(len(keys), x), np.full(len(keys), size), keys) for x in (0, 1))
    assert excess(np.bincount(one, minlength=size)) < 0.015
    pairs = np.bincount(one * size + other, minlength=size**2).reshape(size, size)
    assert np.diag(pairs).sum() == 0
    assert excess(pairs[~np.eye(size, dtype=bool)]) < 0.1


def excess(seen: Ids) -> float:
    """Root mean square of the relative deviation from a uniform distribution, beyond what chance explains."""
    expected = seen.sum() / seen.size
    chi2 = ((seen - expected) ** 2 / expected).sum()
    return float(np.sqrt(max(0.0, chi2 - (seen.size - 1)) / seen.sum()))


def random_keys(count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    high, low = rng.words(rng.key(0, "test"), np.arange(count), 0, 2)
    keys: np.ndarray[tuple[int], np.dtype[np.uint64]] = (high << np.uint64(32)) | low
    return keys


def test_every_sample_may_stand_anywhere() -> None:
    """Where a sample stands in an epoch of 3 windows, over 4,000 epochs: in each tenth of it equally often."""
    order = Order((5,) * 10, 11, window=4)
    places = np.zeros((order.nsamples, 10))
    for epoch in range(4_000):
        places[all_ids(order, epoch), np.arange(order.nsamples) * 10 // order.nsamples] += 1
    deviation = (places - 400) / np.sqrt(400 * 0.9)
    assert np.abs(deviation).max() < 4.5  # of 500 that are nearly normal, 3.1 is usual


def test_windows_and_lanes_that_cannot_be() -> None:
    for window in (0, -1, 2.5, "some"):
        with pytest.raises(
            OptionError, match=r"^Invalid window \(got .*\)\. .*: an integer of 1 or more \(number of sh"
        ):
            Order((1,), 0, window=window)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"^Invalid lanes \(got 0\)\. Supported: an integer, 1 or more$"):
        Order((1,), 0, lanes=0)


def test_the_fingerprint_names_what_the_order_depends_on() -> None:
    first = Order((2, 3), 0)
    others = [
        ("shards", Order((3, 2), 0)),
        ("samples", Order((2, 4), 0)),
        ("seed", Order((2, 3), 1)),
        ("shuffle", Order((2, 3), 0, shuffle=False)),
        ("window", Order((2, 3), 0, window=ALL)),
        ("lanes", Order((2, 3), 0, lanes=2)),
    ]
    for name, other in others:
        assert other.fingerprint()[name] != first.fingerprint()[name]
    assert Order((2, 3), 0).fingerprint() == first.fingerprint()
    in_order = [Order((2, 3), 0, shuffle=False, window=window).fingerprint() for window in (1, ALL)]
    assert in_order[0] == in_order[1]


def test_the_fingerprint_stays_what_saved_states_hold() -> None:
    assert Order((2, 3), 4).fingerprint() == {
        "samples": 5,
        "shards": "dc4307c0856536f8",
        "seed": 4,
        "shuffle": True,
        "window": 64,
        "lanes": 1,
    }


# Windows, as read-ahead sees them


def windows_of(epoch: Epoch, lane: int) -> list[Window]:
    found = [epoch.window(lane, 0)]
    while (after := epoch.after(found[-1])) is not None:
        found.append(after)
    return found


@LAW
@given(counts, st.booleans(), windows, st.integers(1, 6))
@example((3, 4), True, ALL, 2)
def test_windows_follow_each_other_through_a_lane(
    counts: tuple[int, ...], shuffle: bool, window: int | str, lanes: int
) -> None:
    """And each holds just the shards of the samples that stand between its start and its stop."""
    order = Order(counts, 3, shuffle, window, min(lanes, sum(counts)))
    epoch, ids = order.epoch(1), all_ids(order, 1)
    for lane in range(order.lanes):
        found = windows_of(epoch, lane)
        assert [found[0].start, *(one.stop for one in found)] == [*(one.start for one in found), order.nsamples]
        assert found[0].start == 0
        for one in found:
            places = np.arange(one.start, one.stop)
            places = places[places % order.lanes == lane]
            assert set(one.shards) == set(shard_of(order, ids[places]).tolist())
            assert len(one.shards) == len(set(one.shards))


@LAW
@given(counts, windows, st.integers(1, 5))
@example((4, 13), 1, 4)
@example((1, 1, 1, 1, 1, 1), 1, 2)
def test_a_position_is_in_the_window_that_is_found_for_it(
    counts: tuple[int, ...], window: int | str, lanes: int
) -> None:
    """That is, the one from which a lane's next sample at or after that position comes."""
    order = Order(counts, 3, True, window, min(lanes, sum(counts)))
    epoch = order.epoch(0)
    for lane in range(order.lanes):
        found = windows_of(epoch, lane)
        for one in found[:20]:
            for position in range(max(0, one.start - lanes), min(one.start + 2 * lanes, order.nsamples + 1)):
                wanted = next((other for other in found if position < other.stop), found[-1])
                assert epoch.window(lane, position) == wanted


@pytest.mark.parametrize(("window", "shuffle", "expected"), [(2, True, [2, 2]), (ALL, True, [4]), (ALL, False, [4])])
def test_how_many_shards_a_window_has(window: int | str, shuffle: bool, expected: list[int]) -> None:
    """As many as asked for, and no empty one at a lane's end."""
    epoch = Order((3, 3, 3, 3), 0, shuffle, window).epoch(0)
    assert [len(one.shards) for one in windows_of(epoch, 0)] == expected


def test_in_order_no_more_is_read_ahead_than_a_usual_window() -> None:
    epoch = Order((1,) * (2 * WINDOW + 1), 0, False, ALL).epoch(0)
    assert [len(one.shards) for one in windows_of(epoch, 0)] == [WINDOW, WINDOW, 1]


# Lanes and ranks


@LAW
@given(counts, st.integers(1, 4), st.integers(1, 4), st.integers(1, 8))
def test_a_rank_reads_the_shards_of_its_own_lane(counts: tuple[int, ...], lanes: int, team: int, batch: int) -> None:
    """Where the number of lanes divides that of ranks; the shards at a lane's ends it may share with a neighbour."""
    order, world = Order(counts, 6, lanes=lanes), lanes * team
    if order.nsamples < batch * world:
        return
    ids = all_ids(order)
    for rank in range(world):
        (lane,) = lanes_of(rank, world, lanes)
        own = set(shard_of(order, ids[lane::lanes]).tolist())
        for step in steps(0, order.nsamples, batch, world, "drop"):
            positions = deal(step, lanes, rank, world)
            assert set((positions % lanes).tolist()) <= {lane}
            assert set(shard_of(order, ids[positions]).tolist()) <= own


@LAW
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_a_rank_touches_hardly_any_lane_but_its_own(lanes: int, world: int, batch: int) -> None:
    """Where the numbers do not divide, too: up to a sample a lane boundary and step."""
    step = steps(0, 10**6, batch * lanes, world, "drop")[3]
    for rank in range(world):
        of_lane = Counter((deal(step, lanes, rank, world) % lanes).tolist())
        strays = sum(count for lane, count in of_lane.items() if lane not in lanes_of(rank, world, lanes))
        assert strays <= lanes


@LAW
@given(counts, st.integers(1, 4), st.integers(1, 3), st.integers(2, 12))
def test_the_order_does_not_depend_on_the_ranks(counts: tuple[int, ...], lanes: int, batch: int, world: int) -> None:
    """Whoever takes them, the samples of a step of the same size are the same."""
    order = Order(counts, 8, lanes=lanes)
    epoch, size = order.epoch(2), batch * world
    if order.nsamples < size:
        return
    for one, other in zip(
        steps(0, order.nsamples, batch, world, "drop"), steps(0, order.nsamples, size, 1, "drop"), strict=True
    ):
        dealt = np.concatenate([epoch[deal(one, lanes, rank, world)] for rank in range(world)])
        assert sorted(dealt.tolist()) == sorted(epoch[deal(other, lanes, 0, 1)].tolist())
