"""A recipe of the user's: found, shipped, handed a batch, and taken at its word or refused in one sentence."""

from __future__ import annotations

import datetime
import functools
import io
import pickle
import random
import re
import sys
import threading
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import jpeg
from tests.support.rows import as_json, picture, rows
from wdsremux import codec
from wdsremux.conversion.recipes.base import Recipe, Reject, Sample, Settings
from wdsremux.conversion.recipes.decorator import images_asked, recipe
from wdsremux.conversion.recipes.making import make_recipe
from wdsremux.conversion.source import Fault, Rows
from wdsremux.errors import OptionError, RecipeError
from wdsremux.format.samples import NO_LABEL

Batch = dict[str, Any]
THREE = [picture(20), picture(120), picture(220)]


def bake(function: Callable[..., Any] | str, given: Rows, **settings: Any) -> list[Sample | Reject]:
    """As a worker would: the recipe has been pickled, and the function is loaded from its payload."""
    made: Recipe = pickle.loads(pickle.dumps(make_recipe(function, Settings(version="1", **settings))))
    return made.bake(given)


def samples(items: list[Sample | Reject]) -> list[Sample]:
    assert all(isinstance(item, Sample) for item in items), items
    return [item for item in items if isinstance(item, Sample)]


def grey(sample: Sample) -> int:
    """The level of a picture of one colour."""
    return round(float(codec.decode(sample.image.data).mean()))


def copying(batch: Batch) -> Batch:
    return {"img": batch["img"]}


def returning(**columns: Any) -> Callable[[Batch], Any]:
    """A recipe that returns the same at every call."""
    return lambda batch: {"img": batch["img"], **columns}


# ---- lookup


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe file in a folder with a space, with a neighbour that has the name of a module of everyone's."""
    folder = tmp_path / "my recipes"
    folder.mkdir()
    (folder / "wave.py").write_text("LEVEL = 7\ndef level():\n    return LEVEL\n")
    path = folder / "first one.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "import numpy as np, wave, colours_of_mine\n"
        "@dataclass\nclass Side:\n    pixels: int = 4\n"
        "class Maker:\n    @staticmethod\n    def bake(batch):\n        return bake(batch)\n"
        "SIZE = 3\n"
        "def bake(batch):\n"
        "    import colours_at_a_call\n"
        "    level = colours_of_mine.LEVEL + colours_at_a_call.LEVEL\n"
        "    return {'img': [np.full((Side().pixels, 4, 3), level, np.uint8) for _ in batch['img']]}\n"
    )
    (folder / "colours_of_mine.py").write_text("LEVEL = 50\n")
    (folder / "colours_at_a_call.py").write_text("LEVEL = 100\n")
    return path


