"""The loader in others' trainers, as scripts/with_….py show it: two processes, nothing of it changed for them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

import wdsremux
from tests.conftest import TRAIN
from tests.support.launch import Seen, ids, output, seen, start

pytestmark = pytest.mark.system

BATCH = 15  #: on each of two ranks: ten steps of 30, nothing dropped
UNEVEN = 59  #: samples of the test split: in its last step the ranks have 15 and 14


@dataclass(frozen=True)
class Run:
    """What a run printed, and what its ranks were handed."""

    text: str
    lines: list[Seen]


@pytest.fixture(scope="module")
def uneven(converted: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The usual train split beside a test split that two ranks cannot share evenly."""
    out = tmp_path_factory.mktemp("uneven")
    shutil.copytree(converted / "train", out / "train")
    wdsremux.convert(sample, out, split="test", limit=UNEVEN, workers=1)
    return out


def run(script: str, *arguments: object, folder: Path, ranks: int) -> Run:
    """Two epochs."""
    text = output(script, *arguments, "--epochs", 2, "--batch-size", BATCH, ranks=ranks, watch=folder)
    return Run(text, seen(folder))


def losses(text: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"(?:loss |{'loss': ')([\d.]+)", text)]


def assert_each_sample_once(lines: Iterable[Seen]) -> None:
    """In both epochs of the train split, in another order each."""
    lines = list(lines)
    epochs = [ids(lines, "train", epoch) for epoch in range(2)]
    assert all(sorted(epoch) == list(range(TRAIN)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert {line.epoch for line in lines if line.split == "train"} == {0, 1}


def assert_evaluations(lines: Iterable[Seen], times: int) -> None:
    """The test split was gone through so often, each sample once each time."""
    seen_ids = [i for line in lines if line.split == "test" for i in line.ids]
    assert Counter(seen_ids) == dict.fromkeys(range(UNEVEN), times)


def assert_two_ranks_took_equal_steps(lines: Iterable[Seen]) -> None:
    steps: dict[str, list[int]] = {}
    for line in lines:
        if line.split == "train":
            steps.setdefault(line.process, []).append(line.position)
    first, second = steps.values()
    assert first == second == list(range(2 * BATCH, TRAIN + 1, 2 * BATCH)) * 2


def test_lightning(uneven: Path, tmp_path: Path) -> None:
    """Lightning starts the second process, and sets up ranks after the loader was made."""
    result = run("with_lightning", uneven, "--devices", 2, folder=tmp_path / "watch", ranks=0)
    assert_each_sample_once(result.lines)
    assert_evaluations(result.lines, times=3)  # the first is Lightning's trial of two batches, which is all there are
    assert_two_ranks_took_equal_steps(result.lines)
    first, second = losses(result.text)
    assert second < first


def test_accelerate(uneven: Path, tmp_path: Path) -> None:
    result = run("with_accelerate", uneven, "--cpu", folder=tmp_path / "watch", ranks=2)
    assert_each_sample_once(result.lines)
    assert_evaluations(result.lines, times=1)
    assert_two_ranks_took_equal_steps(result.lines)
    first, second = losses(result.text)
    assert second < first


def test_transformers(uneven: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trainer"
    result = run("with_transformers", uneven, "--cpu", "--folder", folder, folder=tmp_path / "watch", ranks=2)
    assert_each_sample_once(result.lines)
    assert_evaluations(result.lines, times=2)
    assert_two_ranks_took_equal_steps(result.lines)
    first, second = losses(result.text)
    assert second < first
    assert result.text.count(f"'eval_samples': {UNEVEN}") == 2  # one that is filled in does not count


def test_timm(uneven: Path, tmp_path: Path) -> None:
    result = run("with_timm", uneven, "--device", "cpu", folder=tmp_path / "watch", ranks=2)
    assert_each_sample_once(result.lines)
    assert_evaluations(result.lines, times=2)
    assert_two_ranks_took_equal_steps(result.lines)
    first, second = losses(result.text)
    assert second < first


@pytest.mark.parametrize(
    ("script", "options", "go_on"),
    [
        ("with_lightning", ("--devices", 1, "--checkpoint-every", 4, "--checkpoints"), ()),
        ("with_transformers", ("--cpu", "--save-steps", 4, "--folder"), ("--resume",)),
    ],
)
def test_killed_in_mid_epoch_each_sample_comes_once(
    uneven: Path, tmp_path: Path, script: str, options: tuple[object, ...], go_on: tuple[object, ...]
) -> None:
    """Steps of 30: ten an epoch. Of the 15 that were begun, the checkpoint knows twelve."""
    arguments = (uneven, "--epochs", 2, "--batch-size", 30, *options, tmp_path / "checkpoints")
    killed = start(script, *arguments, watch=tmp_path / "before", kill="0:15")
    assert killed.returncode == -9, killed.stderr
    output(script, *arguments, *go_on, watch=tmp_path / "after")
    before, after = seen(tmp_path / "before"), seen(tmp_path / "after")
    kept = [line for line in before if line.epoch == 0 or line.position <= 60]
    assert_each_sample_once(kept + after)
    assert min((line.epoch, line.position) for line in after if line.split == "train") == (1, 90)


ACCUMULATED = """
import sys, torch, wdsremux
from accelerate import Accelerator, skip_first_batches
from wdsremux.errors import StateError
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
layer = torch.nn.Linear(3, 2)
layer, optimiser, train = accelerator.prepare(
    layer, torch.optim.SGD(layer.parameters(), 0.1), wdsremux.DataLoader(sys.argv[1], 50, size=16)
)
test = wdsremux.DataLoader(sys.argv[1], 20, split="test", size=16, augment="eval", shuffle=False)
steps = []
for epoch in range(2):
    for images, labels in train:
        with accelerator.accumulate(layer):
            accelerator.backward(layer(images.mean((2, 3))).sum())
            steps.append(accelerator.sync_gradients)
        for _ in test:  # a loop within
            pass
    assert not accelerator.gradient_state.in_dataloader
print(steps)
print(sum(len(accelerator.gather_for_metrics(labels)) for _, labels in test))
for rebuild in (lambda: skip_first_batches(train, 2), lambda: accelerator.prepare_data_loader(train)):
    try:
        rebuild()
    except StateError as error:
        print(error)
train.close(), test.close()
"""


def test_accelerate_s_accumulation_ends_with_the_epoch(uneven: Path) -> None:
    """Of 6 batches, accumulated by 4, the last 2 make a step, too, as they do with torch's loader."""
    text = called(ACCUMULATED, uneven)
    steps, count, *refused = text.splitlines()
    assert steps == str([False, False, False, True, False, True] * 2)
    assert int(count) == UNEVEN
    assert len(refused) == 2
    assert all(
        "cannot be rebuilt as a torch DataLoader" in line and "call load_state_dict()" in line for line in refused
    )


OVERFIT = """
import sys, torch, lightning, wdsremux

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(3, 2), []
    def training_step(self, batch, _):
        self.seen.append(batch[1].tolist())
        return self.layer(batch[0].mean((2, 3))).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

model = Model()
with wdsremux.DataLoader(sys.argv[1], 50, size=16, shuffle=False) as loader:
    trainer = lightning.Trainer(max_epochs=3, overfit_batches=2, accelerator="cpu", logger=False,
                                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(model, loader)
    assert sum(len(labels) for _, labels in loader) == len(loader.dataset)  # Lightning has let go of it
print(len(model.seen), model.seen[0::2] == [model.seen[0]] * 3, model.seen[1::2] == [model.seen[1]] * 3)
"""


def test_lightning_overfits_the_first_batches(uneven: Path) -> None:
    """Of a loader that does not shuffle: it sees the same two in each epoch."""
    assert called(OVERFIT, uneven).splitlines()[-1] == "6 True True"


def test_lightning_overfits_no_loader_that_shuffles(uneven: Path) -> None:
    """It would make another of it, and asks nothing of ours before it says so; the pages have the way out."""
    fit = "    trainer.fit(model, loader)\n"
    assert fit in OVERFIT
    code = OVERFIT.replace("shuffle=False", "shuffle=True").replace(
        fit, f"    try:\n    {fit}    except ValueError as error:\n        sys.exit(print(error))\n"
    )
    said = called(code, uneven).splitlines()[-1]
    page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith("| Lightning says") and "overfit_batches" in line)
    assert said.endswith("needs to subclass `torch.utils.data.DataLoader`")
    assert "needs to subclass `torch.utils.data.DataLoader`" in row
    assert "`shuffle=False`" in row


COPIED = """
import copy, pickle, sys, wdsremux
sys.path.insert(0, sys.argv[2])
from with_transformers import Dicts
with wdsremux.DataLoader(sys.argv[1], 50, size=16) as loader:
    for made in (copy.copy(Dicts(loader)), copy.deepcopy(Dicts(loader)), pickle.loads(pickle.dumps(Dicts(loader)))):
        print(len(made), made.batch_size)
"""


def test_the_wrapper_of_the_example_can_be_copied(uneven: Path) -> None:
    scripts = Path(__file__).parents[2] / "scripts"
    assert called(COPIED, uneven, scripts).splitlines() == ["6 50"] * 3


def called(code: str, *arguments: object) -> str:
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
