"""On a GPU: a damaged image is named, or skipped and counted; a decoder that fails is replaced by the CPU."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wdsremux
from tests.conftest import WriteSource, jpeg
from tests.support.batches import read_batches
from tests.support.machine import Machine, Way, epochs
from tests.support.splits import reseal
from wdsremux.errors import FormatError, ImageError
from wdsremux.format import samples
from wdsremux.loading import backends

PLAIN: dict[str, Any] = {"split": "test", "augment": "eval", "shuffle": False, "dtype": torch.uint8, "size": 72}
BAD = 17  #: the sample that is damaged


@pytest.fixture
def damaged(converted: Path, tmp_path: Path) -> Path:
    """A copy of the set in which text was written over one picture of the test split."""
    out = tmp_path / "damaged"
    shutil.copytree(converted, out)
    (batch,) = read_batches(converted / "test", [60])
    data = batch.encoded.image(BAD).tobytes()
    for shard in wdsremux.manifest(out, split="test").shards:
        path = out / "test" / shard.url
        content = path.read_bytes()
        if data in content:
            path.write_bytes(content.replace(data, (b"<html>404</html>" * len(data))[: len(data)]))
            return out
    raise AssertionError("no shard holds the picture")


def test_a_damaged_image_is_named(machine: Machine, way: Way, damaged: Path) -> None:
    """The batches before it come; after it, the process and the device can still be used."""
    seen: list[int] = []
    sentence = rf"sample {BAD}\b.*is damaged: its CRC-32 is wrong"
    with machine.loader(damaged, way, 8, **PLAIN) as loader, pytest.raises(FormatError, match=sentence):
        take(loader, seen)
    assert seen == [8, 8]
    with machine.loader(damaged, way, 8, **PLAIN | {"split": "train"}) as loader:
        images, _ = next(iter(loader))
        assert int(images.amax()) > 0


@pytest.mark.parametrize("since", [False, True], ids=["so written", "damaged since"])
def test_a_truncated_scan_is_named_or_skipped(
    machine: Machine, way: Way, write_source: WriteSource, tmp_path: Path, since: bool
) -> None:
    """Half of a picture is no picture, though a decoder can fill the rest with grey.

    Our converter refuses such a file; where a set has one so written, its CRC-32 is right, and the decoder must refuse
    it. Of one damaged since, no decoder has to notice what other bytes in its place come to, so the CRC-32 is asked.
    """
    out = tmp_path / "out"
    noise = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), np.uint8)
    source = write_source([jpeg(pixels) for pixels in noise], range(24))
    wdsremux.convert(source, out, recipe="copy", workers=1, samples_per_shard=24)
    truncate_scan(out, BAD, since)
    options = PLAIN | {"split": "train", "verify_crc": since, "fields": ("image", "id")}
    reason = "is damaged: its CRC-32 is wrong" if since else "cannot be decoded: damaged JPEG"
    error = FormatError if since else ImageError
    with machine.loader(out, way, 8, **options) as loader, pytest.raises(error, match=rf"sample {BAD}\b.*{reason}"):
        take(loader, [])
    with machine.loader(out, way, 8, on_error="skip", **options) as loader:
        seen = [sample_id for _, ids in loader for sample_id in ids.tolist()]
        assert sorted(seen) == sorted([*range(BAD), *range(BAD + 1, 24), BAD + 1])
        assert loader.stats().total.skipped == 1


def truncate_scan(out: Path, sample_id: int, since: bool) -> None:
    """Take the second half of a picture's scan, and all that follows, from the split "train".

    Args:
        out: the set.
        sample_id: which picture.
        since: whether the sample table is left as it was; else it is that of the shorter file.
    """
    folder = out / "train"
    table = np.load(folder / samples.NAME)
    row = table[sample_id]
    shard = folder / wdsremux.manifest(out, split="train").shards[int(row["shard"])].url
    content, start, size = shard.read_bytes(), int(row["offset"]), int(row["size"])
    picture = content[start : start + size]
    kept = picture[: (picture.index(b"\xff\xda") + size) // 2]
    shard.write_bytes(content[:start] + kept.ljust(size, b"\0") + content[start + size :])
    if not since:
        row["size"], row["crc32"] = len(kept), zlib.crc32(kept)
        np.save(folder / samples.NAME, table)
        reseal(folder)


def take(loader: wdsremux.DataLoader, seen: list[int]) -> None:
    for images, *_ in loader:
        seen.append(len(images))


def test_a_damaged_image_is_skipped(machine: Machine, way: Way, damaged: Path, converted: Path) -> None:
    """In every epoch, with the next good one of its batch in its place; all others are as in the sound set."""
    options = PLAIN | {"fields": ("image", "label", "id")}
    with machine.loader(converted, way, 8, **options) as loader:
        wanted = torch.cat([images.cpu() for images, _, _ in loader])
        targets = torch.tensor(loader.dataset.targets)
    with machine.loader(damaged, way, 8, on_error="skip", **options) as loader:
        for images, labels, ids in epochs(loader, 2):
            assert BAD not in ids.tolist()
            assert (images.cpu().short() - wanted[ids].short()).abs().max() <= 2
            assert torch.equal(labels.cpu(), targets[ids])
        assert loader.stats().total.skipped == 2


def test_a_decoder_that_works_is_taken_without_a_word(
    machine: Machine, way: Way, converted: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = _decoders_taken(monkeypatch)
    with machine.loader(converted, way, 8, **PLAIN) as loader:
        next(iter(loader))
    assert not recwarn.list
    assert taken == [way.decode]


@pytest.mark.parametrize("way", [Way("dali", "gpu"), Way("torchvision", "gpu")], ids="-".join, indirect=True)
def test_a_decoder_that_fails_is_replaced_with_one_warning(
    machine: Machine, way: Way, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the CPU's pictures come to the same device."""
    with machine.loader(converted, Way(way.backend, "cpu"), 8, **PLAIN) as loader:
        wanted = [images.cpu() for images, _ in loader]
    _break_decoder(way, monkeypatch)
    sentence = (
        r"^decoding on the GPU does not work on this machine, so images are decoded on the CPU: .*no engine today"
    )
    with machine.loader(converted, way, 8, **PLAIN) as loader, pytest.warns(UserWarning, match=sentence) as told:
        batches = list(loader)
    assert len(told) == 1
    assert {images.device for images, _ in batches} == {machine.device}
    assert all(torch.equal(images.cpu(), other) for (images, _), other in zip(batches, wanted, strict=True))


def _decoders_taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills with what decodes, once for each backend that is made."""
    real, taken = backends.find, list[str]()

    def find(name: str, device: torch.device) -> Any:
        plug = real(name, device)

        def noted(setup: Any) -> Any:
            taken.append(setup.decode)
            return plug(setup)

        return noted

    monkeypatch.setattr("wdsremux.loading.backends.trial.find", find)
    return taken


def _break_decoder(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no library, or no engine."""
    if way.backend == "torchvision":

        def decode_jpeg(*_: Any, **__: Any) -> Any:
            raise RuntimeError("no engine today")

        monkeypatch.setattr("torchcodec.decoders.decode_jpeg", decode_jpeg)
        return
    from wdsremux.loading.backends.dali_pipelines import Graph

    real = Graph.make

    def make(graph: Graph) -> Any:
        if graph.gpu_decodes:
            raise RuntimeError("no engine today")
        return real(graph)

    monkeypatch.setattr(Graph, "make", make)
