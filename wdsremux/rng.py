"""Random numbers by counter, keyed by (seed, purpose, ids): no state, any order, any batch size, the same values.

The generator is Philox 4x32-10 (J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), written
over numpy arrays so that a batch costs a few dozen numpy calls. It is our own rather than `numpy.random.Philox`
because numpy draws one stream at a time, and because numpy does not promise that `Generator.permutation` keeps its
results over versions, while a training order has to.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MASK32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_PIECE = 2**16  #: numbers of a permutation that are drawn at once: each takes some 150 bytes meanwhile


def key(seed: int, purpose: str) -> int:
    """A 64-bit key for one use of a seed, so that two uses never share a stream.

    Args:
        seed: any integer.
        purpose: a name such as "augment" or "plan"; part of the format, never to be renamed.
    """
    return int.from_bytes(hashlib.sha256(f"{purpose}:{seed}".encode()).digest()[:8], "little")


def philox(counter: NDArray[np.uint64], key_: int) -> NDArray[np.uint64]:
    """Philox 4x32-10.

    Args:
        counter: uint64 [4, N], each a 32-bit word.
        key_: 64 bits, the low 32 being the first key word.

    Returns:
        uint64 [4, N], each a uniform 32-bit word.
    """
    x0, x1, x2, x3 = counter
    k0, k1 = key_ & 0xFFFFFFFF, key_ >> 32
    for _ in range(_ROUNDS):
        low, high = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (
            (high >> _SHIFT32) ^ x1 ^ np.uint64(k0),
            high & _MASK32,
            (low >> _SHIFT32) ^ x3 ^ np.uint64(k1),
            low & _MASK32,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3])


def words(key_: int, ids: ArrayLike, group: int, count: int) -> NDArray[np.uint64]:
    """`count` uniform 32-bit words for each id.

    Args:
        key_: from `key`.
        ids: integers [N], 0 <= id < 2**64.
        group: a second number that separates streams (an epoch, say), 0 <= group < 2**32.
        count: words an id.

    Returns:
        uint64 [count, N], values below 2**32.
    """
    flat = np.asarray(ids).astype(np.uint64).reshape(-1)
    blocks = -(-count // 4)
    counter = np.empty((4, blocks, flat.size), np.uint64)
    counter[0] = flat & _MASK32
    counter[1] = flat >> _SHIFT32
    counter[2] = np.uint64(group)
    counter[3] = np.arange(blocks, dtype=np.uint64)[:, None]
    drawn = philox(counter.reshape(4, -1), key_).reshape(4, blocks, flat.size)
    return drawn.transpose(1, 0, 2).reshape(4 * blocks, flat.size)[:count]


def uniform(key_: int, ids: ArrayLike, group: int, count: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), float64 [count, N], in steps of 2**-32. Arguments as in `words`."""
    return words(key_, ids, group, count).astype(np.float64) * 2.0**-32


def permutation(key_: int, size: int, group: int = 0) -> NDArray[np.int64]:
    """A permutation of range(size), int64 [size], the same with every numpy version; O(size log size)."""
    drawn = np.empty(size, np.uint64)
    for first in range(0, size, _PIECE):
        high, low = words(key_, np.arange(first, min(first + _PIECE, size)), group, 2)
        drawn[first : first + _PIECE] = (high << _SHIFT32) | low
    # A stable sort of 64-bit keys: ties (one in 2**64) keep their order, so the result is defined.
    order: NDArray[np.int64] = np.argsort(drawn, kind="stable").astype(np.int64, copy=False)
    return order


def mix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The 64-bit finaliser of SplitMix64 (G. L. Steele et al., OOPSLA 2014): cheap, for rounds of a Feistel network."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def digest(*parts: Any) -> str:
    """SHA-256, in hexadecimal, of the repr of plain values (ints, strings, tuples of them)."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
