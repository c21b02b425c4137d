"""The small convolutional network that the training scripts use."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

WIDTHS = (3, 32, 64, 128, 256, 256)  #: channels after each halving; 0.98 M parameters with ten classes


def block(channels_in: int, channels_out: int) -> nn.Module:
    """Halve the width and height, and change the number of channels."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def network(classes: int) -> nn.Module:
    """Five blocks, a mean over all positions, and one linear layer: float [N, 3, H, W] -> float [N, classes]."""
    blocks = [block(channels_in, channels_out) for channels_in, channels_out in pairwise(WIDTHS)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], classes))