@pytest.mark.parametrize("function", ["bake", "Maker.bake"])
def test_a_file(recipe_file: Path, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, path = set(sys.modules), list(sys.path)
    made = make_recipe(f"{recipe_file}:{function}", Settings())
    assert made.identity["name"] == f"first one.py:{function}"
    assert {name for name in set(sys.modules) - before if "colours" in name or "first" in name} == set()
    assert grey(samples(made.bake(rows(THREE)))[0]) == 150
    assert sys.path == path
    monkeypatch.chdir(recipe_file.parent)
    assert make_recipe(f"first one.py:{function}", Settings()).identity == made.identity
    assert not (recipe_file.parent / "__pycache__").exists() or not list(recipe_file.parent.glob("__pycache__/first*"))
    monkeypatch.delitem(sys.modules, "colours_at_a_call", raising=False)


def test_a_file_need_not_be_where_it_is_baked(recipe_file: Path) -> None:
    """What it imports at its top travels with it."""
    text = recipe_file.read_text().replace("    import colours_at_a_call\n", "").replace("colours_at_a_call.LEVEL", "9")
    recipe_file.write_text(text)
    made = make_recipe(f"{recipe_file}:bake", Settings())
    for path in recipe_file.parent.glob("*.py"):
        path.unlink()
    assert grey(samples(made.bake(rows(THREE)))[0]) == 59


def test_an_edited_file_is_read_again(recipe_file: Path) -> None:
    """Within the same second and of the same size, which a __pycache__ would miss."""
    text = "def bake(batch):\n    return {'img': [b'%d' for _ in batch['img']]}\n"
    for number in (1, 2):
        recipe_file.write_text(text % number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(codec, "keep", lambda data, *_: codec.Jpeg(data, 1, 1))
            assert samples(bake(f"{recipe_file}:bake", rows(THREE)))[0].image.data == b"%d" % number


def test_a_module_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "levels.py").write_text("import numpy as np\ndef level():\n    return np.full((4, 4), 99, np.uint8)\n")
    (package / "main.py").write_text(
        "from .levels import level\ndef bake(batch):\n    return {'img': [level() for _ in batch['img']]}\n"
    )
    monkeypatch.chdir(tmp_path)
    made = make_recipe("package_of_mine.main:bake", Settings())
    assert made.identity["name"] == "package_of_mine.main:bake"
    for name in [name for name in sys.modules if name.startswith("package_of_mine")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir("/")
    assert grey(samples(made.bake(rows(THREE)))[0]) == 99


class Copier:
    """A callable object with a bound method."""

    def __call__(self, batch: Batch) -> Batch:
        return copying(batch)

    def bake(self, batch: Batch) -> Batch:
        return copying(batch)


def with_a_flag(batch: Batch, flag: bool = False) -> Batch:
    return copying(batch) if flag else {}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (copying, "copying"),
        (lambda batch: {"img": batch["img"]}, "<lambda>"),
        (functools.partial(with_a_flag, flag=True), "with_a_flag"),
        (Copier(), "Copier"),
        (Copier().bake, "Copier.bake"),
        (torch.no_grad()(copying), "copying"),
        (returning(), "returning.<locals>.<lambda>"),
    ],
)
def test_callables(function: Callable[..., Any], name: str) -> None:
    made = make_recipe(function, Settings())
    assert made.identity["name"] == name
    assert [grey(sample) for sample in samples(made.bake(rows(THREE)))] == [20, 120, 220]


