"""wdsremux in Lightning: the loader goes in unchanged.

    python scripts/with_lightning.py OUT                  # all GPUs, or one CPU process
    python scripts/with_lightning.py OUT --devices 2      # two processes, which Lightning starts

Lightning replaces the sampler of torch's own DataLoader only, and calls `loader.sampler.set_epoch` before each
epoch. The loader asks for its rank when the first batch is wanted, when Lightning has set it up: so do not call
`len(loader)` before `fit`. A checkpoint holds the loader's state beside the rest, and a run resumed in mid-epoch
sees the samples that were left.

Needs `pip install ".[examples]"`.
"""

import argparse
from typing import Any

import lightning
import torch
from small_network import class_count, network
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

import wdsremux


class Classifier(lightning.LightningModule):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.model = network(classes)
        self.loss = MeanMetric()  # weighed by images and summed over ranks; so is the accuracy
        self.accuracy = MulticlassAccuracy(classes, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        loss = cross_entropy(self.model(images), labels)
        self.loss.update(loss.detach(), len(images))
        return loss

    def on_train_epoch_end(self) -> None:
        self.print(f"epoch {self.current_epoch + 1}: loss {self.loss.compute():.4f}")
        self.loss.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        self.accuracy.update(self.model(images), labels)
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train with Lightning on a converted split.")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="samples of a step, on each rank")
    parser.add_argument("--devices", default="auto")
    parser.add_argument(
        "--checkpoints", default=None, metavar="FOLDER", help="write them here, and go on from the last"
    )
    parser.add_argument("--checkpoint-every", type=int, default=None, metavar="STEPS")
    options = parser.parse_args()

    train = wdsremux.DataLoader(options.out, options.batch_size, split="train", size=96)
    test = wdsremux.DataLoader(options.out, options.batch_size, split="test", augment="eval", shuffle=False, size=96)
    keep = lightning.pytorch.callbacks.ModelCheckpoint(
        options.checkpoints, every_n_train_steps=options.checkpoint_every, save_last=True
    )
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        devices=options.devices,
        logger=False,
        callbacks=[keep] if options.checkpoints else None,
        enable_checkpointing=options.checkpoints is not None,
        enable_progress_bar=False,
    )
    model = Classifier(class_count(train.dataset))
    trainer.fit(model, train_dataloaders=train, val_dataloaders=test, ckpt_path="last" if options.checkpoints else None)


if __name__ == "__main__":
    main()
