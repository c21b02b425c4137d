"""The generator is Philox, as published; and what is drawn from it never moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsremux import rng

#: (counter, key, result) from `kat_vectors` of Random123, the authors' own library
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], result: tuple[int, ...]) -> None:
    drawn = rng.philox(np.array(counter, np.uint64).reshape(4, 1), key[0] | key[1] << 32)
    assert tuple(drawn[:, 0].tolist()) == result


def test_words_are_philox_blocks() -> None:
    """Id, group and block number are the counter; the fifth word begins the second block."""
    sample_id, group, key = 5 + (7 << 32), 11, rng.key(0, "test")
    blocks = [rng.philox(np.array([[5], [7], [group], [block]], np.uint64), key)[:, 0] for block in (0, 1)]
    assert rng.words(key, [sample_id], group, 7)[:, 0].tolist() == np.concatenate(blocks)[:7].tolist()


@given(
    ids=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), group=st.integers(0, 99), cut=st.integers(0, 20)
)
def test_the_same_at_any_batch_size(ids: list[int], group: int, cut: int) -> None:
    key = rng.key(3, "augment")
    array = np.array(ids, np.uint64)
    whole = rng.uniform(key, array, group, 6)
    parts = [rng.uniform(key, part, group, 6) for part in (array[:cut], array[cut:])]
    assert np.array_equal(np.concatenate(parts, 1), whole)


def test_streams_differ_by_seed_purpose_id_and_group() -> None:
    draws = [
        rng.words(rng.key(0, "a"), [0], 0, 4),
        rng.words(rng.key(1, "a"), [0], 0, 4),
        rng.words(rng.key(0, "b"), [0], 0, 4),
        rng.words(rng.key(0, "a"), [1], 0, 4),
        rng.words(rng.key(0, "a"), [0], 1, 4),
    ]
    assert len({draw.tobytes() for draw in draws}) == len(draws)


def test_uniform_is_uniform() -> None:
    drawn = rng.uniform(rng.key(0, "test"), np.arange(50_000), 0, 2)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, 20, (0, 1))[0]
    assert np.abs(counts - 5_000).max() < 5 * np.sqrt(5_000)  # five standard deviations


def test_golden() -> None:
    """Plans and orders on disks rest on these values."""
    assert rng.key(0, "plan") == 0x6087282C65FA532
    assert rng.permutation(rng.key(0, "plan"), 10).tolist() == [1, 9, 8, 3, 6, 5, 7, 2, 0, 4]
    assert rng.permutation(rng.key(7, "bake"), 10, 3).tolist() == [9, 8, 5, 0, 3, 7, 1, 2, 4, 6]


@given(size=st.integers(0, 300), seed=st.integers(), group=st.integers(0, 2**32 - 1))
def test_permutation_is_one(size: int, seed: int, group: int) -> None:
    assert sorted(rng.permutation(rng.key(seed, "test"), size, group).tolist()) == list(range(size))


def test_mix64_is_a_bijection_on_a_sample() -> None:
    x = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(rng.mix64(x))) == len(x)


def test_mix64_is_splitmix() -> None:
    """The first output of SplitMix64 with state 0, as in its reference code."""
    assert int(rng.mix64(np.array([0x9E3779B97F4A7C15], np.uint64))[0]) == 0xE220A8397B1DCDAF
