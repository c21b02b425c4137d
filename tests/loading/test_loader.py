"""DataLoader: every sample once on any ranks, exact resumes, and the rules of going through epochs."""

from __future__ import annotations

import copy
import gc
import io
import json
import pickle
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

import wdsremux
from tests.conftest import TRAIN, ConvertTiny, WriteSource, tiny_jpeg
from wdsremux import DataLoader
from wdsremux.errors import BackendError, FormatError, OptionError, StateError
from wdsremux.loading import backends
from wdsremux.loading.backends import Batch

GLOBAL = 48  #: samples of a step over all ranks
BARE: dict[str, Any] = {"fields": ("id",)}
Steps = list[list[int]]  #: ids of each step


def ids_of(batches: Any) -> Steps:
    """Of batches whose first field is the id."""
    return [batch[0].tolist() for batch in batches]


def epoch_ids(out: Path, epoch: int, **options: Any) -> Steps:
    """What a fresh loader gives in an epoch."""
    with DataLoader(out, **(BARE | options)) as loader:
        loader.set_epoch(epoch)
        return ids_of(loader)


def flat(steps: Steps) -> list[int]:
    return [i for step in steps for i in step]


def on_ranks(out: Path, world: int, epochs: int, batch_size: int, **options: Any) -> list[list[list[Any]]]:
    """[epoch][rank][step] of batches; all ranks in this process, each with its own loader."""
    with ExitStack() as stack:
        loaders = [
            stack.enter_context(DataLoader(out, batch_size, rank=rank, world_size=world, **options))
            for rank in range(world)
        ]
        result = [[list(loader) for loader in loaders] for _ in range(epochs)]
        assert {len(loader) for loader in loaders} == {len(steps) for epoch in result for steps in epoch}
        return result


# Ranks


