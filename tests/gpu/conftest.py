"""Each test here runs on a GPU, marked `gpu`, and is rehearsed on the CPU, marked `system` as that takes a minute.

A rehearsal goes the ways of a GPU as far as they go on a CPU, by the same code and with small numbers. What would fail
anywhere is found there, so that whoever has a GPU finds only what a GPU does.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import wdsremux
from tests.conftest import needs
from tests.support.machine import Machine, Way
from wdsremux.loading.options import Options

WAYS = [Way(backend, decode) for backend in ("dali", "torchvision") for decode in ("gpu", "cpu")]


@pytest.fixture(scope="session", autouse=True)
def driver() -> None:
    """Files that the driver opens once are open before any test's own are counted."""
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.system)])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """What the test runs on."""
    if request.param == "cuda":
        return Machine(torch.device("cuda", torch.cuda.current_device()))
    monkeypatch.setattr(Options, "decoder", lambda options, _: options.decode)  # else a GPU cannot decode for a CPU
    return Machine(torch.device("cpu"))


@pytest.fixture(params=WAYS, ids="-".join)
def way(request: pytest.FixtureRequest) -> Way:
    """Each backend with each decoder; skips the test where its library cannot be loaded."""
    found: Way = request.param
    if found.backend == "dali":
        needs("nvidia.dali", "DALI")
    elif found.decode == "gpu":
        needs("torchcodec.decoders", "TorchCodec")
    return found


@pytest.fixture(scope="session")
def whole_chroma(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test split with as many colour values as pixels (4:4:4)."""
    out = tmp_path_factory.mktemp("whole-chroma")
    wdsremux.convert(sample, out, split="test", samples_per_shard=25, workers=2, subsampling="444")
    return out
