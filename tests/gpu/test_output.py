"""What comes out on a GPU: device, dtype, layout, labels; it trains a network, and outlives its loader."""

from __future__ import annotations

import gc
import math
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.machine import Machine, Way, epochs
from wdsremux.loading.output import DTYPES, LAYOUTS


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_device_dtype_layout_and_labels(
    machine: Machine, way: Way, converted: Path, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    options = {"split": "test", "tail": "even", "fields": ("image", "label", "id")}
    with machine.loader(converted, way, 25, dtype=dtype, memory_format=layout, **options) as loader:
        batches = list(loader)
        targets = torch.tensor(loader.dataset.targets)
    assert [len(images) for images, _, _ in batches] == [25, 25, 10]
    for images, labels, ids in batches:
        assert images.shape[1:] == (3, 96, 96)
        assert (images.device, images.dtype) == (machine.device, dtype)
        assert images.is_contiguous(memory_format=layout)
        assert not images.requires_grad
        assert bool(images.isfinite().all())
        assert (labels.device, labels.dtype) == (machine.device, torch.int64)
        assert torch.equal(labels.cpu(), targets[ids])


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16], ids=str)
def test_a_network_trains_on_it_in_mixed_precision(
    machine: Machine, way: Way, converted: Path, autocast: torch.dtype
) -> None:
    """On a stream of the caller's, channels_last, with images in the precision that autocast multiplies in."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 5, 4), nn.ReLU(), nn.Conv2d(16, 16, 3, 4), nn.Flatten(), nn.Linear(576, 10)
    )
    network = network.to(machine.device).to(memory_format=torch.channels_last)
    machine.wait()
    options = {"dtype": autocast, "memory_format": torch.channels_last}
    optimiser = torch.optim.SGD(network.parameters(), 0.05)
    losses = []
    with machine.loader(converted, way, 25, **options) as loader, machine.stream():
        for images, labels in islice(epochs(loader, 4), machine.times(48, 3)):
            with torch.autocast(machine.device.type, dtype=autocast):
                loss = nn.functional.cross_entropy(network(images).float(), labels)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            losses.append(float(loss.detach()))
        machine.wait()
    assert all(map(math.isfinite, losses))
    assert min(losses[1:]) < losses[0]


def test_images_outlive_their_loader(machine: Machine, way: Way, converted: Path) -> None:
    loader = machine.loader(converted, way, 20, split="test", dtype=torch.uint8, augment="eval")
    kept = [images for images, _ in loader]
    copies = [images.cpu().clone() for images in kept]
    loader.close()
    del loader
    gc.collect()
    with machine.loader(converted, way, 20) as other:
        for _ in other:
            machine.churn()
    machine.wait()
    assert all(torch.equal(images.cpu(), copy) for images, copy in zip(kept, copies, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two CUDA devices")
def test_the_second_of_two_devices(way: Way, converted: Path) -> None:
    """Without a change of the caller's current device; the same images as on the first."""
    options = {"split": "test", "dtype": torch.uint8, "augment": "eval"}
    found = []
    for number in (0, 1):
        with Machine(torch.device("cuda", number)).loader(converted, way, 20, **options) as loader:
            batches = list(loader)
        assert {tensor.device.index for batch in batches for tensor in batch} == {number}
        found.append(torch.cat([images.cpu() for images, _ in batches]))
    assert torch.cuda.current_device() == 0
    assert (found[0].int() - found[1].int()).abs().max() <= 1