@pytest.mark.parametrize("count", [581, 600, 601, 607, 613])
def test_any_ranks_take_the_same_steps(convert_tiny: ConvertTiny, count: int) -> None:
    out = convert_tiny(count)
    labels: dict[int, int] = {}
    alone: dict[tuple[str, int], Steps] = {}
    for world in (1, 2, 3, 8):
        for tail in ("even", "drop"):
            runs = on_ranks(out, world, 2, GLOBAL // world, tail=tail, fields=("id", "label", "key"))
            for epoch, ranks in enumerate(runs):
                # Key and label of the source's row, so that a label can be told from another's.
                for ids, batch_labels, keys in (batch for steps in ranks for batch in steps):
                    rows = [int(key.split("-")[0]) * 100 + int(key.split("-")[1]) for key in keys]
                    assert batch_labels.tolist() == rows
                    for i, label in zip(ids.tolist(), rows, strict=True):
                        assert labels.setdefault(i, label) == label
                union = [sorted(flat([batch[0].tolist() for batch in step])) for step in zip(*ranks, strict=True)]
                full = [ids for ids in union if len(ids) == GLOBAL]
                wanted = alone.setdefault((tail, epoch), full)
                assert full[: len(wanted)] == wanted[: len(full)]
                assert abs(len(full) - len(wanted)) <= (tail == "even")
                if tail == "even":
                    assert sorted(flat(union)) == list(range(count))
                else:
                    assert len(set(flat(union))) == count // GLOBAL * GLOBAL
    assert sorted(labels.values()) == list(range(count))
    assert alone["even", 0] != alone["even", 1]


@pytest.mark.parametrize(
    ("count", "samples_per_shard", "world", "lanes"),
    [(40, 40, 8, 1), (40, 1, 3, 1), (40, 1, 4, 2), (41, 20, 4, 4), (40, 13, 3, 2)],
)
def test_few_shards_shards_of_one_and_lanes(
    convert_tiny: ConvertTiny, count: int, samples_per_shard: int, world: int, lanes: int
) -> None:
    out = convert_tiny(count, samples_per_shard=samples_per_shard)
    for ranks in on_ranks(out, world, 2, 3, tail="even", lanes=lanes, **BARE):
        seen = Counter(flat([flat(ids_of(steps)) for steps in ranks]))
        assert sorted(seen.elements()) == list(range(count))
        assert all(len(batch[0]) for steps in ranks for batch in steps)


def test_ranks_come_from_the_environment_when_first_needed(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As late as that, because trainers set them up after the loader is made."""
    with DataLoader(converted, 25, **BARE) as loader:
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "4")
        assert len(loader) == 3
        late = ids_of(loader)
    assert late == [ids_of(steps) for steps in on_ranks(converted, 4, 1, 25, **BARE)[0]][1]


# Resume


def through_json(state: dict[str, Any]) -> Any:
    return json.loads(json.dumps(state))


def through_torch(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save({"loader": state}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)["loader"]


def all_equal(one: list[Any], other: list[Any]) -> bool:
    """Bit for bit."""
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_a_resume_is_exact_at_every_step(backend: str, converted: Path) -> None:
    options: dict[str, Any] = {"batch_size": 44, "size": 32, "backend": backend, "fields": ("image", "label", "id")}
    with DataLoader(converted, tail="even", **options) as loader:
        epochs = [list(loader), list(loader)]
        assert loader.state_dict()["epoch"] == 2
    assert not all_equal(epochs[0], epochs[1])
    assert len(epochs[0]) == 7
    for stop in range(1, 8):
        with DataLoader(converted, tail="even", prefetch=3, **options) as loader:
            taken = [batch for _, batch in zip(range(stop), loader, strict=False)]
            state = through_json(loader.state_dict()) if stop % 2 else through_torch(loader.state_dict())
        with DataLoader(converted, tail="even", num_threads=1, **options) as loader:
            loader.load_state_dict(state)
            assert all_equal(taken + list(loader), epochs[0])
            assert all_equal(list(loader), epochs[1])


@pytest.mark.parametrize("lanes", [1, 2])
def test_four_ranks_stop_and_three_go_on(converted: Path, lanes: int) -> None:
    """With another batch size, too."""
    options = BARE | {"lanes": lanes, "tail": "even"}
    seen: list[int] = []
    states = []
    for rank in range(4):
        with DataLoader(converted, 9, rank=rank, world_size=4, **options) as loader:
            seen += flat(ids_of(batch for _, batch in zip(range(3), loader, strict=False)))
            states.append(loader.state_dict())
    assert all(state == states[0] for state in states)
    assert states[0]["position"] == 3 * 36
    second: list[int] = []
    for rank in range(3):
        with DataLoader(converted, 10, rank=rank, world_size=3, **options) as loader:
            loader.load_state_dict(states[rank])
            seen += flat(ids_of(loader))
            second += flat(ids_of(loader))
    assert sorted(seen) == sorted(second) == list(range(TRAIN))


def test_too_few_for_all_ranks_are_repeated_with_a_warning(converted: Path) -> None:
    """In a resume; at the beginning of an epoch it is refused."""
    with DataLoader(converted, 298, tail="even", **BARE) as loader:
        taken = next(iter(loader))[0].tolist()
        state = loader.state_dict()
    rest = []
    for rank in range(4):
        with DataLoader(converted, 5, tail="even", rank=rank, world_size=4, **BARE) as loader:
            loader.load_state_dict(state)
            sentence = r"^the samples that are left of epoch 0 \(2\) cannot be divided evenly"
            with pytest.warns(UserWarning, match=sentence):
                rest.append(ids_of(loader))
    assert [list(map(len, steps)) for steps in rest] == [[1]] * 4
    assert set(range(TRAIN)) - set(taken) == set(flat([flat(steps) for steps in rest]))


def test_the_state_is_what_was_handed_out(converted: Path) -> None:
    """Not what was made ahead; plain values; the same with any batch size and ranks."""
    with DataLoader(converted, 20, prefetch=5, **BARE) as loader:
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 0)
        for number, _ in enumerate(loader, 1):
            state = loader.state_dict()
            assert (state["epoch"], state["position"]) == (0, 20 * number)
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)
    assert through_json(state) == state == through_torch(state)


@pytest.mark.parametrize("tail", ["drop", "even"])
def test_the_state_after_the_last_batch_is_the_end_of_the_epoch(converted: Path, tail: str) -> None:
    options = BARE | {"batch_size": 70, "tail": tail}
    with DataLoader(converted, **options) as loader:
        batches = iter(loader)
        for _ in range(len(loader)):
            next(batches)
        state = loader.state_dict()
        assert (state["epoch"], state["position"]) == (0, TRAIN)
    with DataLoader(converted, **options) as loader:
        loader.load_state_dict(state)
        assert list(loader) == []
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)
        assert ids_of(loader) == epoch_ids(converted, 1, **options)


def test_a_rest_that_is_dropped_is_an_empty_epoch(converted: Path) -> None:
    with DataLoader(converted, 70, **BARE) as loader:
        for _ in zip(range(4), loader, strict=False):
            pass
        state = loader.state_dict() | {"position": 280}
    with DataLoader(converted, 70, **BARE) as loader:
        loader.load_state_dict(state)
        assert list(loader) == []
        assert ids_of(loader) == epoch_ids(converted, 1, batch_size=70)


def test_the_length_is_the_whole_epochs_after_a_resume(converted: Path) -> None:
    with DataLoader(converted, 30, **BARE) as loader:
        loader.load_state_dict(loader.state_dict() | {"position": 90})
        assert len(loader) == 10
        assert len(list(loader)) == 7
        assert len(loader) == 10


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seed", {"seed": 1}),
        ("shuffle", {"shuffle": False}),
        ("window", {"window": "all"}),
        ("lanes", {"lanes": 2}),
        ("samples", {"split": "test"}),
    ],
)
def test_a_state_of_another_order_is_refused(converted: Path, name: str, options: dict[str, Any]) -> None:
    with DataLoader(converted, 20, **BARE) as loader, DataLoader(converted, 20, **(BARE | options)) as other:
        before = other.state_dict()
        with pytest.raises(
            StateError, match=rf"^the state was saved with {name} .*, but this loader has .*, so its epochs would"
        ):
            other.load_state_dict(loader.state_dict())
        assert other.state_dict() == before


def test_shards_cut_otherwise_are_another_order(convert_tiny: ConvertTiny) -> None:
    one, other = convert_tiny(20, samples_per_shard=5), convert_tiny(20, samples_per_shard=4, name="other")
    with (
        DataLoader(one, 5, **BARE) as loader,
        DataLoader(other, 5, **BARE) as another,
        pytest.raises(StateError, match="saved with shards "),
    ):
        another.load_state_dict(loader.state_dict())


# Going through epochs


def test_epochs_follow_each_other(converted: Path) -> None:
    with DataLoader(converted, 50, **BARE) as loader:
        epochs = [ids_of(loader) for _ in range(3)]
    assert epochs == [epoch_ids(converted, epoch, batch_size=50) for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]


def test_after_a_break_comes_the_next_epoch(converted: Path) -> None:
    with DataLoader(converted, 50, **BARE) as loader:
        for _ in loader:
            break
        assert ids_of(loader) == epoch_ids(converted, 1, batch_size=50)


def test_set_epoch_counts_until_the_first_next(converted: Path) -> None:
    with DataLoader(converted, 50, **BARE) as loader:
        batches = iter(loader)
        loader.set_epoch(5)
        assert ids_of(batches) == epoch_ids(converted, 5, batch_size=50)
        assert ids_of(loader) == epoch_ids(converted, 6, batch_size=50)


def test_set_epoch_of_the_loaded_epoch_keeps_its_position(converted: Path) -> None:
    with DataLoader(converted, 50, **BARE) as loader:
        state = loader.state_dict() | {"epoch": 3, "position": 100}
        loader.load_state_dict(state)
        loader.set_epoch(3)
        assert ids_of(loader) == epoch_ids(converted, 3, batch_size=50)[2:]
        loader.set_epoch(3)  # used by now: the whole epoch again
        assert ids_of(loader) == epoch_ids(converted, 3, batch_size=50)
        loader.load_state_dict(state)
        with pytest.warns(UserWarning, match=r"the loaded state \(epoch 3, sample 100\) is discarded") as told:
            loader.set_epoch(4)
        assert "for epoch in range(loader.epoch, EPOCHS)" in str(told[0].message)
        assert told[0].filename == __file__
        assert ids_of(loader) == epoch_ids(converted, 4, batch_size=50)
        loader.load_state_dict(state | {"position": state["order"]["samples"]})
        loader.set_epoch(4)  # the one after an epoch that had ended: nothing is lost


def test_a_loaded_state_is_used_once(converted: Path) -> None:
    with DataLoader(converted, 50, **BARE) as loader:
        loader.load_state_dict(loader.state_dict() | {"position": 250})
        assert len(ids_of(loader)) == 1
        assert ids_of(loader) == epoch_ids(converted, 1, batch_size=50)


def test_loading_in_mid_epoch_goes_back(converted: Path) -> None:
    """The batches made ahead are of no use then."""
    with DataLoader(converted, 50, prefetch=4, **BARE) as loader:
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        next(batches)
        next(batches)
        loader.load_state_dict(state)
        assert ids_of(loader) == epoch_ids(converted, 0, batch_size=50)[1:]


@pytest.mark.parametrize("calls_set_epoch", [True, False])
def test_a_trainer_that_stops_at_the_length(converted: Path, calls_set_epoch: bool) -> None:
    """Lightning takes len() batches and never sees StopIteration; it calls set_epoch between iter() and next()."""
    with DataLoader(converted, 50, **BARE) as loader:
        for epoch in range(3):
            batches = iter(loader)
            if calls_set_epoch:
                loader.set_epoch(epoch)
            ids = ids_of(next(batches) for _ in range(len(loader)))
            assert ids == epoch_ids(converted, epoch, batch_size=50)


def feeds() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "wdsremux-feed"]


def test_the_next_epoch_is_made_ahead(converted: Path) -> None:
    """By the same thread, which runs on over the end of an epoch."""
    with DataLoader(converted, 50, **BARE) as loader:
        list(loader)
        (thread,) = feeds()
        list(loader)
        assert feeds() == [thread]
        next(iter(loader))
        loader.set_epoch(9)
        list(loader)
        assert len(feeds()) == 1
        assert feeds() != [thread]


def test_only_the_newest_iterator_goes_on(converted: Path) -> None:
    with DataLoader(converted, 50, **BARE) as loader:
        older = iter(loader)
        next(older)
        newer = iter(loader)
        next(older)  # the newer one has not begun
        first = next(newer)[0].tolist()
        with pytest.raises(
            StateError, match=r"^another iterator of this loader was started, and only the newest one can continue$"
        ):
            next(older)
        assert [first, *ids_of(newer)] == epoch_ids(converted, 1, batch_size=50)


def test_an_exception_in_the_loop_body_ends_it_as_a_break_does(converted: Path) -> None:
    def interrupted(loader: DataLoader) -> None:
        for _ in loader:
            raise KeyboardInterrupt

    with DataLoader(converted, 50, **BARE) as loader:
        with pytest.raises(KeyboardInterrupt):
            interrupted(loader)
        assert loader.state_dict()["position"] == 50
        assert ids_of(loader) == epoch_ids(converted, 1, batch_size=50)


# Batches


def test_fields_come_as_asked_for(converted: Path) -> None:
    fields = ("id", "key", "image", "label")
    with DataLoader(converted, 20, size=32, fields=fields) as loader:
        ids, keys, images, labels = next(iter(loader))
        targets = loader.dataset.targets
    assert ids.dtype == labels.dtype == torch.int64
    assert images.shape == (20, 3, 32, 32)
    assert images.dtype == torch.float32
    assert len(set(keys)) == 20
    assert labels.tolist() == targets[ids.numpy()].tolist()
    with DataLoader(converted, 20, size=32, fields=fields[::-1]) as loader:
        backwards = next(iter(loader))
    assert torch.equal(backwards[0], labels)
    assert torch.equal(backwards[1], images)
    assert backwards[2] == keys
    assert torch.equal(backwards[3], ids)
    with DataLoader(converted, 20, fields=("label",)) as loader:
        (alone,) = next(iter(loader))
    assert torch.equal(alone, labels)


def test_the_default_is_images_and_labels(converted: Path) -> None:
    with DataLoader(converted, 8) as loader:
        images, labels = next(iter(loader))
    assert images.shape == (8, 3, 224, 224)
    assert labels.shape == (8,)


def test_what_is_known_of_the_data_set(converted: Path) -> None:
    with DataLoader(converted, 20, split="test", shuffle=False, **BARE) as loader:
        assert len(loader.dataset) == 60
        assert loader.dataset.classes == wdsremux.manifest(converted, "test").classes
        assert loader.dataset.classes is not None
        assert sorted(set(loader.dataset.targets.tolist())) == list(range(len(loader.dataset.classes)))
        assert loader.batch_size == 20


def test_unshuffled_is_the_order_on_disk(converted: Path) -> None:
    """Every sample, and the same in each epoch."""
    with DataLoader(converted, 70, shuffle=False, **BARE) as loader:
        for _ in range(2):
            assert flat(ids_of(loader)) == list(range(TRAIN))


def test_without_labels(write_source: WriteSource, tmp_path: Path) -> None:
    source = write_source([tiny_jpeg(i) for i in range(8)])
    wdsremux.convert(source, tmp_path / "out", recipe="copy", workers=1)
    with DataLoader(tmp_path / "out", 4, size=16) as loader:
        assert [labels.tolist() for _, labels in loader] == [[-1] * 4] * 2
        assert loader.dataset.classes is None


def test_batches_may_be_kept(converted: Path) -> None:
    """While the thread makes others, and after the loader is closed."""
    with DataLoader(converted, 50, size=32) as loader:
        kept = [images for images, _ in loader]
        copies = [images.clone() for images in kept]
        list(loader)
    assert all(torch.equal(images, copied) for images, copied in zip(kept, copies, strict=True))


# Errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"memory_format": torch.preserve_format},
            r"^Invalid memory_format \(got torch\.preserve_format\)\. Supported: ",
        ),
        ({"rank": 1}, r"^rank is given without world_size\. Give both or neither$"),
        (
            {"rank": 2, "world_size": 2},
            r"^Invalid rank \(got 2 with a world size of 2 from the arguments\)\. Supported: ",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments(converted: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        DataLoader(converted, **options)


@pytest.mark.parametrize("use", [len, iter], ids=["len", "iter"])
def test_a_batch_larger_than_the_set(converted: Path, use: Callable[[Any], Any]) -> None:
    with (
        DataLoader(converted, TRAIN + 1, **BARE) as loader,
        pytest.raises(
            OptionError,
            match=rf"^the split has too few samples for one full step: {TRAIN}, where batch_size={TRAIN + 1} ",
        ),
    ):
        list(use(loader))
    with DataLoader(converted, TRAIN + 1, tail="even", **BARE) as loader:
        assert list(map(len, ids_of(loader))) == [TRAIN]


def test_a_split_that_is_not_there(converted: Path) -> None:
    with pytest.raises(FormatError, match=r"contains no finished split 'validation', only test, train$"):
        DataLoader(converted, split="validation")


def test_a_read_error_reaches_the_caller(converted: Path, tmp_path: Path) -> None:
    """It names the shard; the loader goes on when the shard is back."""
    out = tmp_path / "out"
    shutil.copytree(converted, out)
    shard = out / "train" / wdsremux.manifest(out).shards[5].url
    with DataLoader(out, 50, size=32) as loader:
        shard.rename(shard.with_suffix(".away"))
        for _ in range(2):
            with pytest.raises(FormatError, match=rf"{shard.name} cannot be opened: No such file or directory\."):
                list(loader)
            assert feeds() == []
        shard.with_suffix(".away").rename(shard)
        assert len(list(loader)) == 6


def test_a_read_error_does_not_use_up_a_loaded_state(converted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(converted, out)
    with DataLoader(out, 50, size=32) as loader:
        batches = iter(loader)
        next(batches), next(batches)
        state = loader.state_dict()
        rest = [images for images, _ in batches]
    with DataLoader(out, 50, size=32) as loader:
        for shard in out.glob("train/*.tar"):
            shard.rename(shard.with_suffix(".away"))
        loader.load_state_dict(state)
        with pytest.raises(FormatError, match="cannot be opened"):
            next(iter(loader))
        assert loader.state_dict() == state
        for shard in out.glob("train/*.away"):
            shard.rename(shard.with_suffix(".tar"))
        again = [images for images, _ in loader]
    assert len(again) == len(rest) == 4
    assert all(torch.equal(a, b) for a, b in zip(again, rest, strict=True))


def test_damage_is_found_with_verify_crc(converted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(converted, out)
    shard = out / "train" / wdsremux.manifest(out).shards[0].url
    content = bytearray(shard.read_bytes())
    content[2_000] ^= 1
    shard.write_bytes(content)
    with (
        DataLoader(out, 50, size=32, verify_crc=True) as loader,
        pytest.raises(FormatError, match="is damaged: its CRC"),
    ):
        list(loader)


def test_a_loader_that_has_not_begun_is_its_arguments(converted: Path) -> None:
    """As Lightning's save_hyperparameters and mp.spawn take it along; one that has begun holds threads and files."""
    uses: list[Callable[[Any], Any]] = [lambda made: pickle.loads(pickle.dumps(made)), copy.copy, copy.deepcopy]
    with DataLoader(converted, 50, seed=3, **BARE) as loader:
        loader.set_epoch(2)
        copies = [use(loader) for use in uses]
        state = loader.state_dict()
        first = [ids.tolist() for (ids,) in loader]
        for use in uses:
            with pytest.raises(TypeError, match="this loader has started, and its threads and open files"):
                use(loader)
    for made in copies:
        with made:
            assert type(made) is DataLoader
            assert made.state_dict() == state
            assert [ids.tolist() for (ids,) in made] == first


# The end


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("wdsremux")]


@pytest.mark.parametrize("taken", [0, 1, 6])
def test_nothing_is_left_after_close(backend: str, converted: Path, taken: int) -> None:
    loader = DataLoader(converted, 50, size=32, backend=backend)
    for _ in zip(range(taken), loader, strict=False):
        pass
    loader.close()
    assert ours() == []
    loader.close()


def test_a_closed_loader_is_not_used_again(converted: Path) -> None:
    with DataLoader(converted, 50, size=32) as loader:
        begun = iter(loader)
        next(begun)
    for batches in (begun, iter(loader)):
        with pytest.raises(StateError, match=r"^this loader was closed\. Create a new one$"):
            next(batches)
    assert ours() == []
    assert loader.state_dict()["position"] == 50  # which may still be saved


@pytest.mark.parametrize("taken", [0, 1, 6])
def test_a_forgotten_loader_is_collected(backend: str, converted: Path, taken: int) -> None:
    loader = DataLoader(converted, 50, size=32, backend=backend)
    for _ in zip(range(taken), loader, strict=False):
        pass
    del loader
    gc.collect()
    assert ours() == []


class CollectingBackend:
    """Runs the garbage collector in a thread of the loader's, as may happen at any allocation."""

    rows = False

    dropped: threading.Event
    collected: threading.Event
    in_decoder: bool

    def __init__(self, *_: Any) -> None:
        self.threads = ThreadPoolExecutor(1, "wdsremux-decode")

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        yield next(batches), torch.zeros(1)
        if self.in_decoder:
            self.threads.submit(self.collect).result()
        else:
            self.collect()
        for batch in batches:
            yield batch, torch.zeros(1)

    def collect(self) -> None:
        self.dropped.wait(10)
        gc.collect()
        self.collected.set()

    def close(self) -> None:
        self.threads.shutdown()


@pytest.mark.parametrize("in_decoder", [False, True], ids=["feed", "decoder"])
def test_a_loader_in_a_cycle_may_be_collected_by_its_own_threads(
    converted: Path, monkeypatch: pytest.MonkeyPatch, in_decoder: bool
) -> None:
    """Which cannot wait for themselves to end."""
    for name, value in {"dropped": threading.Event(), "collected": threading.Event(), "in_decoder": in_decoder}.items():
        monkeypatch.setattr(CollectingBackend, name, value, raising=False)
    monkeypatch.setitem(backends.BACKENDS, "collecting", f"{__name__}:CollectingBackend")
    loader = DataLoader(converted, 50, backend="collecting")
    next(iter(loader))
    cycle: list[Any] = [loader]
    cycle.append(cycle)
    gc.disable()
    try:
        del loader, cycle
        CollectingBackend.dropped.set()
        assert CollectingBackend.collected.wait(10)
    finally:
        gc.enable()
    for thread in threading.enumerate():
        if thread.name.startswith("wdsremux"):
            thread.join(10)
    assert ours() == []


def test_a_missing_backend_says_how_to_get_it(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    for module in ("dali", "dali_pipelines"):
        monkeypatch.delitem(sys.modules, f"wdsremux.loading.backends.{module}", raising=False)
    with pytest.raises(BackendError, match=r'which is not installed\. Install it with `pip install "\.\[dali\]"`'):
        DataLoader(converted, backend="dali")


def test_ranks_that_are_found_late_count(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `len` or an epoch before the process group was joined does not make this the only rank for good."""
    with DataLoader(converted, 10, fields=("id",), tail="even") as loader:
        assert len(loader) == 30
        alone = flat(ids_of(loader))
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "3")
        assert len(loader) == 10
        loader.set_epoch(0)
        mine = ids_of(loader)
    assert len(alone) == TRAIN
    with DataLoader(converted, 10, fields=("id",), tail="even", rank=1, world_size=3) as told:
        assert ids_of(told) == mine
