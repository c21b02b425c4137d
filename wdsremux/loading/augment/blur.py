"""How much each picture is blurred: torchvision v2's GaussianBlur (within RandomApply).

Stream "augment.blur". Words 0: whether the image is blurred; 1: sigma.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wdsremux.loading.augment.streams import Range, Streams, spread


def draw(streams: Streams, probability: float, sigma: Range) -> NDArray[np.float32]:
    """[N]: sigma in px; 0: left sharp."""
    chance, width = streams.uniform("augment.blur", 2)
    return np.where(chance < probability, spread(width, sigma), 0).astype(np.float32)
