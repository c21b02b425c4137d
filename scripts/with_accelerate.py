"""Use wdsremux with Accelerate: `prepare` the model and the optimizer, but not the loader.

    python scripts/with_accelerate.py OUT
    accelerate launch --num-processes 8 scripts/with_accelerate.py OUT

`prepare` divides and moves batches only for torch's own DataLoader. It returns this loader unchanged, because
the loader knows its rank and places images and labels on the device itself. This has the following consequences:

- To evaluate, add up counts with `reduce`. `gather_for_metrics` does not know where the last batch ends.
- Do not `prepare` the scheduler. A prepared scheduler takes one step for each process, but the length of this loader
  is already that of one rank.
- `accumulate` works: it knows when an epoch of this loader ends.
- `split_batches` and `dispatch_batches` have no effect: `batch_size` is the number of samples on each rank.
- `skip_first_batches` raises an error. To resume, load the state of the loader.

Needs `pip install ".[examples]"`.
"""

import argparse
from typing import Any

import torch
from accelerate import Accelerator
from small_network import network
from torch.nn.functional import cross_entropy

import wdsremux


@torch.inference_mode()
def accuracy(accelerator: Accelerator, model: torch.nn.Module, loader: Any) -> float:
    """Return the accuracy on the split. Without shuffling, each sample is returned exactly once over all ranks."""
    model.eval()
    counts = torch.zeros(2, dtype=torch.int64, device=accelerator.device)
    for images, labels in loader:
        right = (model(images).argmax(dim=1) == labels).sum()
        counts += torch.stack([right, right.new_tensor(len(labels))])
    correct, seen = accelerator.reduce(counts, "sum").tolist()
    return float(correct / seen)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train with Accelerate on a converted set.")
    parser.add_argument("out", metavar="OUT", help="converted set with the splits train and test")
    parser.add_argument("--epochs", type=int, default=2, help="number of epochs to train (default: 2)")
    parser.add_argument("--batch-size", type=int, default=32, help="samples per batch, on each rank (default: 32)")
    parser.add_argument("--cpu", action="store_true", help="train on the CPU")
    options = parser.parse_args()

    accelerator = Accelerator(cpu=options.cpu)
    common: dict[str, Any] = {"batch_size": options.batch_size, "size": 96, "device": accelerator.device}
    train = wdsremux.DataLoader(options.out, split="train", **common)
    test = wdsremux.DataLoader(options.out, split="test", augment="eval", shuffle=False, **common)
    bare = network(train.num_classes)
    model, optimiser = accelerator.prepare(bare, torch.optim.AdamW(bare.parameters(), lr=2e-3))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=options.epochs * len(train))
    accelerator.register_for_checkpointing(train, schedule)  # for save_state and load_state

    for epoch in range(train.epoch, options.epochs):  # 0, or the epoch of what load_state has loaded
        train.set_epoch(epoch)
        model.train()
        losses = []
        for images, labels in train:
            loss = cross_entropy(model(images), labels)
            accelerator.backward(loss)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            losses.append(loss.detach())
        mean = accelerator.reduce(torch.stack(losses).mean(), "mean")
        accelerator.print(f"epoch {epoch + 1}: loss {mean:.4f}")
    accelerator.print(f"test accuracy: {accuracy(accelerator, bare, test):.4f}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