def test_identity() -> None:
    made = make_recipe(copying, Settings(batch_size=7))
    assert made.identity == {
        "name": "copying",
        "sha256": make_recipe(copying, Settings(seed=3)).identity["sha256"],
        "batch_size": 7,
        "images": "pil",
    }
    assert made.batch_size == 7


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (None, "{file}:bake", r"^recipe file .*r\.py does not exist \(looked for in .*\)"),
        (
            "def bake(:",
            "{file}:bake",
            r"^recipe file .*r\.py cannot be imported: SyntaxError: .*r\.py, line 1\) \(--debug shows the",
        ),
        (
            "import nothing_of_it",
            "{file}:bake",
            r"r\.py cannot be imported: ModuleNotFoundError: No module named 'noth",
        ),
        ("exit(3)", "{file}:bake", r"r\.py cannot be imported: SystemExit: 3 \(r\.py:1 in <module>; --debug"),
        (
            "raise ValueError('a\\nb')",
            "{file}:bake",
            r"r\.py cannot be imported: ValueError: a b \(r\.py:1 in <module>; --d",
        ),
        ("def bak(b): ...", "{file}:bake", r"^recipe r\.py:bake: 'bake' does not exist\. Functions there: bak$"),
        ("A = 1", "{file}:bake", r"^recipe r\.py:bake: 'bake' does not exist\. Functions there: none$"),
        ("bake = 3", "{file}:bake", r"^recipe r\.py:bake: 'bake' is not a function but a value of type int$"),
        ("class A: ...", "{file}:A.b", r"'A\.b' does not exist"),
        (None, "no_such.module:f", r"^the module 'no_such' of recipe no_such\.module does not exist \(looked for in"),
        (None, "json.no_such:f", r"^the module 'json\.no_such'"),
        (None, "json:no_such", r"^recipe json:no_such: 'no_such' does not exist\. Functions there: dump, dumps, "),
        ("import nothing_of_it", "r:bake", r"^recipe module r cannot be imported: ModuleNotFoundError: No module"),
    ],
)
def test_what_cannot_be_loaded(
    tmp_path: Path, text: str | None, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "r.py"
    if text is not None:
        file.write_text(text)
    before = set(sys.modules)
    with pytest.raises(RecipeError) as caught:
        make_recipe(name.format(file=file), Settings())
    assert re.search(message, str(caught.value))  # pytest's `match` looks at the notes too
    assert "\n" not in str(caught.value)
    assert not {name for name in set(sys.modules) - before if " " in name}


@pytest.mark.parametrize("wrong", [5, None, Path("r.py")])
def test_what_is_no_recipe(wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"^Invalid recipe"):
        make_recipe(wrong, Settings())


# ---- shipping


def closing(value: Any) -> Callable[[Batch], Any]:
    return lambda batch: [value]


def test_what_lives_in_one_process_only(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("text")
    with path.open() as text, path.open("rb") as binary, path.open("a") as appending:
        for value in (threading.Lock(), text, binary, appending, (number for number in range(3))):
            with pytest.raises(
                RecipeError, match=r"^recipe closing.* cannot be sent to workers: TypeError: cannot pic"
            ):
                make_recipe(closing(value), Settings())
            with pytest.raises(RecipeError, match="cannot be sent"):
                make_recipe(closing(value), Settings(version="1"))


def test_the_streams_of_the_process_may_be_named(capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        assert make_recipe(closing((sys.stdout, sys.stderr)), Settings(version="1"))


def test_modules_are_registered_for_the_time_of_pickling_only() -> None:
    import cloudpickle

    before = cloudpickle.list_registry_pickle_by_value()
    make_recipe(copying, Settings())
    assert cloudpickle.list_registry_pickle_by_value() == before


def test_a_package_that_the_worker_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lent.py").write_text("def lend(batch):\n    return batch\n")
    monkeypatch.syspath_prepend(tmp_path)
    import lent  # type: ignore[import-not-found]

    def lending(batch: Batch) -> Any:
        return lent.lend(batch)

    made = make_recipe(lending, Settings())
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "lent")
    with pytest.raises(
        RecipeError, match=r"lending cannot be loaded in a worker: ModuleNotFoundError: No module named"
    ):
        made.bake(rows(THREE))


# ---- what a recipe asks for, and gets


def test_the_decorator() -> None:
    @recipe(images="tensor")
    def tensors(batch: Batch) -> Batch:
        return copying(batch)

    class Marked:
        @recipe(images="tensor")
        def __call__(self, batch: Batch) -> Batch:
            return batch

    marked: list[Callable[..., Any]] = [
        tensors,
        functools.partial(tensors),
        Marked(),
        torch.no_grad()(tensors),
        recipe(images="tensor")(Copier()),
    ]
    assert [images_asked(function) for function in marked] == ["tensor"] * 5
    assert images_asked(Copier().bake) == images_asked(recipe(images="pil")(copying)) == "pil"
    with pytest.raises(OptionError, match=r"^Invalid images \(got 'numpy'\). Supported: pil, tensor$"):
        recipe(images="numpy")
    with pytest.raises(OptionError, match=r"^a method cannot be decorated with images='tensor'"):
        recipe(images="tensor")(Copier().bake)


def test_the_batch() -> None:
    def looking(batch: Batch) -> Batch:
        assert [image.mode for image in batch["img"]] == ["RGB"] * 3
        assert [image.size for image in batch["img"]] == [(12, 10)] * 3
        assert [image.getpixel((0, 0))[0] for image in batch["img"]] == [20, 120, 220]
        assert batch["class"] == [5, None, None]
        assert batch["text"] == ["a", None, "c"]
        assert batch["boxes"] == [[1, 2], [], None]
        assert batch["__row__"] == [0, 1, 2]
        assert all(isinstance(rng, np.random.Generator) for rng in batch["__rng__"])
        assert list(batch) == ["text", "boxes", "img", "class", "__row__", "__rng__"]
        return batch

    given = rows(THREE, [5, None, -1], kept={"text": ["a", None, "c"], "boxes": [[1, 2], [], None]})
    items = samples(bake(looking, given, keep=("text", "boxes")))
    assert [sample.label for sample in items] == [5, NO_LABEL, NO_LABEL]
    assert [as_json(sample) for sample in items] == [
        b'{"text":"a","boxes":[1,2]}',
        b'{"text":null,"boxes":[]}',
        b'{"text":"c","boxes":null}',
    ]


def test_tensors() -> None:
    @recipe(images="tensor")
    def looking(batch: Batch) -> Batch:
        assert [(image.dtype, tuple(image.shape)) for image in batch["img"]] == [(torch.uint8, (3, 10, 12))] * 3
        for image in batch["img"]:
            image += 1  # they may be written to
        return {"img": torch.stack(batch["img"])}

    assert [grey(sample) for sample in samples(bake(looking, rows(THREE)))] == [21, 121, 221]


def test_pictures_are_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = jpeg(np.zeros((10, 20, 3), np.uint8), exif=exif)
    (sample,) = samples(bake(copying, rows([turned])))
    assert (sample.image.width, sample.image.height) == (10, 20)


def test_without_labels() -> None:
    def looking(batch: Batch) -> Batch:
        assert "class" not in batch
        return {"img": batch["img"], "class": [1, 2, 3]}  # nobody asked for it

    items = samples(bake(looking, rows(THREE, [None] * 3, label_column=None)))
    assert [sample.label for sample in items] == [NO_LABEL] * 3


def test_what_cannot_be_decoded_is_not_handed_over() -> None:
    def looking(batch: Batch) -> Batch:
        assert batch["class"] == [11, 13]
        assert batch["__row__"] == [0, 1]
        return {"img": batch["img"][::-1], "__row__": [1, 0]}

    given = rows(
        [b"", THREE[0], None, THREE[2], None, b"no image"], first=10, faults={4: Fault("img", "the file is gone")}
    )
    items = bake(looking, given)
    assert [(item.row, type(item)) for item in items] == [
        (10, Reject),
        (11, Sample),
        (12, Reject),
        (13, Sample),
        (14, Reject),
        (15, Reject),
    ]
    assert [(item.part, item.where, item.column, item.reason) for item in items if isinstance(item, Reject)] == [
        (None, "10.jpg", "img", "empty: 0 bytes"),
        (None, "12.jpg", "img", "no image: null"),
        (None, "14.jpg", "img", "the file is gone"),
        (None, "15.jpg", "img", "not an image of any known format"),
    ]
    assert [(grey(item), item.label) for item in items if isinstance(item, Sample)] == [(20, 11), (220, 13)]


def test_nothing_to_hand_over() -> None:
    assert len(bake(closing(None), rows([b"", None]))) == 2


# ---- chance


def drawing(batch: Batch) -> Batch:
    """Levels drawn from each of the generators that transforms draw from."""
    images = []
    for rng in batch["__rng__"]:
        levels = [rng.integers(256), random.randrange(256), np.random.randint(256), torch.randint(256, ())]
        images.append(np.repeat(np.array(levels, np.uint8).reshape(2, 2), 8, 0).repeat(8, 1))
    return {"img": images}


def test_a_batch_draws_the_same_every_time() -> None:
    first = bake(drawing, rows(THREE))
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    assert bake(drawing, rows(THREE)) == first


def test_another_seed_draws_others_for_every_row() -> None:
    def images(given: Rows, **settings: Any) -> list[bytes]:
        return [sample.image.data for sample in samples(bake(drawing, given, **settings))]

    runs = [images(rows(THREE)), images(rows(THREE), seed=1), images(rows(THREE), seed=2**70)]
    runs += [images(rows(THREE, first=3)), images(rows(THREE, fragment=1)), images(rows(THREE, fragment=3))]
    assert len({data for run in runs for data in run}) == 3 * len(runs)


def test_the_generator_of_a_row_is_its_own() -> None:
    """Whatever else is in the batch: of another size, or with rows that cannot be decoded."""

    def first_draw(batch: Batch) -> Batch:
        return {"img": [np.full((8, 8), rng.integers(256), np.uint8) for rng in batch["__rng__"]]}

    whole = {sample.row: sample.image.data for sample in samples(bake(first_draw, rows(THREE, first=4)))}
    one = samples(bake(first_draw, rows(THREE[:1], first=5)))
    cut = [item for item in bake(first_draw, rows([b"", *THREE[:2]], first=4)) if isinstance(item, Sample)]
    for sample in one + cut:
        assert sample.image.data == whole[sample.row]
    elsewhere = {sample.image.data for sample in samples(bake(first_draw, rows(THREE, first=4, fragment=1)))}
    assert not elsewhere & set(whole.values())


# ---- rows that come back


def test_rows_dropped_repeated_and_turned_round() -> None:
    def shuffled(batch: Batch) -> Batch:
        levels = [1, 2, 3, 4, 5]
        return {
            "img": [np.full((8, 8), 10 * level, np.uint8) for level in levels],
            "__row__": np.array([2, 0, 2, 2, 0]),
            "class": [7, None, -1, np.int64(9), torch.tensor(8)],
        }

    items = samples(bake(shuffled, rows(THREE, first=100)))
    assert [(item.row, item.part, grey(item), item.label) for item in items] == [
        (100, 0, 20, NO_LABEL),
        (100, 1, 50, 8),
        (102, 0, 10, 7),
        (102, 1, 30, NO_LABEL),
        (102, 2, 40, 9),
    ]


@pytest.mark.parametrize("empty", [[], (), np.zeros((0, 8, 8, 3), np.uint8), torch.zeros(0, 3, 8, 8)])
def test_all_rows_dropped(empty: Any) -> None:
    assert bake(returning(img=empty, __row__=[]), rows(THREE)) == []


def test_columns_that_are_not_returned_keep_their_values() -> None:
    def copies(batch: Batch) -> Batch:
        batch["class"][:] = [0, 0, 0]  # the batch is the recipe's own
        batch["boxes"][0].append(5)
        return {"img": [batch["img"][0]] * 2, "__row__": [1, 1], "text": ["new", 3.5]}

    given = rows(THREE, [4, 5, 6], kept={"text": list("abc"), "boxes": [[1], [2], [3]]})
    items = samples(bake(copies, given, keep=("boxes", "text")))
    assert [(item.part, item.label, as_json(item)) for item in items] == [
        (0, 5, b'{"boxes":[2],"text":"new"}'),
        (1, 5, b'{"boxes":[2],"text":3.5}'),
    ]


def test_columns_that_the_recipe_makes() -> None:
    made = returning(
        area=torch.tensor([1, 2, 3]),
        day=[datetime.date(2024, 1, 2)] * 3,
        box=np.array([[1.5, np.nan]] * 3),
        more=[{"a": [None, True]}] * 3,
        other=[object()],  # in no --keep: ignored, whatever its length
        __rng__=[],
    )
    items = samples(bake(made, rows(THREE), keep=("more", "area", "box", "day")))
    assert as_json(items[1]) == b'{"more":{"a":[null,true]},"area":2,"box":[1.5,null],"day":"2024-01-02"}'


def test_a_label_that_is_kept_too_stays_the_source_s() -> None:
    given = rows(THREE, [0, 1, 1], kept={"class": ["cat", "dog", "dog"]})

    def swapping(batch: Batch) -> Batch:
        assert batch["class"] == [0, 1, 1]
        return {"img": batch["img"], "class": [1 - label for label in batch["class"]]}

    items = samples(bake(swapping, given, keep=("class",)))
    assert [(item.label, as_json(item)) for item in items[:2]] == [(1, b'{"class":"cat"}'), (0, b'{"class":"dog"}')]


def test_a_mapping_is_a_batch() -> None:
    assert len(bake(lambda batch: UserDict(copying(batch)), rows(THREE))) == 3


# ---- pictures that come back

LEVELS = np.arange(48, dtype=np.uint8).reshape(4, 12) * 5
COLOURS = np.stack([LEVELS, 255 - LEVELS, LEVELS // 2], axis=2)
NOISE = jpeg(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
CHW = torch.from_numpy(COLOURS).permute(2, 0, 1)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "pixels"),
    [
        (COLOURS, COLOURS),
        (COLOURS[::-1], COLOURS[::-1]),
        (COLOURS / 255, COLOURS),
        ((COLOURS / 255).astype(np.float16), COLOURS),
        (LEVELS, LEVELS),
        (LEVELS[..., None] / np.float32(255), LEVELS),
        (CHW, COLOURS),
        (CHW.contiguous(), COLOURS),
        (CHW / 255, COLOURS),
        ((CHW / 255).double(), COLOURS),
        ((CHW / 255).half(), COLOURS),
        ((CHW / 255).requires_grad_(), COLOURS),
        (CHW[:1], LEVELS),
        (CHW[0], LEVELS),
        ((CHW[:1] // 255 * 1.0).bfloat16() + 1.0005, LEVELS * 0 + 255),
        (Image.fromarray(COLOURS), COLOURS),
        (Image.fromarray(LEVELS), LEVELS),
        (Image.fromarray(COLOURS).convert("RGBA"), COLOURS),
        (png(Image.fromarray(COLOURS)), COLOURS),
        (bytearray(png(Image.fromarray(LEVELS))), LEVELS),
    ],
)
def test_forms_of_pictures(value: Any, pixels: np.ndarray[Any, Any]) -> None:
    rgb = np.ascontiguousarray(np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels)
    (sample,) = samples(bake(returning(img=[value]), rows(THREE[:1])))
    assert sample.image == codec.encode(rgb, codec.Encoding())
    encoding = codec.Encoding(quality=60, subsampling="444", restart_rows=True)
    (other,) = samples(bake(returning(img=[value]), rows(THREE[:1]), encoding=encoding))
    assert other.image == codec.encode(rgb, encoding)
    assert b"\xff\xdd" in other.image.data
    assert b"\xff\xdd" not in sample.image.data


@pytest.mark.parametrize("column", [np.stack([COLOURS] * 3), torch.stack([CHW] * 3) / 255, (CHW,) * 3])
def test_stacked_pictures(column: Any) -> None:
    items = samples(bake(returning(img=column), rows(THREE)))
    assert [sample.image for sample in items] == [codec.encode(COLOURS, codec.Encoding())] * 3


def test_bytes_of_a_sound_jpeg_are_kept() -> None:
    assert [sample.image.data for sample in samples(bake(returning(img=THREE), rows(THREE)))] == THREE


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"no image", "not an image of any known format"),
        (NOISE[:-500], "damaged JPEG"),
        (np.zeros((1, 70_000), np.uint8), "too long: 70000x1 px"),
        (Image.new("L", (70_000, 1)), "too long: 70000x1 px"),
        (np.zeros((0, 5, 3), np.uint8), "cannot be encoded at 5x0 px"),
        (torch.zeros(3, 5, 0), "cannot be encoded at 0x5 px"),
        (Image.new("F", (5, 5)), "floating-point pixels, of unknown range"),
    ],
)
def test_what_no_jpeg_holds_is_a_reject_of_its_part(value: Any, reason: str) -> None:
    items = bake(returning(img=[COLOURS, value, COLOURS], __row__=[1, 1, 1]), rows(THREE))
    assert [(item.row, item.part, type(item)) for item in items] == [(1, 0, Sample), (1, 1, Reject), (1, 2, Sample)]
    assert isinstance(items[1], Reject)
    assert (items[1].where, items[1].column) == ("1.jpg", "img")
    assert items[1].reason.startswith(reason)


def test_a_picture_whose_file_is_cut_short() -> None:
    (item,) = bake(lambda batch: {"img": [Image.open(io.BytesIO(NOISE[:-500]))]}, rows(THREE[:1]))
    assert isinstance(item, Reject)
    assert item.reason.startswith("undecodable: image file is truncated")


# ---- what is refused

PLACE = r"^recipe returning\.<locals>\.<lambda>, given rows 10 to 12 of fragment 4, returned "
HALVES = np.full((4, 4, 3), 0.5)
NAN, INF = HALVES.copy(), HALVES.copy()
NAN[1, 1, 1], INF[1, 1, 1] = np.nan, np.inf
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"img": [COLOURS] * 2}, r"2 images for 3 rows and no '__row__'\. Return as many images as rows"),
    ({"img": [COLOURS] * 4}, r"4 images for 3 rows"),
    ({"img": COLOURS[0, 0, 0]}, r"a uint8 as column 'img'. Supported: a list, an array or a tensor"),
    ({"img": np.array(3)}, r"a ndarray as column 'img'"),
    ({"img": torch.tensor(3)}, r"a Tensor as column 'img'"),
    ({"img": Image.new("L", (3, 3))}, r"a Image as column 'img'"),
    ({"img": "abc"}, r"a str as column 'img'"),
    ({"class": 3}, r"a int as column 'class'"),
    ({"class": [1, 2]}, r"columns of different lengths: 3 'img', 2 'class'$"),
    ({"img": [], "class": [1, 2, 3]}, r"columns of different lengths: 0 'img', 3 'class'$"),
    ({"__row__": [0, 1]}, r"columns of different lengths: 3 'img', 2 '__row__'$"),
    ({"text": ["a"]}, r"columns of different lengths: 3 'img', 1 'text'$"),
    ({"__row__": [0, 1, 3]}, r"3 in '__row__'\. Supported: 0 to 2, the positions in the batch$"),
    ({"__row__": [0, 1, -1]}, r"-1 in '__row__'. Supported: 0 to 2"),
    ({"__row__": [0, 1, 1.0]}, r"1\.0 in '__row__'"),
    ({"__row__": [0, 1, True]}, r"True in '__row__'"),
    ({"__row__": np.array([0.0, 1.0, 2.0])}, r"np.float64\(0\.0\) in '__row__'"),
    ({"__row__": [0, 1, None]}, r"None in '__row__'"),
    ({"__row__": [0, 1, "2"]}, r"'2' in '__row__'"),
    ({"class": [1, True, 1]}, r"for row 11 the label True \(bool\)\. Supported: an int, or None for no label$"),
    ({"class": [1, 2, 1.0]}, r"for row 12 the label 1\.0 \(float\)"),
    ({"class": ["cat", 2, 1]}, r"for row 10 the label 'cat' \(str\)"),
    ({"class": [np.float32(1), 2, 1]}, r"for row 10 the label np\.float32\(1\.0\)"),
    ({"class": torch.tensor([1.0, 2, 1])}, r"for row 10 the label tensor\(1\.\)"),
    ({"class": torch.tensor([True, True, True])}, r"for row 10 the label tensor\(True\)"),
    ({"class": [[1], 2, 1]}, r"for row 10 the label \[1\] \(list\)"),
    ({"class": [2**63, 2, 1]}, r"for row 10 the label 9223372036854775808"),
    ({"text": [{1, 2}] * 3}, r"for row 10 a set in the kept column 'text', which cannot be stored$"),
    ({"text": [[object()]] * 3}, r"for row 10 a list in the kept column 'text'"),
    ({"text": [{(1, 2): 3}] * 3}, r"for row 10 a dict in the kept column 'text'"),
    ({"img": [COLOURS, NAN, COLOURS]}, r"for row 11 an image that contains NaN or infinity$"),
    ({"img": [COLOURS, INF, COLOURS]}, r"for row 11 an image that contains NaN or infinity"),
    (
        {"img": [COLOURS, COLOURS, HALVES * 2.1]},
        r"for row 12 a float image with values from 1\.05 to 1\.05\. Supported: 0 to 1\.",
    ),
    (
        {"img": [COLOURS, COLOURS, COLOURS * 1.0]},
        r"for row 12 a float image with values from 0 to 255\. .*\. Scale or clamp it$",
    ),
    ({"img": [HALVES - 0.6] * 3}, r"for row 10 a float image with values from -0\.1 to -0\.1"),
    ({"img": [torch.full((3, 4, 4), torch.nan)] * 3}, r"for row 10 an image that contains NaN"),
    (
        {"img": [COLOURS.astype(int)] * 3},
        r"for row 10 an image of int64\. Supported: uint8, or floats from 0 to 1$",
    ),
    ({"img": [CHW > 3] * 3}, r"for row 10 an image of bool"),
    ({"img": [COLOURS.astype(complex)] * 3}, r"for row 10 an image of complex128"),
    (
        {"img": [torch.from_numpy(COLOURS)] * 3},
        r"for row 10 a tensor of shape \(4, 12, 3\) as an image\. Supported: \[C, H, W",
    ),
    (
        {"img": [CHW.numpy()] * 3},
        r"for row 10 an array of shape \(3, 4, 12\) as an image\. Supported: \[H, W, C\] with 1 or 3",
    ),
    ({"img": [np.zeros((4, 4, 4), np.uint8)] * 3}, r"for row 10 an array of shape \(4, 4, 4\)"),
    ({"img": [np.zeros(4, np.uint8)] * 3}, r"for row 10 an array of shape \(4,\)"),
    ({"img": [CHW[None]] * 3}, r"for row 10 a tensor of shape \(1, 3, 4, 12\)"),
    ({"img": ["1.jpg"] * 3}, r"for row 10 a str as an image\. Supported: bytes, PIL images, tensors and arrays$"),
    ({"img": [None] * 3}, r"for row 10 a NoneType as an image"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_what_is_no_batch_of_images(columns: dict[str, Any], message: str) -> None:
    given = rows(THREE, first=10, fragment=4, kept={"text": ["a", "b", "c"]})
    with pytest.raises(RecipeError, match=PLACE + message) as caught:
        bake(returning(**columns), given, keep=("text",))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, r"a NoneType\. Return a dict of columns$"),
        ([1], r"a list\. Return a dict of columns$"),
        ({}, r"no column 'img', which holds the images \(only: none\)$"),
        ({"image": [1], "class": [1]}, r"no column 'img', which holds the images \(only: image, class\)$"),
    ],
)
def test_what_is_no_batch(result: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"^recipe .* rows 0 to 2 of fragment 0, returned {message}"):
        bake(lambda batch: result, rows(THREE))


