"""Use wdsremux with timm's models, optimizers, schedulers and meters, in a loop like that of timm's train.py.

    python scripts/with_timm.py OUT --device cpu
    torchrun --nproc-per-node 8 scripts/with_timm.py OUT

In timm's own train.py, replace the call of `create_loader` by `wdsremux.DataLoader(…, augment="train")`. Images are
already normalized, and images and labels are already on the device, so turn the prefetcher off (`--no-prefetcher`).

Needs `pip install ".[examples]"`.
"""

import argparse
from typing import Any

import timm
import timm.optim
import timm.scheduler
import torch
from timm import utils
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import wdsremux


def train_one_epoch(
    epoch: int, model: nn.Module, loader: Any, optimizer: Any, scheduler: Any, loss_fn: nn.Module
) -> utils.AverageMeter:
    losses = utils.AverageMeter()
    model.train()
    updates = epoch * len(loader)
    for step, (images, labels) in enumerate(loader, start=1):
        loss = loss_fn(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step_update(num_updates=updates + step)
        losses.update(float(loss.detach()), len(images))
    return losses


@torch.inference_mode()
def validate(model: nn.Module, loader: Any) -> utils.AverageMeter:
    top1 = utils.AverageMeter()
    model.eval()
    for images, labels in loader:
        top1.update(float(utils.accuracy(model(images), labels)[0]), len(images))
    return top1


def over_ranks(meter: utils.AverageMeter, args: argparse.Namespace) -> float:
    """Return the meter's mean over all ranks, weighted by their numbers of images, which may differ by one."""
    sums = torch.tensor([meter.sum, meter.count], dtype=torch.float64, device=args.device)
    if args.distributed:
        torch.distributed.all_reduce(sums)
    return float(sums[0] / sums[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a timm model on a converted set.")
    parser.add_argument("out", metavar="OUT", help="converted set with the splits train and test")
    parser.add_argument("--epochs", type=int, default=2, help="number of epochs to train (default: 2)")
    parser.add_argument("--batch-size", type=int, default=32, help="samples per batch, on each rank (default: 32)")
    parser.add_argument("--model", default="test_resnet", help="name of a timm model (default: test_resnet)")
    parser.add_argument("--device", default="cuda", help="device to train on (default: cuda)")
    args = parser.parse_args()

    device = utils.init_distributed_device(args)
    common: dict[str, Any] = {"batch_size": args.batch_size, "size": 96, "device": device}
    loader_train = wdsremux.DataLoader(args.out, split="train", **common)
    loader_eval = wdsremux.DataLoader(args.out, split="test", augment="eval", shuffle=False, **common)
    bare = timm.create_model(args.model, num_classes=loader_train.num_classes).to(device)
    cards = [device] if device.type == "cuda" else None
    model = DistributedDataParallel(bare, device_ids=cards) if args.distributed else bare
    optimizer = timm.optim.create_optimizer_v2(bare, opt="adamw", lr=2e-3, weight_decay=0.05)
    scheduler, num_epochs = timm.scheduler.create_scheduler_v2(
        optimizer, num_epochs=args.epochs, step_on_epochs=False, updates_per_epoch=len(loader_train)
    )
    for epoch in range(loader_train.epoch, num_epochs):  # 0, or the epoch of a state that the loader was given
        loader_train.sampler.set_epoch(epoch)
        losses = train_one_epoch(epoch, model, loader_train, optimizer, scheduler, nn.CrossEntropyLoss())
        if args.distributed:
            utils.distribute_bn(bare, args.world_size, reduce=True)
        top1 = validate(bare, loader_eval)
        mean, accuracy = over_ranks(losses, args), over_ranks(top1, args)
        if utils.is_primary(args):
            print(f"epoch {epoch + 1}: loss {mean:.4f}, test accuracy {accuracy / 100:.4f}", flush=True)
    if args.distributed:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
