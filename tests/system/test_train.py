"""scripts/train.py as a user runs it: it learns, cannot learn from shuffled labels, and survives a kill to the bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import train
from ranks import joined
from train import learning_rate

from tests.support.launch import output, start, weights

pytestmark = pytest.mark.system


def accuracy(text: str) -> float:
    found = re.search(r"test accuracy: ([\d.]+)", text)
    assert found is not None, text
    return float(found[1])


def losses(text: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"epoch \d+: loss ([\d.]+)", text)]


def test_learns_from_true_labels_only(converted: Path, tmp_path: Path) -> None:
    common = (converted, "--batch-size", 32)
    true = output("train", *common, "--epochs", 12, "--checkpoint", tmp_path / "true.pt")
    shuffled = output("train", *common, "--epochs", 3, "--shuffle-labels", "--checkpoint", tmp_path / "shuffled.pt")
    assert accuracy(true) >= 0.85  # 300 pictures; the whole sample gives more than 0.95
    assert accuracy(shuffled) <= 0.35  # ten classes of one photograph each: chance comes in steps of a tenth
    assert (
        len(re.findall(r"epoch \d+: loss [\d.]+\n  Bottleneck: .* 288 images, .* [\d.]+% was spent waiting", true))
        == 12
    )


def test_killed_in_mid_epoch_ends_with_the_same_weights(converted: Path, tmp_path: Path) -> None:
    common = (converted, "--batch-size", 32, "--epochs", 2, "--checkpoint-every", 4, "--checkpoint")
    undisturbed = output("train", *common, tmp_path / "a.pt")
    killed = start("train", *common, tmp_path / "b.pt", watch=tmp_path / "watch", kill="0:15")
    assert killed.returncode == -9
    resumed = output("train", *common, tmp_path / "b.pt", "--resume")
    assert "at epoch 1, sample 128\n" in resumed  # 15 batches: nine, and four that the checkpoint knows of
    assert weights(resumed) == weights(undisturbed)


def test_goes_on_with_another_batch_size_and_refuses_another_rate(converted: Path, tmp_path: Path) -> None:
    common = (converted, "--checkpoint", tmp_path / "c.pt", "--epochs", 2, "--checkpoint-every", 2, "--resume")
    killed = start("train", *common, "--batch-size", 50, watch=tmp_path / "watch", kill="0:9")
    assert killed.returncode == -9
    assert "at epoch 1, sample 100\n" in output("train", *common, "--batch-size", 40)
    refused = start("train", *common, "--lr", 0.1)
    assert refused.returncode == 1
    wanted = f"error: {tmp_path / 'c.pt'} was saved with other options: --lr 0.002. Use the same options, or leave out"
    assert refused.stderr == f"{wanted} --resume.\n"


def test_mixed_precision_learns_too(converted: Path, tmp_path: Path) -> None:
    common = (converted, "--batch-size", 32, "--epochs", 2, "--checkpoint")
    single = output("train", *common, tmp_path / "single.pt")
    mixed = output("train", *common, tmp_path / "mixed.pt", "--amp")
    assert weights(mixed) != weights(single)
    assert losses(mixed) == pytest.approx(losses(single), rel=0.1)
    assert losses(mixed)[1] < losses(mixed)[0]
    saved = torch.load(tmp_path / "mixed.pt", weights_only=True)
    assert {value.dtype for value in saved["model"].values()} == {torch.float32, torch.int64}


def in_process(*arguments: object) -> None:
    """Where something of it was replaced."""
    options = train.parse(["--device", "cpu", "--threads", "1", *map(str, arguments)])
    with joined(options.device) as place:
        train.run(options, place)


def test_float16_scales_its_loss_and_resumes_to_the_bit(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a GPU before Ampere, stopped in its second epoch."""
    monkeypatch.setattr("train.half_type", lambda device: torch.float16)
    common = (converted, "--amp", "--batch-size", 32, "--size", 32, "--epochs", 2, "--checkpoint-every", 4)
    in_process(*common, "--checkpoint", tmp_path / "whole.pt")
    undisturbed = weights(capsys.readouterr().out)
    with monkeypatch.context() as stopped:
        stopped.setattr("train.SampleLog.note", stop_at(15))
        with pytest.raises(KeyboardInterrupt):
            in_process(*common, "--checkpoint", tmp_path / "broken.pt")
    in_process(*common, "--checkpoint", tmp_path / "broken.pt", "--resume")
    resumed = capsys.readouterr().out
    assert "at epoch 1, sample 128\n" in resumed
    assert weights(resumed) == undisturbed
    whole, broken = (torch.load(tmp_path / name, weights_only=True)["scaler"] for name in ("whole.pt", "broken.pt"))
    assert whole == broken
    assert whole["_growth_tracker"] > 9  # steps without an overflow, on both sides of the break
    assert all(loss < 3 for loss in losses(resumed))


def stop_at(step: int) -> Any:
    """A `SampleLog.note` that ends the run there."""
    seen = []

    def note(*_: object) -> None:
        seen.append(0)
        if len(seen) == step:
            raise KeyboardInterrupt

    return note


def test_a_checkpoint_without_a_scaler_is_resumed(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an older version, or begun on a GPU that has bfloat16."""
    common = (converted, "--amp", "--batch-size", 64, "--size", 32, "--checkpoint", tmp_path / "a.pt")
    in_process(*common, "--epochs", 1)
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    assert saved.pop("scaler") == {}
    torch.save(saved, tmp_path / "a.pt")
    monkeypatch.setattr("train.half_type", lambda device: torch.float16)
    in_process(*common, "--epochs", 1, "--resume")  # one epoch: all that is left is to evaluate


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_float16_is_for_gpus_without_bfloat16(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert train.half_type(torch.device("cuda", 0)) == dtype
    assert train.half_type(torch.device("cpu")) == torch.bfloat16


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(share / 100, 2e-3) for share in range(101)]
    assert rates[10] == max(rates) == 2e-3
    assert rates[5] == pytest.approx(1e-3)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-12)