def test_a_kept_column_that_nobody_has() -> None:
    with pytest.raises(
        RecipeError, match="returned no column 'text', although it is named by --keep and the source does not have"
    ):
        bake(copying, rows(THREE), keep=("text",))


def test_a_recipe_that_raises() -> None:
    def raising(batch: Batch) -> Batch:
        raise TypeError("two\nlines")

    with pytest.raises(RecipeError) as caught:
        bake(raising, rows(THREE, first=64, fragment=3))
    line = raising.__code__.co_firstlineno + 1
    assert str(caught.value).endswith(
        "raising failed on rows 64 to 66 of fragment 3: TypeError: two lines "
        f"(test_user_recipe.py:{line} in raising; --debug shows the traceback)"
    )
    (note,) = caught.value.__notes__
    assert f'File "{__file__}"' in note
    assert 'raise TypeError("two\\nlines")' in note
    assert pickle.loads(pickle.dumps(caught.value)).__notes__ == [note]


def test_where_a_recipe_raised_is_a_line_of_its_own(tmp_path: Path) -> None:
    """The innermost of the user's files, and not that of a library which it called."""
    (tmp_path / "side.py").write_text("import json\n\ndef helper(text):\n    return json.loads(text)\n")
    (tmp_path / "bad.py").write_text("import side\ndef bake(batch):\n    return side.helper('{')\n")
    with pytest.raises(RecipeError, match=r"JSONDecodeError: .* \(side\.py:4 in helper; --debug shows the traceback\)"):
        bake(f"{tmp_path / 'bad.py'}:bake", rows(THREE))
    (tmp_path / "side.py").write_text("no_such_name\n")
    with pytest.raises(RecipeError, match=r"NameError: .* \(side\.py:1 in <module>; --debug shows"):
        make_recipe(f"{tmp_path / 'bad.py'}:bake", Settings())


@pytest.mark.parametrize("file", ["<ipython-input-3-0123abcd>", "/tmp/ipykernel_12/345.py"])
def test_where_a_cell_of_a_notebook_raised(file: str) -> None:
    space: Batch = {}
    exec(compile("def bake(batch):\n    return 1 / 0\n", file, "exec"), space)
    with pytest.raises(RecipeError, match=r"ZeroDivisionError: .* \(notebook cell:2 in bake; --debug shows"):
        make_recipe(space["bake"], Settings(version="1")).bake(rows(THREE))


def test_a_recipe_that_ends_the_process() -> None:
    with pytest.raises(RecipeError, match="failed on rows 0 to 2 of fragment 0: SystemExit: 3"):
        bake(lambda batch: sys.exit(3), rows(THREE))
