"""wdsremux in Accelerate: model and optimiser go through `prepare`, the loader need not.

    python scripts/with_accelerate.py OUT
    accelerate launch --num-processes 8 scripts/with_accelerate.py OUT

`prepare` re-shards and moves batches for torch's own DataLoader only. This loader is given back as it is, which is
right: it knows its rank, and puts images and labels on the device itself. Two things follow.
`gather_for_metrics` cannot know where the last batch ends, and need not: sum counts with `reduce`. And a prepared
scheduler takes a step for each process, which is meant for loaders that `prepare` has cut into shares; the length of
this one is that of a share already, so leave the scheduler out of `prepare`. `accumulate` knows when an epoch of this
loader ends. `split_batches` and `dispatch_batches` are about torch's loader and change nothing here: `batch_size` is
of each process. `skip_first_batches` would rebuild a loader of torch's, and is refused: the loader's own state resumes.

Needs `pip install ".[examples]"`.
"""

import argparse
from typing import Any

import torch
from accelerate import Accelerator
from small_network import class_count, network
from torch.nn.functional import cross_entropy

import wdsremux


@torch.inference_mode()
def accuracy(accelerator: Accelerator, model: torch.nn.Module, loader: Any) -> float:
    """Of the whole split; the tail of an unshuffled loader is dealt so that each sample counts once over all ranks."""
    model.eval()
    counts = torch.zeros(2, dtype=torch.int64, device=accelerator.device)
    for images, labels in loader:
        right = (model(images).argmax(dim=1) == labels).sum()
        counts += torch.stack([right, right.new_tensor(len(labels))])
    correct, seen = accelerator.reduce(counts, "sum").tolist()
    return float(correct / seen)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train with Accelerate on a converted split.")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="samples of a step, on each rank")
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()

    accelerator = Accelerator(cpu=options.cpu)
    common: dict[str, Any] = {"batch_size": options.batch_size, "size": 96, "device": accelerator.device}
    train = wdsremux.DataLoader(options.out, split="train", **common)
    test = wdsremux.DataLoader(options.out, split="test", augment="eval", shuffle=False, **common)
    bare = network(class_count(train.dataset))
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
