"""Use wdsremux with Lightning: pass the loader to the Trainer as it is.

    python scripts/with_lightning.py OUT                  # all GPUs, or one CPU process
    python scripts/with_lightning.py OUT --devices 2      # two processes, started by Lightning

Lightning replaces the sampler only for torch's own DataLoader, and calls `loader.sampler.set_epoch` before each
epoch. The loader determines its rank at the first batch, when Lightning has set up the process group. So do not call
`len(loader)` before `fit`. Checkpoints contain the state of the loader: a run that is resumed in the middle of an
epoch sees the samples that were left.

Needs `pip install ".[examples]"`.
"""

import argparse
from typing import Any

import lightning
import torch
from small_network import network
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
    parser = argparse.ArgumentParser(description="Train with Lightning on a converted set.")
    parser.add_argument("out", metavar="OUT", help="converted set with the splits train and test")
    parser.add_argument("--epochs", type=int, default=2, help="number of epochs to train (default: 2)")
    parser.add_argument("--batch-size", type=int, default=32, help="samples per batch, on each rank (default: 32)")
    parser.add_argument("--devices", default="auto", help="number of devices to train on (default: all)")
    parser.add_argument(
        "--checkpoints", default=None, metavar="FOLDER", help="save checkpoints here, and resume from the last one"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=None, metavar="STEPS", help="save a checkpoint every STEPS steps"
    )
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
    model = Classifier(train.num_classes)
    trainer.fit(model, train_dataloaders=train, val_dataloaders=test, ckpt_path="last" if options.checkpoints else None)


if __name__ == "__main__":
    main()
