"""What a recipe's hash is of: what the function does, and nothing that differs from run to run."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import json
import math
import os
import random
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wdsremux.conversion.recipes.fingerprint import fingerprint
from wdsremux.conversion.recipes.lookup import find
from wdsremux.errors import OptionError

Recipe = Callable[..., Any]


def sha(recipe: str | Recipe, version: str | None = None) -> str:
    return fingerprint(find(recipe), version)


def closing(value: Any) -> Recipe:
    def bake(batch: Any) -> Any:
        return value

    return bake


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Amount:
    share: float = 0.5

    def __call__(self, batch: Any) -> Any:
        return batch

    def bake(self, batch: Any) -> Any:
        return batch


class Slotted:
    __slots__ = ("share",)

    def __init__(self, share: Any) -> None:
        self.share = share


class Jitter(torch.nn.Module):
    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength


def linear(weight: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, weight)
    torch.nn.init.constant_(layer.bias, 0)
    return layer


def looped(value: Any) -> list[Any]:
    """A list that holds itself."""
    content = [value]
    content.append(content)
    return content


def knotted(value: Any) -> Recipe:
    """Two functions that close over each other."""

    def one(batch: Any) -> Any:
        return two

    def two(batch: Any) -> Any:
        return one, value

    return one


#: how a value is made, and one that is another: a recipe that closes over it must hash equal and unequal
VALUES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "bool": (lambda: True, lambda: 1),
    "float": (lambda: 0.1, lambda: 0.2),
    "text": (lambda: "a", lambda: b"a"),
    "set": (lambda: {"a", "b", "c"}, lambda: {"a", "b", "d"}),
    "frozenset in a dict": (lambda: {"x": frozenset("abc")}, lambda: {"x": frozenset("abd")}),
    "dict in another order": (lambda: {"a": 1, "b": 2}, lambda: {"a": 2, "b": 1}),
    "defaultdict": (lambda: collections.defaultdict(int, a=1), lambda: collections.defaultdict(list, a=1)),
    "nested": (lambda: [1, (2, [3, {4}])], lambda: [1, (2, [3, {5}])]),
    "itself": (lambda: looped(1), lambda: looped(2)),
    "long array": (lambda: np.arange(10_000), lambda: np.arange(10_000) + (np.arange(10_000) == 5_000)),
    "array's dtype": (lambda: np.zeros(4, np.int16), lambda: np.zeros(4, np.uint16)),
    "array's shape": (lambda: np.zeros((2, 2)), lambda: np.zeros(4)),
    "view of an array": (lambda: np.arange(9).reshape(3, 3).T, lambda: np.arange(9).reshape(3, 3)),
    "array of objects": (lambda: np.array(["a", None]), lambda: np.array(["b", None])),
    "numpy scalar": (lambda: np.float32(1), lambda: np.float64(1)),
    "long tensor": (lambda: torch.zeros(5_000), lambda: torch.zeros(5_000).index_fill(0, torch.tensor([2_500]), 1)),
    "tensor's dtype": (lambda: torch.zeros(2, dtype=torch.float16), lambda: torch.zeros(2, dtype=torch.bfloat16)),
    "tensor without a dimension": (lambda: torch.tensor(1.0), lambda: torch.tensor([1.0])),
    "picture": (lambda: Image.new("RGB", (2, 2), "red"), lambda: Image.new("RGB", (2, 2), "blue")),
    "long pattern": (lambda: re.compile("a" * 300), lambda: re.compile("a" * 301)),
    "member": (lambda: Colour.RED, lambda: Colour.BLUE),
    "own object": (lambda: Amount(0.5), lambda: Amount(0.6)),
    "own object with slots": (lambda: Slotted(1), lambda: Slotted(2)),
    "own method": (lambda: Amount(0.5).bake, lambda: Amount(0.6).bake),
    "own module of torch": (lambda: Jitter(0.5), lambda: Jitter(0.6)),
    "weights": (lambda: linear(0.5), lambda: linear(0.6)),
    "foreign object": (lambda: types.SimpleNamespace(a=1), lambda: types.SimpleNamespace(a=2)),
    "partial": (lambda: functools.partial(max, 1, key=abs), lambda: functools.partial(max, 2, key=abs)),
    "cached": (lambda: functools.lru_cache(closing(1)), lambda: functools.lru_cache(closing(2))),
    "no gradient": (lambda: torch.no_grad()(closing(1)), lambda: torch.no_grad()(closing(2))),
    "functions of each other": (lambda: knotted(1), lambda: knotted(2)),
    "library's function": (lambda: math.sqrt, lambda: math.cos),
    "library's hidden generator": (lambda: (random.random, np.random.rand), lambda: (random.uniform, np.random.rand)),
    "torch's function": (lambda: torch.nn.functional.relu, lambda: torch.sigmoid),
    "method of a value": (lambda: "a".join, lambda: "b".join),
    "class": (lambda: Amount, lambda: Slotted),
    "module": (lambda: math, lambda: random),
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_closed_over_counts(name: str) -> None:
    make, other = VALUES[name]
    assert sha(closing(make())) == sha(closing(make()))
    assert sha(closing(make())) != sha(closing(other()))


@pytest.mark.parametrize("name", VALUES)
def test_defaults_count(name: str) -> None:
    def taking(value: Any) -> Recipe:
        def bake(batch: Any, value: Any = value, *, last: Any = 0) -> Any:
            return batch

        return bake

    make, other = VALUES[name]
    assert sha(taking(make())) == sha(taking(make()))
    assert sha(taking(make())) != sha(taking(other()))


def test_kinds_of_callables() -> None:
    partial = functools.partial(closing(1), flag=True)
    callables: list[Recipe] = [
        closing(1),
        partial,
        functools.partial(closing(1), flag=False),
        Amount(1),
        Amount(2),
        Amount(1).bake,
    ]
    callables += [lambda batch: batch, lambda batch: batch, *(lambda batch, i=i: batch for i in range(2))]
    assert len({sha(function) for function in callables}) == len(callables)
    assert sha(partial) == sha(functools.partial(closing(1), flag=True))


def test_a_dict_in_another_order_is_the_same() -> None:
    assert sha(closing({"a": 1, "b": 2})) == sha(closing({"b": 2, "a": 1}))


UNTOLD: dict[str, Callable[[], Any]] = {
    "a numpy generator": lambda: np.random.default_rng(0),
    "a generator of Python's": lambda: random.Random(0),
    "in a container": lambda: {"x": [(object(),)]},
    "in an own object": lambda: Amount(object()),  # type: ignore[arg-type]
    "in a repr": lambda: types.SimpleNamespace(x=object()),
    "a function of a library's, in a repr": lambda: types.SimpleNamespace(x=closing),
    "a tensor without memory": lambda: torch.empty(3, device="meta"),
    "an iterator": lambda: iter([]),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_what_nothing_tells_apart_asks_for_a_version(name: str) -> None:
    message = r"^recipe closing\.<locals>\.bake uses 'value': .*of the recipe yourself, with --recipe-version$"
    with pytest.raises(OptionError, match=message):
        sha(closing(UNTOLD[name]()))
    assert sha(closing(UNTOLD[name]()), "1") == sha(closing(0), "1") != sha(closing(0), "2")


def test_a_repr_that_raises() -> None:
    class Broken(types.SimpleNamespace):
        def __repr__(self) -> str:
            raise ValueError("no")

    Broken.__module__ = "elsewhere"
    with pytest.raises(OptionError, match=r"'value': a .*Broken whose repr raises ValueError"):
        sha(closing(Broken()))


def test_values_nested_too_deep() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(OptionError, match="nested too deeply"):
        sha(closing(deep))


FILE = """
import random
from pathlib import Path
import numpy as np

