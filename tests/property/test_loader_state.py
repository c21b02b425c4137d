"""LoaderState: where the next iterator begins, as pure values."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.soak import tries
from wdsremux.errors import OptionError, StateError
from wdsremux.loading.state import LoaderState, load

epochs = st.integers(0, 1_000)
positions = st.integers(0, 1_000)


@given(epochs, positions)
def test_a_loaded_state_is_used_once(epoch: int, position: int) -> None:
    begun = LoaderState(epoch, position, loaded=True).begin()
    assert begun == LoaderState(epoch, position)
    assert begun.begin() == LoaderState(epoch + 1 if position else epoch)


@given(epochs, positions)
def test_a_break_moves_to_the_next_epoch(epoch: int, position: int) -> None:
    assert LoaderState(epoch, position).begin() == LoaderState(epoch + (position > 0))


@given(epochs, positions, epochs, st.booleans())
def test_set_epoch(epoch: int, position: int, wanted: int, loaded: bool) -> None:
    begun = LoaderState(epoch, position, loaded).at_epoch(wanted).begin()
    assert begun == LoaderState(wanted, position if loaded and wanted == epoch else 0)


def test_a_new_loader_begins_at_the_beginning() -> None:
    assert LoaderState().begin() == LoaderState(0, 0)


N = 10  #: samples of the epochs below


class Training(RuleBasedStateMachine):
    """A loader's use of LoaderState, against a plain account of what the design says."""

    def __init__(self) -> None:
        super().__init__()
        self.state = LoaderState()
        self.expected = (0, 0)  #: where the next iterator has to begin

    @rule(batches=st.integers(1, N))
    def iterate_and_break(self, batches: int) -> None:
        begun = self.state.begin()
        assert (begun.epoch, begun.position) == self.expected
        position = begun.position + batches
        if position >= N:
            self.state, self.expected = LoaderState(begun.epoch + 1), (begun.epoch + 1, 0)
        else:
            self.state, self.expected = LoaderState(begun.epoch, position), (begun.epoch + 1, 0)

    @rule()
    def stop_at_len_without_stop_iteration(self) -> None:
        begun = self.state.begin()
        self.state, self.expected = LoaderState(begun.epoch, N), (begun.epoch + 1, 0)

    @rule(epoch=epochs)
    def set_epoch(self, epoch: int) -> None:
        kept = self.state.loaded and self.state.epoch == epoch
        self.state, self.expected = self.state.at_epoch(epoch), self.expected if kept else (epoch, 0)

    @rule(epoch=epochs, position=st.integers(0, N))
    def load(self, epoch: int, position: int) -> None:
        self.state, self.expected = LoaderState(epoch, position, loaded=True), (epoch, position)

    @invariant()
    def begins_where_expected(self) -> None:
        begun = self.state.begin()
        assert (begun.epoch, begun.position) == self.expected
        assert not begun.loaded


TestTraining = Training.TestCase
TestTraining.settings = settings(max_examples=tries(30, 1500), stateful_step_count=20, deadline=None)


@given(st.integers(-(2**40), 2**40))
def test_an_epoch_that_streams_cannot_tell_apart_is_refused(epoch: int) -> None:
    if 0 <= epoch < 2**32:
        assert LoaderState().at_epoch(epoch).epoch == epoch
    else:
        with pytest.raises(OptionError, match="Invalid epoch"):
            LoaderState().at_epoch(epoch)


@pytest.mark.parametrize("saved", [{}, {"format": "wdsremux.loader", "version": 1}, {"model": 1}])
def test_what_is_no_state_is_refused(saved: dict[str, Any]) -> None:
    with pytest.raises(StateError, match="not a state of a wdsremux"):
        load(saved, {})


@pytest.mark.parametrize("key", ["epoch", "position"])
@pytest.mark.parametrize("wrong", ["1", 1.5, 3.0, None, True, np.True_, b"1", [1], np.arange(3)], ids=repr)
def test_a_place_that_is_no_integer_is_refused(key: str, wrong: Any) -> None:
    saved = LoaderState(3, 4).dump({"samples": 9}) | {key: wrong}
    said = rf"^Invalid {key} of the state \(got {re.escape(repr(wrong))}\)\. Supported: an integer\. Load what"
    with pytest.raises(StateError, match=said):
        load(saved, {"samples": 9})


def test_numpys_integers_become_ints() -> None:
    found = load(LoaderState(3, 4).dump({"samples": 9}) | {"epoch": np.int64(3)}, {"samples": 9})
    assert (found, type(found.epoch)) == (LoaderState(3, 4, loaded=True), int)


def test_a_later_version_is_refused() -> None:
    saved = LoaderState(3, 4).dump({}) | {"version": 2}
    with pytest.raises(StateError, match=r"^Invalid format of the state \(got "):
        load(saved, {})
