"""Use wdsremux with the Trainer of Hugging Face transformers: two methods return the loader.

    python scripts/with_transformers.py OUT
    torchrun --nproc-per-node 8 scripts/with_transformers.py OUT

Models of transformers expect dictionaries, so `Dicts` converts each batch into one. Do not pass the loader itself as a
data set, because the Trainer would index it. The Trainer calls `set_epoch` before each epoch. On several ranks, the
last batches of an evaluation may differ by one sample: `prediction_step` fills them up with samples that are not
counted. To resume, the Trainer would skip batches by building a DataLoader of torch. `ignore_data_skip=True` prevents
this, and the state of the loader is saved in the folder of the checkpoint instead.

Needs `pip install ".[examples]"`.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import wdsremux

FILLED = -100  #: the label of what is no sample


class Dicts:
    """A loader whose batches are dictionaries. In all other respects it is the loader itself."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return ({"pixel_values": images, "labels": labels} for images, labels in self._loader)

    def __getattr__(self, name: str) -> Any:  # dataset, batch_size, set_epoch, …
        if name == "_loader":  # of a copy that is being made: it has nothing yet
            raise AttributeError(name)
        return getattr(self._loader, name)


class LoaderTrainer(Trainer):
    """A Trainer that receives loaders as data sets."""

    def get_train_dataloader(self) -> Any:
        return self.train_dataset

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return self.eval_dataset if eval_dataset is None else eval_dataset

    def prediction_step(self, *args: Any, **options: Any) -> tuple[Any, ...]:
        loss, logits, labels = super().prediction_step(*args, **options)
        return loss, *(self.accelerator.pad_across_processes(t, dim=0, pad_index=FILLED) for t in (logits, labels))


class KeepPlace(TrainerCallback):
    """Save the state of the loader in each checkpoint."""

    def on_save(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / "loader.json").write_text(json.dumps(train_dataloader.state_dict()))


def accuracy(predicted: Any) -> dict[str, float]:
    """Return the accuracy of logits, float32 [N, classes], for label ids, int64 [N], over all ranks."""
    true = predicted.label_ids != FILLED
    named = predicted.predictions.argmax(axis=1)
    return {"accuracy": float((named == predicted.label_ids)[true].mean()), "samples": int(true.sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train with transformers on a converted set.")
    parser.add_argument("out", metavar="OUT", help="converted set with the splits train and test")
    parser.add_argument("--epochs", type=int, default=2, help="number of epochs to train (default: 2)")
    parser.add_argument("--batch-size", type=int, default=32, help="samples per batch, on each rank (default: 32)")
    parser.add_argument("--folder", default="build/transformers", help="folder for checkpoints")
    parser.add_argument("--cpu", action="store_true", help="train on the CPU")
    parser.add_argument("--save-steps", type=float, default=500, help="steps between two checkpoints (default: 500)")
    parser.add_argument("--resume", action="store_true", help="resume from the last checkpoint in the folder")
    options = parser.parse_args()

    arguments = TrainingArguments(
        output_dir=options.folder,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        learning_rate=2e-3,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_steps=options.save_steps,
        ignore_data_skip=True,  # the loader's own state does it
        average_tokens_across_devices=False,  # ranks have batches of one size; image models know no token counts
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to="none",
        use_cpu=options.cpu,
    )
    common: dict[str, Any] = {"batch_size": options.batch_size, "size": 96, "device": arguments.device}
    train = wdsremux.DataLoader(options.out, split="train", **common)
    test = wdsremux.DataLoader(options.out, split="test", augment="eval", shuffle=False, **common)
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128],
        depths=[1, 1, 1],
        layer_type="basic",
        num_labels=train.num_classes,  # type: ignore[call-arg]  # of every configuration; the stub lacks it
    )
    trainer = LoaderTrainer(
        model=ResNetForImageClassification(config),
        args=arguments,
        train_dataset=Dicts(train),
        eval_dataset=Dicts(test),
        compute_metrics=accuracy,
        callbacks=[KeepPlace()],
    )
    last = get_last_checkpoint(options.folder) if options.resume else None
    if last:
        train.load_state_dict(json.loads((Path(last) / "loader.json").read_text()))
    trainer.train(resume_from_checkpoint=last)


if __name__ == "__main__":
    main()