HERE = Path(__file__).parent
TABLE = str(HERE / "table.npy")
SIDE = 8
image = object()  # of the name of an attribute below

class Own:
    factor = 2
    def apply(self, x):
        return x.image * self.factor * SIDE

def inner(x):
    return Own().apply(x) + random.random()

def bake(batch):
    class Local:
        side = SIDE
    return [inner(x) for x in batch] + [HERE, TABLE, {"a", "b", "c"}, __file__]

def other(batch):
    return batch
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(text: str, folder: str = "a", function: str = "bake") -> str:
        path = tmp_path / folder / "my recipe.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return f"{path}:{function}"

    return write


@pytest.mark.parametrize(
    ("old", "new"), [("SIDE = 8", "SIDE = 9"), ("factor = 2", "factor = 3"), ("return batch", "return batch  # why")]
)
def test_the_text_of_the_file_counts(write: Callable[..., str], old: str, new: str) -> None:
    before = sha(write(FILE))
    assert sha(write(FILE.replace(old, new))) != before
    assert sha(write(FILE)) == before


def test_where_the_file_lies_does_not_count(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(FILE)
    assert sha(path) == sha(write(FILE, "b"))
    monkeypatch.chdir(Path(path).parent)
    assert sha("my recipe.py:bake") == sha(path)
    assert find(path).name == "my recipe.py:bake"
    assert sha(write(FILE, function="other")) != sha(path)


def test_globals_that_a_function_inside_names_count(write: Callable[..., str]) -> None:
    text = "import sys\nVALUE = sys.argv\ndef bake(batch):\n    def inner():\n        return VALUE\n    return inner\n"
    argv = sys.argv
    try:
        hashes = []
        for sys.argv in (["a"], ["b"]):
            hashes.append(sha(write(text)))
    finally:
        sys.argv = argv
    assert hashes[0] != hashes[1]


def typed(text: str) -> Recipe:
    """A function without source text, as typed into `python -i`."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<stdin>", "exec"), namespace)
    function: Recipe = namespace["bake"]
    return function


TYPED = """
def bake(batch):
    def half(x):
        return x / 2 if x in {'a', 'b'} else None
    return batch, half
"""


def test_bytecode_stands_in_for_a_text() -> None:
    before = sha(typed(TYPED))
    assert before == sha(typed(TYPED))
    for old, new in (("2", "3"), ("'b'", "'c'"), ("x in", "x not in"), ("half", "halve"), ("None", "0")):
        assert sha(typed(TYPED.replace(old, new))) != before
    assert sha(typed(TYPED + "\n\n# a comment\n")) == before


def test_bytecode_does_not_depend_on_calls() -> None:
    """The interpreter rewrites hot code in place."""
    function = typed("def bake(batch):\n    return [x + 1 for x in range(9)]\n")
    before = sha(function)
    for _ in range(100):
        function(None)
    assert sha(function) == before


SCRIPT = """
import collections, json, sys
sys.path.insert(0, sys.argv[1])
from wdsremux.conversion.recipes.fingerprint import fingerprint
from wdsremux.conversion.recipes.lookup import find
import tests.conversion.test_fingerprint as cases

NAMES = {"x", "y", "z"}
TABLE = {name: {name + other for other in NAMES} for name in NAMES}

def bake(batch):
    return TABLE if batch in {"u", "v", "w"} else NAMES

hashes = {name: fingerprint(find(cases.closing(make())), None) for name, (make, _) in cases.VALUES.items()}
hashes["main"] = fingerprint(find(bake), None)
hashes["typed"] = fingerprint(find(cases.typed("def bake(b):\\n    return b in {'u', 'v', 'w', 1, 2.0, None}")), None)
print(json.dumps(hashes))
"""


def test_the_same_in_every_process(tmp_path: Path) -> None:
    """Other hash seeds, other addresses, another folder: the same hashes, of all kinds of values."""
    runs = []
    for seed in ("1", "2"):
        script = tmp_path / seed / "script.py"
        script.parent.mkdir()
        script.write_text(SCRIPT)
        root = str(Path(__file__).parents[2])
        command = [sys.executable, str(script), root]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, cwd=script.parent, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    assert runs[0] == runs[1]
    assert len(set(runs[0].values())) == len(runs[0])
    here = {name: sha(closing(make())) for name, (make, _) in VALUES.items()}
    assert here == {name: value for name, value in runs[0].items() if name in here}
