"""NVIDIA DALI, fed from our order with bytes and one packed array of parameters a batch.

On a CPU, with no more than crop and flip to do, DALI also normalises. Otherwise uint8 pixels come out of it, and torch
does the rest on them, the same as in the other backend.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdsremux.errors import BackendError
from wdsremux.loading.backends.base import GPU, Batch, Setup, repaired
from wdsremux.loading.backends.canary import Canary
from wdsremux.loading.backends.cpu_decoders import ThreadedTransforms
from wdsremux.loading.backends.dali_pipelines import VERSION, Graph, Lost, SharedPipeline, Ticket, shared
from wdsremux.loading.transforms import Transforms

_AHEAD = 2  #: batches in the pipeline at once


@dataclass(slots=True)
class _Pending:
    batch: Batch
    ticket: Ticket


class DaliBackend:
    """See `Backend`."""

    rows = True  #: DALI takes one array in a tenth of the time that it takes 256

    def __init__(self, setup: Setup) -> None:
        device = setup.destination.device
        self._setup = setup
        finishes = device.type == "cpu" and not setup.after_crop and setup.decode != GPU
        self._graph = Graph(
            size=setup.output.size,
            batch_size=setup.batch_size,
            num_threads=setup.num_threads,
            device=device.index or 0 if device.type == "cuda" else None,
            gpu_decodes=setup.decode == GPU,
            normalise=setup.output if finishes else None,
        )
        self._transforms = self._rest(device)
        self._canary: Canary | None = None
        if setup.decode == GPU:
            self._canary = Canary(f"DALI {VERSION}", setup.destination, skip=setup.skip)
        self._pipeline: SharedPipeline | None = shared(self._graph)
        self._in_use: torch.Tensor | None = None  #: memory of DALI's that torch's stream may still read

    def _rest(self, device: torch.device) -> Transforms | ThreadedTransforms | None:
        """What torch does to the pixels that come out of DALI; None where nothing is left to do."""
        if self._graph.normalise is not None:
            return None
        if device.type == "cpu":
            return ThreadedTransforms(self._setup.num_threads, self._setup.output, keep=2 * _AHEAD + 2)
        return Transforms(self._setup.output, device)

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
        """See `Backend.run`."""
        under_way: deque[_Pending] = deque()
        try:
            for batch in batches:
                under_way.append(self._begin(batch))
                if len(under_way) == _AHEAD:
                    yield self._end(under_way)
            while under_way:
                yield self._end(under_way)
        finally:
            self._drain(under_way)

    def close(self) -> None:
        """See `Backend.close`."""
        self._pipeline = self._in_use = None
        if self._canary is not None:
            self._canary.close()
        if isinstance(self._transforms, ThreadedTransforms):
            self._transforms.close()

    def _begin(self, batch: Batch) -> _Pending:
        if self._pipeline is None or self._pipeline.failed:
            self._pipeline = shared(self._graph)
        return _Pending(batch, self._pipeline.submit(batch.encoded.rows(), _parameters(batch)))

    def _end(self, under_way: deque[_Pending]) -> tuple[Batch, torch.Tensor]:
        while True:
            pipeline = self._pipeline
            if pipeline is None:
                raise BackendError("the dali backend was closed while it was decoding. Create a new loader")
            try:
                images = pipeline.result(under_way[0].ticket)
            except Lost as lost:
                self._again(under_way, lost)
                continue
            batch = under_way.popleft().batch
            return batch, self._tensor(images, batch)

    def _again(self, under_way: deque[_Pending], lost: Lost) -> None:
        """One undecodable image ends a whole pipeline: all that was in it goes into a new one, without that image.

        What another loader's image ended is only begun anew.
        """
        batches = [pending.batch for pending in under_way]
        ours = any(pending.ticket.culprit for pending in under_way)
        sound = [repaired(batch, self._setup.skip) for batch in batches] if ours else batches
        if ours and all(batch is None for batch in sound):
            raise BackendError(f"DALI failed: {lost}") from lost
        under_way.clear()
        under_way.extend(self._begin(new or old) for new, old in zip(sound, batches, strict=True))

    def _drain(self, under_way: deque[_Pending]) -> None:
        """Take what is still in the pipeline, so that it holds no memory for a batch that nobody waits for."""
        for pending in under_way:
            if self._pipeline is not None and pending.ticket.lost is None:
                try:
                    self._pipeline.result(pending.ticket)
                except Lost:
                    break

    def _tensor(self, images: Any, batch: Batch) -> torch.Tensor:
        tensor = torch.utils.dlpack.from_dlpack(images.as_tensor())[: len(batch.encoded)]
        if self._canary is not None:
            self._canary.look(batch, tensor)
        if self._transforms is None:
            output = self._setup.output
            laid_out = tensor.permute(0, 3, 1, 2) if output.channels_last else tensor
            return laid_out.to(output.dtype)  # DALI has no bfloat16
        self._in_use = tensor  # let go at the next batch: by then the feed has waited for this one
        return self._transforms(tensor, batch.parameters)


def _parameters(batch: Batch) -> NDArray[np.int32]:
    """int32 [N, 6]: x, y, width, height, flip, bytes."""
    return np.column_stack([batch.parameters.boxes, batch.parameters.flips, batch.encoded.sizes]).astype(np.int32)
