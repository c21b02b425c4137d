"""GPU memory stays what it was, epoch after epoch; a second loader costs little more than its batches.

All of a GPU's memory is looked at, DALI's too, so nobody else may use the GPU meanwhile.
"""

from __future__ import annotations

from pathlib import Path

import torch

from tests.support.machine import Machine, Way

MB = 1 << 20
SLACK = 64 * MB  #: of the device's memory: allocators take it in pieces of 2 to 32 MB


def test_twenty_epochs_with_a_break_in_each(machine: Machine, way: Way, converted: Path) -> None:
    """As after the second: to a batch for torch's tensors, to some pieces for the whole device."""
    marks = []
    options = {"size": machine.times(224, 32), "dtype": torch.float16}
    with machine.loader(converted, way, 32, **options) as loader:
        for epoch in range(machine.times(20, 3)):
            for number, batch in enumerate(loader):
                del batch
                if number == 2 + epoch % 3:
                    break
            if epoch >= 1:
                marks.append((machine.allocated_bytes(), machine.used_bytes()))
    batch_bytes = 32 * 3 * 224 * 224 * 2
    (allocated, used), last = marks[0], marks[-1]
    assert last[0] <= allocated + batch_bytes, (
        f"torch's tensors, epoch by epoch: {[mark[0] // MB for mark in marks]} MB"
    )
    assert last[1] <= used + SLACK, f"the whole device, epoch by epoch: {[mark[1] // MB for mark in marks]} MB"


def test_a_closed_loader_gives_its_memory_back(machine: Machine, way: Way, converted: Path) -> None:
    """Over many loaders: what the first has left behind is all that is left behind."""
    marks = []
    for _ in range(machine.times(6, 2)):
        with machine.loader(converted, way, 32, size=machine.times(224, 32)) as loader:
            next(iter(loader))
        del loader
        marks.append((machine.allocated_bytes(), machine.used_bytes()))
    assert marks[-1][0] <= marks[0][0] + MB, (
        f"torch's tensors, loader by loader: {[mark[0] // MB for mark in marks]} MB"
    )
    assert marks[-1][1] <= marks[0][1] + SLACK, f"the whole device: {[mark[1] // MB for mark in marks]} MB"


def test_train_and_eval_side_by_side_share_their_decoder(machine: Machine, way: Way, converted: Path) -> None:
    """The second loader adds less than half of what the first took: its batches, not a decoder and its buffers."""
    options = {"size": machine.times(224, 32), "dtype": torch.uint8}
    with machine.loader(converted, way, 64, **options) as loader:  # what is loaded once, kernels and libraries
        next(iter(loader))
    del loader
    before = machine.used_bytes()
    with machine.loader(converted, way, 64, **options) as train:
        batches = iter(train)
        next(batches)
        alone = machine.used_bytes()
        with machine.loader(converted, way, 64, augment="eval", shuffle=False, tail="drop", **options) as evaluation:
            assert len(list(evaluation)) == 4
            both = machine.used_bytes()
        next(batches)
    first, second = alone - before, both - alone
    assert second <= first / 2 + SLACK, f"the first loader took {first // MB} MB, the second {second // MB} MB"
