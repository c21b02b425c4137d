"""All ranks take equal steps, and a step's positions are dealt out exactly once, whatever ranks and batches do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import assume, example, given, reject, settings
from hypothesis import strategies as st

from tests.support.soak import tries
from wdsremux.errors import OptionError
from wdsremux.loading.order import Step, Steps, deal, steps

LAW = settings(max_examples=tries(150, 7500), deadline=None)
TAILS = ("drop", "even")


@dataclass(frozen=True)
class Run:
    """A rest of an epoch and who goes through it."""

    start: int
    nsamples: int
    batch: int
    world: int
    lanes: int = 1

    @property
    def full(self) -> int:
        return self.batch * self.world

    @property
    def possible(self) -> bool:
        """Whether the rest can be dealt so that each rank has a sample in each step."""
        left = self.nsamples - self.start
        return left % self.world == 0 if self.batch == 1 else left >= self.world or left == 0

    def steps(self, tail: str) -> Steps:
        """Those that are; where nothing but an error is due, it comes, and the example ends."""
        enough = self.possible if tail == "even" else self.nsamples >= self.full
        if self.start == 0 and not enough:
            with pytest.raises(
                OptionError,
                match=rf"^the (samples \({self.nsamples}\)|split has too few samples .*: {self.nsamples},) ",
            ):
                steps(0, self.nsamples, self.batch, self.world, tail)
            reject()
        return steps(self.start, self.nsamples, self.batch, self.world, tail)

    def dealt(self, step: Step) -> list[list[int]]:
        return [deal(step, self.lanes, rank, self.world).tolist() for rank in range(self.world)]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    nsamples = draw(st.integers(1, 400))
    start = draw(st.just(0) | st.integers(0, nsamples))
    return Run(start, nsamples, draw(st.integers(1, 20)), draw(st.integers(1, 12)), draw(st.integers(1, 12)))


@LAW
@given(runs(), st.sampled_from(TAILS))
@example(Run(0, 17, 4, 4, 1), "even")  # one sample is left over: the last two steps take 15 - … and 4
@example(Run(0, 3, 1, 3, 3), "even")
@example(Run(5, 6, 1, 2, 2), "even")  # fewer samples than ranks
def test_a_step_is_dealt_out_whole_and_evenly(run: Run, tail: str) -> None:
    for step in run.steps(tail):
        dealt = run.dealt(step)
        repeated = [step.start + i % step.size for i in range(step.repeats)]
        expected = [*range(step.start, step.start + step.size), *repeated]
        assert sorted(p for positions in dealt for p in positions) == sorted(expected)
        sizes = [len(positions) for positions in dealt]
        assert max(sizes) <= run.batch
        team = run.world // run.lanes if run.world % run.lanes == 0 and not step.repeats else run.world
        for first in range(0, run.world, team):
            assert max(sizes[first : first + team]) - min(sizes[first : first + team]) <= 1
        if len(expected) == run.full:
            assert sizes == [run.batch] * run.world


@LAW
@given(runs())
@example(Run(0, 17, 4, 4, 1))
@example(Run(0, 6, 1, 3, 1))
@example(Run(0, 4, 4, 4, 1))
def test_even_takes_every_sample_once_and_gives_every_rank_some(run: Run) -> None:
    todo = list(run.steps("even"))
    assert all(step.size == run.full for step in todo[:-2])
    seen: Counter[int] = Counter()
    for step in todo:
        dealt = run.dealt(step)
        assert min(map(len, dealt)) >= 1
        for positions in dealt:
            seen.update(positions)
    assert set(seen) == set(range(run.start, run.nsamples))
    assert sum(seen.values()) - len(seen) == sum(step.repeats for step in todo)
    if run.possible:
        assert set(seen.values()) <= {1}


@LAW
@given(runs())
def test_even_needs_no_more_steps_than_drop_and_one(run: Run) -> None:
    assert len(run.steps("even")) == -(-(run.nsamples - run.start) // run.full)


@LAW
@given(runs())
def test_drop_takes_full_steps_only(run: Run) -> None:
    todo = run.steps("drop")
    assert [(step.start, step.size, step.repeats) for step in todo] == [
        (run.start + i * run.full, run.full, 0) for i in range((run.nsamples - run.start) // run.full)
    ]


@LAW
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 8), st.integers(0, 300), st.integers(1, 300))
def test_a_rank_stays_in_its_own_lane(lanes: int, team: int, batch: int, start: int, left: int) -> None:
    """Where lanes divide the ranks: in every step, tail or not, and resumed anywhere."""
    run = Run(start, start + left, batch, lanes * team, lanes)
    for step in run.steps("even"):
        if not step.repeats:
            for rank, positions in enumerate(run.dealt(step)):
                assert {p % lanes for p in positions} == {rank // team}


@LAW
@given(st.integers(2, 6), st.integers(1, 7), st.integers(1, 8))
def test_lanes_that_do_not_divide_the_ranks_are_cut_in_order(lanes: int, world: int, batch: int) -> None:
    """A rank then reads neighbouring lanes: no lane comes back in a later rank once it has been left."""
    assume(world % lanes)
    run = Run(0, batch * world, batch, world, lanes)
    (step,) = run.steps("even")
    read = [(p % lanes, p) for positions in run.dealt(step) for p in positions]
    assert read == sorted(read)


def test_within_a_lane_the_order_is_kept_in_large_steps_too() -> None:
    """Sorts of a few numbers keep the order anyhow."""
    positions = deal(Step(0, 5_000), 3, 0, 2)
    assert positions.tolist() == sorted(positions.tolist(), key=lambda p: (p % 3, p))


changes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4)), max_size=8)


@LAW
@given(st.integers(1, 500), st.integers(1, 4), changes, st.sampled_from(TAILS))
@example(100, 1, [(5, 4, 2)], "even")
def test_ranks_and_batches_may_change_in_mid_epoch(
    nsamples: int, lanes: int, changes: list[tuple[int, int, int]], tail: str
) -> None:
    """No sample is lost, and none comes twice but where the rest of an epoch has too few for all ranks."""
    seen: Counter[int] = Counter()
    position, repeats = 0, 0
    for batch, world, count in [*changes, (4, 3, nsamples)]:
        run = Run(position, nsamples, batch, world, lanes)
        for step in list(run.steps(tail))[:count]:
            assert step.start == position
            for positions in run.dealt(step):
                seen.update(positions)
            position, repeats = step.start + step.size, repeats + step.repeats
    assert set(seen) == set(range(position))
    assert sum(seen.values()) == position + repeats
    if tail == "even":
        assert position == nsamples
        assert repeats <= 11  # of the one last step
    else:
        assert repeats == 0
        assert nsamples - position < 12


@pytest.mark.parametrize(("nsamples", "batch", "world"), [(3, 8, 4), (1, 1, 2), (7, 1, 2)])
def test_what_cannot_be_dealt(nsamples: int, batch: int, world: int) -> None:
    """One sentence at the start of an epoch; in a resume some of the rest come twice."""
    said = (
        rf"^the samples \({nsamples}\) cannot be divided so that each rank gets one in every step "
        rf"\(batch_size={batch}, world_size={world}\)\. Use fewer ranks, or a batch_size of more than 1$"
    )
    with pytest.raises(OptionError, match=said):
        steps(0, nsamples, batch, world, "even")
    *_, last = steps(10, 10 + nsamples, batch, world, "even")
    dealt = [deal(last, 1, rank, world).tolist() for rank in range(world)]
    assert [len(positions) for positions in dealt] == [1] * world
    assert {p for positions in dealt for p in positions} == set(range(last.start, 10 + nsamples))


def test_a_set_smaller_than_a_global_batch_is_not_dropped_whole() -> None:
    said = (
        r"^the split has too few samples for one full step: 7, where batch_size=4 and world_size=2 need 8\. "
        r'Choose a smaller batch_size, or tail="even"$'
    )
    with pytest.raises(OptionError, match=said):
        steps(0, 7, 4, 2, "drop")
    assert len(steps(93, 100, 4, 2, "drop")) == 0  # the rest of an epoch may be


@pytest.mark.parametrize(
    ("nsamples", "sizes"),
    [
        (48, [16, 16, 16]),
        (40, [16, 16, 8]),
        (36, [16, 16, 4]),
        (35, [16, 15, 4]),  # 3 left for 4 ranks: one is kept back from the step before
        (33, [16, 13, 4]),
        (17, [13, 4]),
        (5, [5]),
    ],
)
def test_tails_by_example(nsamples: int, sizes: list[int]) -> None:
    """Batches of 4 on 4 ranks."""
    assert [step.size for step in steps(0, nsamples, 4, 4, "even")] == sizes


def test_an_epoch_of_many_steps_is_no_list() -> None:
    todo = steps(0, 10**12, 1, 1, "even")
    assert len(todo) == 10**12
    assert todo[10**12 - 1] == Step(10**12 - 1, 1)
