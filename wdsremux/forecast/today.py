"""What training straight from the source gets on this machine: Pillow decodes, torchvision augments, on all cores."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torchvision.transforms import v2

from wdsremux import codec
from wdsremux.errors import ImageError
from wdsremux.forecast import interval
from wdsremux.forecast.findings import Today
from wdsremux.loading.output import IMAGENET_MEAN, IMAGENET_STD

_SLICES = 5  #: of the time of measuring: rates differ between them


def measure(images: Sequence[codec.Data], cores: int, seconds: float, size: int) -> Today | None:
    """Decode and augment some images again and again.

    Args:
        images: files, of which some may not be decodable.
        cores: threads that do so.
        seconds: for how long.
        size: pixels a side of what is trained on.

    Returns:
        None if no image can be decoded.
    """
    sound = [image for image in images if _decodes(image)]
    if not sound:
        return None
    work = _Work(sound, size)
    before, drawn = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)  # each thread stands for a process of its own
    try:
        rates = [work.rate(cores, seconds / _SLICES) for _ in range(_SLICES + 1)][1:]
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(drawn)  # the caller's own draws go on as if nothing had been
    return Today(interval.mean(rates), work.decode_s / max(work.decode_s + work.augment_s, 1e-9), cores)


def _decodes(image: codec.Data) -> bool:
    try:
        codec.decode_with_pillow(image)
    except ImageError:
        return False
    return True


class _Work:
    """Goes round and round the images."""

    def __init__(self, images: Sequence[codec.Data], size: int) -> None:
        self.decode_s = self.augment_s = 0.0
        self._images, self._next, self._lock = images, 0, threading.Lock()
        self._augment = v2.Compose(
            [
                v2.RandomResizedCrop(size, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def rate(self, threads: int, seconds: float) -> float:
        """Images a second of so many threads, for about so long; each ends with the image that it is at."""
        begun = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            done = list(pool.map(lambda _: self._run(begun + seconds), range(threads)))
        return sum(count / (end - begun) for count, end in done)

    def _run(self, until: float) -> tuple[int, float]:
        """How many images, and when the last one was done."""
        count, now = 0, 0.0
        while now < until:
            with self._lock:
                image, self._next = self._images[self._next], (self._next + 1) % len(self._images)
            begun = time.perf_counter()
            pixels = codec.decode_with_pillow(image)
            between = time.perf_counter()
            self._augment(pixels)
            now = time.perf_counter()
            with self._lock:
                self.decode_s += between - begun
                self.augment_s += now - between
            count += 1
        return count, now
