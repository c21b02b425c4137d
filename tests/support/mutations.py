"""Valid inputs, changed as damage and malice change them: hypothesis strategies of bytes and of plain values."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.support.soak import tries
from wdsremux.errors import WdsremuxError

SLOW_S = 10.0  #: of CPU time that one input may take
LONG = 1_000  #: characters of a sentence; a file cannot fill a terminal

#: Some hundred inputs in CI, 100,000 in the soak. No deadline: the machine may be busy, `survives` looks at CPU time.
#: Inputs are not kept: a database of 100,000 grows large.
many = settings(
    max_examples=tries(200, 100_000),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
#: Where an input takes several milliseconds.
some = settings(many, max_examples=tries(60, 100_000))

Tally = Callable[[str, str], None]
_EDITS = ("flip", "byte", "big", "little", "cut", "drop", "double", "word", "over", "splice")
_EDIT = st.tuples(st.sampled_from(_EDITS), st.integers(0, 2**20), st.integers(0, 2**32 - 1))


def survives(call: Callable[[], Any], tally: Tally | None = None) -> Any:
    """What a call returns, or the WdsremuxError that it raises, which has to be one sentence; no other may come out."""
    begun = time.process_time()
    try:
        result = call()
    except WdsremuxError as error:
        text = str(error)
        result = type(error)(text)  # without its traceback, whose frames hold files
        assert text, "an error without a word"
        assert "\n" not in text, text
        assert len(text) < LONG, text[:LONG]
    assert time.process_time() - begun < SLOW_S
    if tally is not None:
        tally(
            "files and values changed at random, given to each parser", "a value, or a clear error; no crash, no hang"
        )
    return result


def changed(bases: Sequence[bytes], words: Sequence[bytes] = (b"\0",)) -> st.SearchStrategy[bytes]:
    """One of some valid inputs with a few edits; `words` are what the format gives a meaning to."""

    def apply(base: int, edits: list[tuple[str, int, int]]) -> bytes:
        content = bytearray(bases[base])
        for kind, place, value in edits:
            _edit(content, kind, place % (len(content) + 1), value, bases, words)
        return bytes(content)

    return st.builds(apply, st.integers(0, len(bases) - 1), st.lists(_EDIT, min_size=1, max_size=4))


def _edit(content: bytearray, kind: str, at: int, value: int, bases: Sequence[bytes], words: Sequence[bytes]) -> None:
    word = words[value % len(words)]
    match kind:
        case "flip" | "byte" if at < len(content):
            content[at] = content[at] ^ 1 << value % 8 if kind == "flip" else value % 256
        case "big" | "little":
            size = (1, 2, 4, 8)[value % 4]
            number = (0, 1, value, 2 ** (8 * size) - 1, 2 ** (8 * size - 1))[value // 4 % 5] % 2 ** (8 * size)
            content[at : at + size] = number.to_bytes(size, "big" if kind == "big" else "little")
        case "cut":
            del content[at:]
        case "drop":
            del content[at : at + value % 600]
        case "double":
            content[at:at] = content[at : at + value % 600]
        case "word":
            content[at:at] = word
        case "over":
            content[at : at + len(word)] = word
        case "splice":
            other = bases[value % len(bases)]
            content[at:] = other[value // len(bases) % (len(other) + 1) :]


#: What no conversion writes, or not there.
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308,
    float("inf"), float("nan"), "", "0", "\0", "\n", "a" * 300, "\ud800", "../../x", "/etc/passwd", "%s{}", "🦆" * 20,
    "a" * 100_000, [], {}, [[]], [None] * 50, {"": None}, {"a": {"b": {"c": []}}}, ["a", 1, None],
)  # fmt: skip


def rewritten(value: Any, hostile: Sequence[Any] = HOSTILE) -> st.SearchStrategy[Any]:
    """Plain values, as JSON has them, of which a few are replaced, taken away, doubled or renamed."""
    step = st.tuples(
        st.integers(0, 2**16), st.sampled_from(["set", "set", "drop", "double", "rename"]), st.sampled_from(hostile)
    )
    return st.lists(step, min_size=1, max_size=3).map(lambda steps: _rewrite(value, steps))


def _rewrite(value: Any, steps: list[tuple[int, str, Any]]) -> Any:
    root = [copy.deepcopy(value)]
    for place, kind, other in steps:
        places = list(_places(root))
        holder, key = places[place % len(places)]
        if kind == "set" or holder is root:
            holder[key] = copy.deepcopy(other)
        elif isinstance(holder, list):
            holder[key : key + 1] = [] if kind == "drop" else [holder[key]] * 2
        else:
            moved = holder.pop(key)
            if kind != "drop":
                holder[key if kind == "double" else str(other)[:50]] = [moved, moved] if kind == "double" else moved
    return root[0]


def _places(holder: Any) -> Any:
    """Each place that holds a value, at any depth."""
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])
