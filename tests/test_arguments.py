"""Arguments: what is like a plain value becomes one, and the rest is an error that says what is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wdsremux
from wdsremux.errors import OptionError
from wdsremux.loading.augment import make_augment
from wdsremux.loading.state import LoaderState


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({"batch_size": 32.0}, r"Invalid batch_size \(got 32\.0\)\. Supported: an integer, 1 or more"),
        ({"batch_size": "32"}, r"Invalid batch_size \(got '32'\)"),
        ({"batch_size": True}, r"Invalid batch_size \(got True\)"),
        ({"batch_size": 0}, r"Invalid batch_size \(got 0\)"),
        (
            {"size": (224, 224)},
            r"Invalid size \(got \(224, 224\)\)\. Supported: an integer of 1 or more \(pixels\)",
        ),
        ({"mean": 0.5}, r"Invalid mean \(got 0\.5\)\. Supported: three numbers from 0 to 1, for red, green and blue"),
        ({"mean": (123.7, 116.3, 103.5)}, r"Invalid mean .* look like values from 0 to 255: divide them by 255"),
        ({"std": (58.4, 57.1, 57.4)}, r"Invalid std .* divide them by 255"),
        ({"std": (0.2, 0.0, 0.2)}, r"Invalid std .* Supported: three numbers greater than 0"),
        ({"mean": ("a", "b", "c")}, r"Invalid mean \(got 'a'\)"),
        (
            {"augment": ["train"]},
            r"Invalid augment \(got \['train'\]\)\. Supported: 'train', 'eval', an Augment, or None",
        ),
        ({"seed": "a"}, r"Invalid seed \(got 'a'\)\. Supported: an integer"),
        ({"seed": 1.5}, r"Invalid seed \(got 1\.5\)"),
        ({"shuffle": None}, r"Invalid shuffle \(got None\)\. Supported: True or False"),
        ({"shuffle": "no"}, r"Invalid shuffle \(got 'no'\)"),
        (
            {"window": 2.5},
            r"Invalid window \(got 2\.5\)\. Supported: an integer of 1 or more \(number of shards\) or 'all'",
        ),
        ({"lanes": "2"}, r"Invalid lanes"),
        ({"prefetch": None}, r"Invalid prefetch \(got None\)\. Supported: an integer, 1 or more"),
        ({"num_threads": 1.5}, r"Invalid num_threads"),
        ({"rank": "0", "world_size": 2}, r"Invalid rank \(got '0'\)"),
        ({"fields": "image"}, r"Invalid fields \(got 'image'\)\. Supported: a tuple of image, label, key, id, json"),
        ({"fields": ("image", "labels")}, r"Invalid fields \(got 'labels'\)"),
        ({"fields": 3}, r"Invalid fields \(got 3\)"),
        ({"fields": ()}, r"Invalid fields \(got \(\)\)"),
        ({"tail": "keep"}, r"Invalid tail \(got 'keep'\)\. Supported: drop, even"),
        ({"tail": 1}, r"Invalid tail \(got 1\)"),
        ({"on_error": "ignore"}, r"Invalid on_error"),
        ({"decode": "gpus"}, r"Invalid decode"),
        ({"backend": "nvidia"}, r"Invalid backend"),
        ({"backend": None}, r"Invalid backend \(got None\)"),
        ({"dtype": torch.int8}, r"Invalid dtype"),
        ({"dtype": "float32"}, r"Invalid dtype"),
        ({"device": 1.5}, r"Invalid device"),
        ({"verify_crc": "yes"}, r"Invalid verify_crc \(got 'yes'\)\. Supported: True or False"),
        ({"split": 3}, r"Invalid split \(got 3\)"),
    ],
    ids=str,
)
def test_what_a_loader_does_not_take(converted: Path, argument: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=f"^{said}"):
        wdsremux.DataLoader(converted, **argument)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({"quality": 90.5}, r"Invalid quality \(got 90\.5\)\. Supported: an integer, 1 to 100"),
        ({"quality": "90"}, r"Invalid quality \(got '90'\)"),
        ({"quality": 101}, r"Invalid quality \(got 101\)"),
        ({"subsampling": 420}, r"Invalid subsampling \(got 420\)\. Supported: 420, 444"),
        ({"workers": "2"}, r"Invalid workers \(got '2'\)"),
        ({"workers": 0}, r"Invalid workers \(got 0\)"),
        ({"batch_size": 6.4}, r"Invalid batch_size \(got 6\.4\)"),
        ({"seed": None}, r"Invalid seed \(got None\)\. Supported: an integer$"),
        ({"limit": 10.0}, r"Invalid limit \(got 10\.0\)"),
        ({"samples_per_shard": "x"}, r"Invalid samples_per_shard"),
        ({"patience": "long"}, r"Invalid patience \(got 'long'\)\. Supported: a number of seconds, 0 or more"),
        ({"patience": float("nan")}, r"Invalid patience"),
        ({"overwrite": "no"}, r"Invalid overwrite \(got 'no'\)\. Supported: True or False"),
        ({"strict": 1}, r"Invalid strict"),
        ({"fast": None}, r"Invalid fast"),
        ({"restart_rows": 1}, r"Invalid restart_rows"),
        ({"engine": 1}, r"Invalid engine"),
        ({"split": 1}, r"Invalid split \(got 1\)\. Supported: a string"),
        ({"config": 1}, r"Invalid config \(got 1\)"),
        ({"image_column": ["image"]}, r"Invalid image_column"),
        ({"keep": 3}, r"Invalid keep \(got 3\)\. Supported: column names"),
        ({"keep": ["a", 3]}, r"Invalid keep \(got 3\)"),
        ({"classes": 3}, r"Invalid classes \(got 3\)"),
        ({"classes": [1, 2]}, r"Invalid classes"),
        ({"recipe": 3.5}, r"Invalid recipe \(got 3\.5"),
        ({"recipe_version": 2}, r"Invalid recipe_version \(got 2\)"),
        (
            {"max_rejects": "many"},
            r"Invalid max_rejects \(got 'many'\)\. Supported: an integer, a share such as 0\.01, or a percent",
        ),
        ({"max_rejects": 1.0}, r"Invalid max_rejects \(got '1\.0'\)"),
        ({"max_rejects": "2.5"}, r"Invalid max_rejects"),
        ({"max_rejects": float("nan")}, r"Invalid max_rejects"),
        ({"max_rejects": True}, r"Invalid max_rejects"),
        ({"max_rejects": None}, r"Invalid max_rejects"),
        ({"max_rejects": -1}, r"Invalid max_rejects"),
    ],
    ids=str,
)
def test_what_a_conversion_does_not_take(tmp_path: Path, argument: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=f"^{said}"):
        wdsremux.convert(tmp_path / "photos", tmp_path / "out", **argument)
    assert not (tmp_path / "out").exists()


def test_a_conversion_that_tells_what_is_no_function(tmp_path: Path) -> None:
    tell: Any = 5
    with pytest.raises(OptionError, match=r"^Invalid tell \(got 5\)\. Supported: a function$"):
        wdsremux.convert(tmp_path / "photos", tmp_path / "out", tell=tell)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({"out": None}, r"Invalid out \(got None\)\. Supported: a path, as a string or a pathlib\.Path$"),
        ({"out": 3}, r"Invalid out \(got 3\)"),
        ({"split": 3}, r"Invalid split \(got 3\)\. Supported: a string or None$"),
        ({"split": b"train"}, r"Invalid split \(got b'train'\)"),
        ({"decode": "x"}, r"Invalid decode \(got 'x'\)\. Supported: True or False$"),
        ({"decode": None}, r"Invalid decode \(got None\)"),
        ({"tell": 5}, r"Invalid tell \(got 5\)\. Supported: a function$"),
    ],
    ids=str,
)
def test_what_a_check_does_not_take(converted: Path, argument: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"out": converted} | argument
    with pytest.raises(OptionError, match=f"^{said}"):
        wdsremux.verify(**given)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({"out": None}, r"Invalid out \(got None\)\. Supported: a path, as a string or a pathlib\.Path$"),
        ({"split": 3}, r"Invalid split \(got 3\)\. Supported: a string$"),
        ({"split": None}, r"Invalid split \(got None\)"),
    ],
    ids=str,
)
def test_what_a_manifest_is_not_read_of(converted: Path, argument: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"out": converted} | argument
    with pytest.raises(OptionError, match=f"^{said}"):
        wdsremux.manifest(**given)


@pytest.mark.parametrize("place", ["source", "out"])
def test_places_that_are_none(tmp_path: Path, place: str) -> None:
    given: dict[str, Any] = {"source": tmp_path, "out": tmp_path / "out"} | {place: 3}
    with pytest.raises(OptionError, match=rf"^Invalid {place} \(got 3\)\. Supported: a path"):
        wdsremux.convert(**given)


def test_a_loader_of_nothing_that_is_a_path() -> None:
    with pytest.raises(OptionError, match=r"^Invalid out \(got \[\]\)\. Supported: a path"):
        wdsremux.DataLoader([])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, torch.tensor])
def test_numbers_that_are_like_integers_become_ints(converted: Path, kind: Any) -> None:
    given: dict[str, Any] = {"batch_size": 4, "seed": 3, "size": 16, "lanes": 1, "prefetch": 2}
    epoch: Any = kind(5)
    with wdsremux.DataLoader(converted, **{name: kind(value) for name, value in given.items()}) as loader:
        loader.set_epoch(epoch)
        state = loader.state_dict()
        assert loader.batch_size == 4
        assert type(loader.batch_size) is int
        assert all(type(value) in (int, bool, str, type(None)) for value in (*state["order"].values(), state["epoch"]))
        next(iter(loader))


def test_a_checkpoint_of_numpy_numbers_passes_weights_only(converted: Path, tmp_path: Path) -> None:
    four: Any = np.int64(4)
    with wdsremux.DataLoader(converted, four, seed=four, augment="eval", size=16) as loader:
        loader.set_epoch(four)
        torch.save(loader.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == loader.state_dict()


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_means_in_any_form(converted: Path, form: Any) -> None:
    values = [0.25, 0.5, 0.75]
    with wdsremux.DataLoader(converted, 4, augment="eval", size=16, mean=form(values), std=form(values)) as loader:
        images, _ = next(iter(loader))
    assert images.shape == (4, 3, 16, 16)


@pytest.mark.parametrize("wrong", ["1", 1.0, None, -1, 2**32, True])
def test_epochs(wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"^Invalid epoch \(got .*\)\. Supported: an integer, 0 to 4294967295$"):
        LoaderState().at_epoch(wrong)


@pytest.mark.parametrize("wrong", [3, ["train"], {}, "test", b"train"])
def test_augments(wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"^Invalid augment"):
        make_augment(wrong)
